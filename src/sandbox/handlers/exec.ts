import { constants } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, refuse, type Verdict } from "../../engine/verdict.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { CallDetail } from "../model.js";
import type { Pin } from "../warden/keeper.js";
import { AT_FDCWD, ownPath, PATH_LIMIT, splitStrings } from "./paths.js";

const ARGV_LIMIT = 65_536;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const ENOENT = 2;
const EBADF = 9;
const ENAMETOOLONG = 36;

const launch: Verdict = { kind: "continue", because: "launch" };
/** The kernel reads the arguments again; until they are frozen (a later version) the call says that it is racy. */
const accepted = { kind: "continue", because: "accepted_race" } as const;

interface ExecShape {
  readonly directory: number | undefined;
  readonly path: number;
  readonly argv: number;
  readonly flags: number | undefined;
}

/**
 * Decided on the program with links resolved, so that no spelling of a path slips past a rule, and on a
 * copy of the arguments; then run by the kernel, which cannot be done on behalf.
 */
function execHandler(mediator: Mediator, shape: ExecShape): Handler<EngineSandbox> {
  const { tasks } = mediator;

  return {
    shapes: [
      { kind: "string", arg: shape.path, limit: PATH_LIMIT },
      { kind: "strings", arg: shape.argv, limit: ARGV_LIMIT },
    ],
    handle(call: Call, sandbox: EngineSandbox): Verdict {
      // A started process's first execve is its launch: the client asked for it by name.
      if (sandbox.launching.delete(call.tid)) return launch;
      const path = call.memory(shape.path);
      const argv = call.memory(shape.argv);
      if (typeof path === "number") return { kind: "errno", errno: path };
      if (typeof argv === "number") return { kind: "errno", errno: argv };
      if (path.cut) return { kind: "errno", errno: ENAMETOOLONG };
      const { keeper } = sandbox;
      if (keeper === undefined) return refuse;
      const directoryFd = shape.directory === undefined ? AT_FDCWD : call.int(shape.directory);
      const flags = shape.flags === undefined ? 0 : call.int(shape.flags);
      const subjectOf = (program: Uint8Array) => {
        const detail: CallDetail = {
          kind: "exec",
          program: Uint8Array.from(program),
          argv: splitStrings(argv.bytes),
          argvCut: argv.cut,
        };
        return { category: "process", integrity: "racy", detail } as const;
      };

      const own = path.bytes.length === 0 ? undefined : ownPath(path.bytes, tasks.read(call.tid)?.tgid ?? 0);
      if (path.bytes.length === 0 || own !== undefined) {
        if (path.bytes.length === 0 && (flags & AT_EMPTY_PATH) === 0) return { kind: "errno", errno: ENOENT };
        const link = own?.kind === "executable" ? "exe" : `fd/${own?.fd ?? directoryFd}`;
        const program = tasks.link(call.tid, link);
        if (program === undefined) return { kind: "errno", errno: EBADF };
        return mediator.settleInKernel(call, sandbox, subjectOf(program), accepted);
      }

      const directory = tasks.directory(call.tid, directoryFd);
      if (directory < 0) return { kind: "errno", errno: -directory };
      const origin = mediator.originOf(call, sandbox);
      const waiting = mediator.defer(call);
      const lookup = (flags & AT_SYMLINK_NOFOLLOW) === 0 ? 0 : constants.O_NOFOLLOW;
      keeper.resolve(directory, path.bytes, lookup, (resolved) => {
        if (!resolved.ok) {
          waiting.answer({ kind: "errno", errno: resolved.errno });
          return;
        }
        const pin: Pin = resolved.value;
        keeper.release(pin);
        mediator.settle(origin, subjectOf(pin.path), waiting, {
          allow: () => waiting.answer(accepted),
          refuse: (errno) => waiting.answer({ kind: "errno", errno }),
        });
      });
      return deferred;
    },
  };
}

/** `execve`: decided on its program and arguments, then run by the kernel. */
export function execveHandler(mediator: Mediator): Handler<EngineSandbox> {
  return execHandler(mediator, { directory: undefined, path: 0, argv: 1, flags: undefined });
}

/** `execveat`, `fexecve` included: an empty path names the descriptor's file. */
export function execveatHandler(mediator: Mediator): Handler<EngineSandbox> {
  return execHandler(mediator, { directory: 0, path: 1, argv: 2, flags: 4 });
}
