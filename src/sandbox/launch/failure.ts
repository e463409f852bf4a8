import { SandboxError } from "../../base/errors.js";
import type { Stage } from "../../native/abi.js";
import { errnoName } from "../../native/library.js";

interface Help {
  readonly syscall: string;
  readonly field: string;
  readonly remedy: string;
}

/** What each stage calls, what it is about, and what usually helps. */
const STAGE_HELP: Readonly<Partial<Record<Stage, Help>>> = {
  clone: { syscall: "clone", field: "", remedy: "the host's process limit may be reached" },
  session: { syscall: "setsid", field: "", remedy: "" },
  terminal: { syscall: "ioctl TIOCSCTTY", field: "process.terminal", remedy: "" },
  namespaces: {
    syscall: "unshare",
    field: "",
    remedy: "this host forbids the namespaces that the spec needs: see `sandgate check`",
  },
  ids: { syscall: "setresuid", field: "", remedy: "" },
  cwd: {
    syscall: "chdir",
    field: "process.cwd",
    remedy: "name a directory that exists and that the service's user may enter",
  },
  program: {
    syscall: "faccessat",
    field: "process.argv[0]",
    remedy: "give the program's path, or set PATH in process.env",
  },
  rlimits: {
    syscall: "setrlimit",
    field: "spec.limits",
    remedy: "the host's hard limit is lower than the one asked for",
  },
  capabilities: { syscall: "capset", field: "", remedy: "" },
  no_new_privs: { syscall: "prctl PR_SET_NO_NEW_PRIVS", field: "", remedy: "" },
  landlock_outer: { syscall: "landlock_add_rule", field: "spec.filesystem", remedy: "name paths that exist" },
  keeper: { syscall: "clone", field: "", remedy: "" },
  landlock_inner: { syscall: "landlock_restrict_self", field: "spec.filesystem", remedy: "name paths that exist" },
  filter: {
    syscall: "seccomp",
    field: "",
    remedy: "the service itself may run under a filter that forbids another one",
  },
  exec: {
    syscall: "execve",
    field: "process.argv[0]",
    remedy: "grant the program's tree in spec.filesystem.readable, and check its mode and its interpreter",
  },
};

/** Failures of what is denied: the kernel's own calls in this stage give none of these. */
const DENIED_HELP: Readonly<Record<string, string>> = {
  EMLINK:
    "it is denied, and has links outside of what is denied, by which it could be reached; remove them, or deny them too",
  ESTALE: "it was replaced while the sandbox was started; try again",
  E2BIG: "the denied trees have too many entries to look through for links elsewhere; deny less",
};

/** Steps of the stage `mounts`, as the warden's child names them, and where they come from. */
const MOUNT_FIELDS: Readonly<Record<string, string>> = {
  root: "spec.filesystem.root",
  bind: "spec.filesystem.mappings",
  tmpfs: "spec.filesystem.private_tmp",
  proc: "spec.filesystem",
  writable: "spec.filesystem.writable",
  hide: "spec.filesystem.denied",
};

/** What usually helps there, by errno; else that a path is missing. */
const MOUNT_REMEDIES: Readonly<Record<string, string>> = {
  "proc EPERM":
    "this host's /proc is covered in part, as in a container, and then only root may mount another: run the service as root, or lift that",
  "hide ESTALE": "it was replaced while the sandbox was started; try again",
  "bind ESTALE": "it was replaced while the sandbox was started; try again",
  "root EINVAL":
    "the host's own root, its initial RAM file system, cannot be exchanged; start the service in another root",
  "root ENOTDIR": "name a directory",
  "bind ENOTDIR": "show a directory over a directory, a file over a file",
};

/** The refusal for a launch that failed at a stage; names stage, system call, errno and argument. */
export function launchFailure(stage: Stage, errno: number, subject: string): SandboxError {
  const deniedRemedy = stage === "landlock_outer" ? DENIED_HELP[errnoName(errno)] : undefined;
  if (deniedRemedy !== undefined) {
    const help = { syscall: "looking through", field: "spec.filesystem.denied", remedy: deniedRemedy };
    return stageFailure(stage, help, errno, subject);
  }
  if (stage !== "mounts") return stageFailure(stage, STAGE_HELP[stage], errno, subject);
  const [step = "", path = ""] = subject.split(/ (.*)/s);
  const remedy = MOUNT_REMEDIES[`${step} ${errnoName(errno)}`] ?? "name paths that exist";
  const field = MOUNT_FIELDS[step] ?? "spec.filesystem";
  return stageFailure(stage, { syscall: `mount (${step})`, field, remedy }, errno, path);
}

function stageFailure(stage: Stage, help: Help | undefined, errno: number, argument: string): SandboxError {
  const code = errnoName(errno);
  const syscall = help?.syscall ?? "";
  const isProgram = stage === "program" || stage === "exec";
  const about = argument === "" ? "" : ` ${argument}`;
  const remedy = help?.remedy ?? "";
  return new SandboxError(
    "failed_precondition",
    `the program was not started: ${syscall === "" ? stage : syscall}${about} failed with ${code} at stage ${stage}${remedy === "" ? "" : ` (${remedy})`}`,
    {
      reason: isProgram ? "EXEC_FAILED" : "LAUNCH_FAILED",
      ...(help !== undefined && help.field !== "" ? { field: help.field } : {}),
      metadata: { stage, syscall, errno: code, argument, remedy },
    },
  );
}
