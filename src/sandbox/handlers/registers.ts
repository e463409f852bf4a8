import type { Handler } from "../../engine/loop.js";
import type { Verdict } from "../../engine/verdict.js";
import type { Continue, Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { CallCategory } from "../model.js";

const registersOnly: Continue = { kind: "continue", because: "registers_only" };

/** A call that is known by its registers alone: nothing that it is judged on can change. */
export function registersHandler(mediator: Mediator, category: CallCategory): Handler<EngineSandbox> {
  const subject = { category, integrity: "registers", detail: { kind: "raw" } } as const;
  return {
    shapes: [],
    handle: (call, sandbox): Verdict => mediator.settleInKernel(call, sandbox, subject, registersOnly),
  };
}

/**
 * A call that a checkpointable sandbox's filter leaves to the engine, because a restore must be able to
 * inject it. The program itself is refused, as it would be by the filter.
 */
export function injectableHandler(nr: number): Handler<EngineSandbox> {
  return {
    shapes: [],
    handle(_call, sandbox): Verdict {
      return { kind: "errno", errno: sandbox.policy.injectable.get(nr) ?? 1 };
    },
  };
}
