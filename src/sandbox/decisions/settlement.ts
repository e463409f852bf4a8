/** What verdicts and fallbacks do to a call: pure. */

import type { Fallback, HeldCall, Settlement } from "../model.js";
import type { Problem, Remember, Verdict } from "./decider.js";
import { sameCallKey } from "./same-call.js";

const EPERM = 1;
const SIGKILL = 9;
const maxErrno = 4095;
const maxSignal = 64;

export const refusal: Settlement = { kind: "deny", errno: EPERM };

export function settlementOf(fallback: Fallback): Settlement {
  switch (fallback.kind) {
    case "deny":
      return { kind: "deny", errno: fallback.errno || EPERM };
    case "kill":
      return { kind: "kill", scope: fallback.scope, signal: fallback.signal || SIGKILL };
    case "static_policy":
      return { kind: "static" };
  }
}

/** What a verdict does to its call. With a problem, the call is refused, or killed where the verdict says so. */
export function judge(
  verdict: Verdict,
  mayAllow: boolean,
): { readonly settlement: Settlement; readonly problem?: Problem } {
  const { action, narrows } = verdict;
  const unable = narrows ? notImplemented("narrow") : undefined;
  switch (action.kind) {
    case "allow":
      if (unable !== undefined) return { settlement: refusal, problem: unable };
      if (mayAllow) return { settlement: { kind: "allow" } };
      return {
        settlement: refusal,
        problem: problem(
          "permission_denied",
          "CEILING_EXCEEDED",
          "this decider may only refuse",
          { right: "allow" },
          "allow",
        ),
      };
    case "deny": {
      const isErrno = Number.isInteger(action.errno) && action.errno >= 0 && action.errno <= maxErrno;
      if (isErrno) return withProblem({ kind: "deny", errno: action.errno || EPERM }, unable);
      const message = `error_number must be 1 to ${maxErrno}; the call got EPERM`;
      return withProblem(refusal, problem("invalid_argument", "INVALID_FIELD", message, {}, "deny.error_number"));
    }
    case "kill": {
      const { scope, signal } = action;
      const isSignal = Number.isInteger(signal) && signal >= 0 && signal <= maxSignal;
      if (isSignal) return withProblem({ kind: "kill", scope, signal: signal || SIGKILL }, unable);
      const message = `signal must be 1 to ${maxSignal}; the signal was SIGKILL`;
      return withProblem(
        { kind: "kill", scope, signal: SIGKILL },
        problem("invalid_argument", "INVALID_FIELD", message, {}, "kill.signal"),
      );
    }
    case "unsupported":
      return { settlement: refusal, problem: notImplemented(action.field) };
    case "unknown": {
      const message = "the verdict has no action that this server knows; the call got EPERM";
      return { settlement: refusal, problem: problem("invalid_argument", "INVALID_FIELD", message, {}, "action") };
    }
    case "abstain":
      throw new Error("an abstention settles nothing");
  }
}

function withProblem(
  settlement: Settlement,
  found: Problem | undefined,
): { settlement: Settlement; problem?: Problem } {
  return found === undefined ? { settlement } : { settlement, problem: found };
}

export function cannotRemember(wish: Remember, call: HeldCall, settlement: Settlement): Problem | undefined {
  if (wish.kind === "invalid") return wish.problem;
  if (wish.scope === "process" || wish.scope === "process_tree")
    return notImplemented("remember.scope", { scope: wish.scope });
  if (wish.scope === "executable" && call.task.executable.length === 0) {
    return problem(
      "failed_precondition",
      "CEILING_EXCEEDED",
      "the executable that makes the call is not known, so that it cannot be recognized again",
      { scope: wish.scope },
      "remember.scope",
    );
  }
  if (settlement.kind === "allow" && call.integrity === "racy") {
    return problem(
      "failed_precondition",
      "CEILING_EXCEEDED",
      "the program can change this call's arguments after the verdict, so it cannot be remembered as allowed; it was allowed once",
      { integrity: "RACY" },
      "remember",
    );
  }
  if (wish.match === "same_call" && sameCallKey(call) === undefined) {
    return problem(
      "failed_precondition",
      "CEILING_EXCEEDED",
      "the call's arguments are not known in full, so that no other is known to be the same",
      { argv: "cut" },
      "remember.same_call",
    );
  }
  return undefined;
}

export function problem(
  code: Problem["code"],
  reason: Problem["reason"],
  message: string,
  metadata: Readonly<Record<string, string>>,
  field?: string,
): Problem {
  return { code, reason, message, metadata, field };
}

function notImplemented(field: string, metadata: Readonly<Record<string, string>> = {}): Problem {
  return problem("unimplemented", "NOT_IMPLEMENTED", `${field} is not implemented in this version`, metadata, field);
}
