import type { Grant, HeldCall } from "../model.js";
import { compileMatch } from "../policy/match.js";
import { sameCallKey } from "./same-call.js";

/** What a grant looks at. `task` is only read when the grant holds for one executable, or its match names some. */
export type GrantableCall = Pick<HeldCall, "syscall" | "category" | "detail" | "task" | "args" | "integrity">;

/** Whether a call is one that the grant settles. Compiled once, used for every call. */
export function compileGrant({ match, executable, settlement }: Grant): (call: GrantableCall) => boolean {
  const matches = "sameCall" in match ? sameAs(match.sameCall) : compileMatch(match, settlement.kind === "allow");
  if (executable === undefined) return matches;
  return (call) => matches(call) && Buffer.compare(executable, call.task.executable) === 0;
}

function sameAs(origin: HeldCall): (call: GrantableCall) => boolean {
  const key = sameCallKey(origin);
  return (call) => key !== undefined && sameCallKey(call) === key;
}
