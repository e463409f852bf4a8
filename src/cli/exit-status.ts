import { EndCause, type ExitStatus } from "../gen/sandgate/v1/process_pb.js";
import { EXIT_OWN_FAILURE, EXIT_TIMEOUT } from "./failure.js";
import { signalName } from "./signals.js";

/** The exit status that a shell shows for a program that ended so. */
export function shellStatus(exit: ExitStatus): number {
  if (exit.cause === EndCause.LIMIT) return EXIT_TIMEOUT;
  switch (exit.result.case) {
    case "code":
      return exit.result.value;
    case "signal":
      return 128 + exit.result.value;
    case "notStarted":
    case undefined:
      return EXIT_OWN_FAILURE;
  }
}

/** `exit code 3`, `SIGKILL, by a verdict`. */
export function describeExit(exit: ExitStatus): string {
  return [describeResult(exit), CAUSES.get(exit.cause) ?? ""].filter((part) => part !== "").join(", ");
}

const CAUSES: ReadonlyMap<EndCause, string> = new Map([
  [EndCause.CLIENT, "ended by a client"],
  [EndCause.VERDICT, "killed by a verdict"],
  [EndCause.LIMIT, "ended by a limit"],
  [EndCause.SERVICE, "ended by the service"],
]);

function describeResult({ result }: ExitStatus): string {
  switch (result.case) {
    case "code":
      return `exit code ${result.value}`;
    case "signal":
      return signalName(result.value);
    case "notStarted":
      return `never ran: ${result.value.message}`;
    case undefined:
      return "ended";
  }
}
