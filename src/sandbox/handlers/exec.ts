import { constants } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, refuse, type Verdict } from "../../engine/verdict.js";
import type { Mediator, Origin, Subject, WaitingCall } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import { byteString } from "../policy/byte-paths.js";
import { isBeneath } from "../policy/trees.js";
import { AT_FDCWD, ownPath, PATH_LIMIT, splitStrings } from "./paths.js";
import { argumentsOf, findProgram, type Link, type Program, type ProgramStart } from "./program.js";

const ARGV_LIMIT = 65_536;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const ENOENT = 2;
const EBADF = 9;
const ENAMETOOLONG = 36;
const SLASH = 0x2f;

const launch: Verdict = { kind: "continue", because: "launch" };
/** What the kernel makes of it is looked at before the new program's first instruction. */
const verified = { kind: "continue", because: "verified_after" } as const;
/** Where nothing can be looked at, by a policy that says so, the call says that it is racy. */
const accepted = { kind: "continue", because: "accepted_race" } as const;

interface ExecShape {
  readonly directory: number | undefined;
  readonly path: number;
  readonly argv: number;
  readonly flags: number | undefined;
}

/** Copies of what a call asks for. */
interface ExecRequest {
  readonly path: Uint8Array;
  readonly argv: readonly Uint8Array[];
  readonly argvCut: boolean;
  readonly directory: number;
  readonly flags: number;
}

/**
 * Decided on the program with links resolved, so that no spelling of a path slips past a rule, and on a copy
 * of the arguments; then run by the kernel, which cannot be done on behalf, under the eyes of the tracer.
 */
function execHandler(mediator: Mediator, shape: ExecShape): Handler<EngineSandbox> {
  const { tasks } = mediator;
  /** What was told once of a sandbox is not told again: a program could fill the log. */
  const reported = new WeakSet<EngineSandbox>();

  /** Decodes a call, or gives the errno that it ends with. */
  function decode(call: Call): ExecRequest | number {
    const path = call.memory(shape.path);
    const argv = call.memory(shape.argv);
    if (typeof path === "number") return path;
    if (typeof argv === "number") return argv;
    if (path.cut) return ENAMETOOLONG;
    const flags = shape.flags === undefined ? 0 : call.int(shape.flags);
    if (path.bytes.length === 0 && (flags & AT_EMPTY_PATH) === 0) return ENOENT;
    return {
      path: path.bytes,
      argv: splitStrings(argv.bytes),
      argvCut: argv.cut,
      directory: shape.directory === undefined ? AT_FDCWD : call.int(shape.directory),
      flags,
    };
  }

  /** Where the look-up begins, or a positive errno. */
  function startOf(origin: Origin, { path, directory, flags }: ExecRequest): ProgramStart | number {
    const { tid } = origin;
    const name = nameOf(path, directory);
    const own = path.length === 0 ? undefined : ownPath(path, origin.task.pid);
    if (path.length === 0 || own !== undefined) {
      const fd = tasks.hold(tid, own?.kind === "executable" ? "exe" : `fd/${own?.fd ?? directory}`);
      return fd < 0 ? EBADF : { directory: fd, path: new Uint8Array(0), lookup: 0, name };
    }
    const fd = tasks.directory(tid, directory);
    if (fd < 0) return -fd;
    return { directory: fd, path, lookup: (flags & AT_SYMLINK_NOFOLLOW) === 0 ? 0 : constants.O_NOFOLLOW, name };
  }

  function run(origin: Origin, request: ExecRequest, program: Program, waiting: WaitingCall): void {
    const { sandbox, tid, task } = origin;
    const { pin } = program.interpreters.at(-1) ?? program.file;
    const all = argumentsOf(program, request.argv);
    const launched = {
      tid,
      tgid: task.pid,
      device: pin.device,
      inode: pin.inode,
      // The end of the last one is where it was cut, and not the program's.
      argv: request.argvCut ? all.subarray(0, -1) : all,
      argvCut: request.argvCut,
    };
    mediator.tracer.watch(launched, {
      armed() {
        if (!waiting.isWaiting()) return false;
        waiting.answer(verified);
        return true;
      },
      ended(end) {
        program.release();
        if (end === "killed" && !reported.has(sandbox)) {
          reported.add(sandbox);
          mediator.report(sandbox, "an execve started something else than what was judged, and was killed");
        }
        // In every other case it was answered, or nobody waits.
        waiting.answer(refuse);
      },
    });
  }

  return {
    shapes: [
      { kind: "string", arg: shape.path, limit: PATH_LIMIT },
      { kind: "strings", arg: shape.argv, limit: ARGV_LIMIT },
    ],
    handle(call: Call, sandbox: EngineSandbox): Verdict {
      // A started process's first execve is its launch: the client asked for it by name.
      if (sandbox.launching.delete(call.tid)) return launch;
      const { keeper } = sandbox;
      if (keeper === undefined) return refuse;
      const request = decode(call);
      if (typeof request === "number") return { kind: "errno", errno: request };
      const origin = mediator.originOf(call, sandbox);
      const start = startOf(origin, request);
      if (typeof start === "number") return { kind: "errno", errno: start };

      let program: Program | undefined;
      const waiting = mediator.defer(call, () => program?.release());
      const cwd = () => (waiting.isWaiting() ? tasks.directory(origin.tid, AT_FDCWD) : -ENOENT);
      findProgram(keeper, start, cwd, (found) => {
        if (!found.ok) {
          waiting.answer({ kind: "errno", errno: found.errno });
          return;
        }
        const judged = found.value;
        if (!waiting.isWaiting()) {
          judged.release();
          return;
        }
        program = judged;
        mediator.settle(origin, subjectOf(sandbox, request, judged), waiting, {
          allow() {
            if (sandbox.policy.verifyExec) run(origin, request, judged, waiting);
            else {
              judged.release();
              waiting.answer(accepted);
            }
          },
          refuse(errno) {
            judged.release();
            waiting.answer({ kind: "errno", errno });
          },
        });
      });
      return deferred;
    },
  };
}

