import { SandboxError } from "../base/errors.js";
import { RemoteError } from "../client/client.js";
import { FailedCall } from "./connection.js";
import { EXIT_OWN_FAILURE, type Explanation, explainRefusal } from "./failure.js";

/** Whatever an action failed with, as one line and an exit status. A bug keeps its stack: that line is for us. */
export function explainError(error: unknown): Explanation {
  if (error instanceof FailedCall && error.cause instanceof RemoteError)
    return explainRefusal(error.cause, error.address);
  if (error instanceof RemoteError) return explainRefusal(error, "the service");
  if (error instanceof SandboxError) {
    const { message, reason, field, metadata } = error;
    const code = error.code.toUpperCase();
    return explainRefusal(
      { code, message, reason: reason === "UNSPECIFIED" ? "" : reason, field: field ?? "", metadata },
      "",
    );
  }
  if (error instanceof Error && "syscall" in error) return { line: error.message, exitStatus: EXIT_OWN_FAILURE };
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { line: `internal error: ${text}`, exitStatus: EXIT_OWN_FAILURE };
}
