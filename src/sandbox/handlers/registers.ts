import type { Handler } from "../../engine/loop.js";
import type { Verdict } from "../../engine/verdict.js";
import type { Continue, Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { CallCategory } from "../model.js";

const registersOnly: Continue = { kind: "continue", because: "registers_only" };

/**
 * A call that is known by its registers alone: nothing that it is judged on can change.
 *
 * A checkpointable sandbox's filter leaves some calls to the engine only because a restore must be able to
 * inject them: the program itself is refused, as it would be by the filter.
 */
export function registersHandler(mediator: Mediator, category: CallCategory): Handler<EngineSandbox> {
  const subject = { category, integrity: "registers", detail: { kind: "raw" } } as const;
  return {
    shapes: [],
    handle(call, sandbox): Verdict {
      const injectable = sandbox.policy.injectable.get(call.nr);
      if (injectable !== undefined) return { kind: "errno", errno: injectable };
      return mediator.settleInKernel(call, sandbox, subject, registersOnly);
    },
  };
}