/** By which a script's interpreter opens it: execve(2), of `execveat` and `fexecve` too. */
function nameOf(path: Uint8Array, directory: number): Uint8Array {
  if (directory === AT_FDCWD || path[0] === SLASH) return path;
  return Buffer.concat([Buffer.from(`/dev/fd/${directory}${path.length === 0 ? "" : "/"}`), path]);
}

function subjectOf({ policy }: EngineSandbox, { argv, argvCut }: ExecRequest, program: Program): Subject {
  const { file, interpreters } = program;
  const scripts = [file, ...interpreters].slice(0, -1);
  const holds = policy.verifyExec && scripts.every((script) => isSteady(script, policy.exchangeableTrees));
  return {
    category: "process",
    integrity: holds ? "frozen" : "racy",
    detail: {
      kind: "exec",
      program: file.pin.path,
      interpreters: interpreters.map(({ pin }) => pin.path),
      argv,
      argvCut,
    },
  };
}

/**
 * Whether a script's name will lead its interpreter to the file that was judged: no link that the sandbox could
 * turn is in it. A file in a tree that the sandbox may write is as good as any other that it puts there.
 */
function isSteady({ name, pin }: Link, exchangeable: readonly string[]): boolean {
  const [asked, path] = [byteString(name), byteString(pin.path)];
  return asked === path || path === `/usr${asked}` || isBeneath(pin.path, exchangeable);
}

/** `execve`: decided on its program and arguments, then run by the kernel. */
export function execveHandler(mediator: Mediator): Handler<EngineSandbox> {
  return execHandler(mediator, { directory: undefined, path: 0, argv: 1, flags: undefined });
}

/** `execveat`, `fexecve` included: an empty path names the descriptor's file. */
export function execveatHandler(mediator: Mediator): Handler<EngineSandbox> {
  return execHandler(mediator, { directory: 0, path: 1, argv: 2, flags: 4 });
}
