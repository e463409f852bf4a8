import { constants } from "node:os";

/** Exit statuses of the command itself, as env(1) and timeout(1) have them. */
export const EXIT_TIMEOUT = 124;
export const EXIT_OWN_FAILURE = 125;
export const EXIT_NOT_EXECUTABLE = 126;
export const EXIT_NOT_FOUND = 127;

/** The command line or a file it names is wrong; the message says what to write instead. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A failure that was already explained to the person; only the exit status is left. */
export class Exit extends Error {
  override readonly name = "Exit";
  readonly status: number;

  constructor(status: number) {
    super(`exit ${status}`);
    this.status = status;
  }
}

/** What the service said of a refused call, with its details unpacked. */
export interface Refusal {
  /** Name of the gRPC status, such as `FAILED_PRECONDITION`. */
  readonly code: string;
  readonly message: string;
  /** An ErrorReason without its prefix, or empty. */
  readonly reason: string;
  /** The request field at fault, or empty. */
  readonly field: string;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface Explanation {
  /** One line, without a prefix. */
  readonly line: string;
  readonly exitStatus: number;
}

/** One line with what failed and what to do about it, and the exit status that a shell user expects. */
export function explainRefusal(refusal: Refusal, address: string): Explanation {
  const exitStatus = statusFor(refusal);
  if (refusal.code === "UNAVAILABLE" && refusal.reason === "") {
    const cause = /Last error: (?:Error: )?(.*?)\.? Resolution note/s.exec(refusal.message)?.[1] ?? refusal.message;
    const remedy = 'start "sandgate serve", or name another with --address or SANDGATE_ADDRESS';
    return { line: `nothing answers at ${address}: ${oneLine(cause)}; ${remedy}`, exitStatus };
  }
  const theirs = refusal.metadata.remedy ?? "";
  const ours = remedyFor(refusal);
  const remedy = ours === "" ? theirs : ours;
  // The service speaks of request fields; here the remedy is in terms of options.
  const message = oneLine(theirs === "" ? refusal.message : refusal.message.replace(` (${theirs})`, ""));
  return { line: `${message}${launchFacts(refusal)}${remedy === "" ? "" : `; ${remedy}`}`, exitStatus };
}

function launchFacts({ message, metadata }: Refusal): string {
  const facts: string[] = [];
  const stage = metadata.stage ?? "";
  const syscall = metadata.syscall ?? "";
  const errno = errnoName(metadata);
  if (stage !== "" && !mentions(message, stage)) facts.push(`stage ${stage}`);
  if (syscall !== "" && !mentions(message, syscall)) facts.push(syscall);
  if (errno !== "" && !mentions(message, errno)) facts.push(errno);
  return facts.length === 0 ? "" : ` (${facts.join(", ")})`;
}

function remedyFor({ reason, field, metadata }: Refusal): string {
  const stage = metadata.stage ?? "";
  const errno = errnoName(metadata);
  const argument = metadata.argument ?? metadata.path ?? "";
  if (reason === "EXEC_FAILED" || (reason === "LAUNCH_FAILED" && (stage === "exec" || stage === "program"))) {
    switch (errno) {
      case "ENOENT":
        return argument.includes("/")
          ? "check the path; if the file is there, its interpreter or loader is missing or not readable: add --read DIR"
          : "no directory of the sandbox's PATH has it: give its full path, or set --env PATH=…";
      case "EACCES":
        return `make it executable, or let the sandbox read it with --read ${directoryOf(argument)}`;
      case "ENOEXEC":
        return "it is neither a binary for this machine nor a script with a #! line";
      default:
        return "";
    }
  }
  if (reason === "LAUNCH_FAILED" && stage === "cwd") {
    return errno === "EACCES"
      ? `let the sandbox enter it with --read ${argument === "" ? "DIR" : argument}`
      : "choose another with --cwd DIR";
  }
  if (reason === "PROTECTION_UNAVAILABLE" && !field.startsWith("spec.filesystem.denied")) {
    const protection = metadata.protection ?? "NAME";
    return `see what this host has with "sandgate check", or accept it with --allow-degraded ${protection}`;
  }
  if (reason === "SANDBOX_NOT_FOUND") return 'see which there are with "sandgate ps"';
  if (reason === "LAUNCH_FAILED" && (stage.startsWith("landlock") || stage === "mounts") && errno === "ENOENT") {
    return "--read and --write need paths that exist";
  }
  return "";
}

function statusFor({ reason, metadata }: Refusal): number {
  const stage = metadata.stage ?? "";
  if (reason !== "EXEC_FAILED" && stage !== "exec" && stage !== "program") return EXIT_OWN_FAILURE;
  return errnoName(metadata) === "ENOENT" ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

function errnoName(metadata: Readonly<Record<string, string>>): string {
  const errno = metadata.errno ?? "";
  if (!/^\d+$/.test(errno)) return errno;
  const entry = Object.entries(constants.errno).find(([, number]) => number === Number(errno));
  return metadata.errno_name ?? entry?.[0] ?? `errno ${errno}`;
}

function directoryOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash > 0 ? path.slice(0, slash) : "DIR";
}

function mentions(message: string, word: string): boolean {
  return message
    .toLowerCase()
    .split(/[^a-z0-9_]+/)
    .includes(word.toLowerCase());
}

function oneLine(message: string): string {
  return message.replaceAll(/\s*[\r\n]+\s*/g, "; ").trim();
}
