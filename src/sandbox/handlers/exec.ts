import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import type { Verdict } from "../../engine/verdict.js";
import type { Continue, Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import { AT_FDCWD, absolutePath, PATH_LIMIT, splitStrings } from "./paths.js";

const ARGV_LIMIT = 65_536;
const AT_EMPTY_PATH = 0x1000;
const ENAMETOOLONG = 36;

const launch: Verdict = { kind: "continue", because: "launch" };
/** The kernel reads the arguments again; until they are frozen (a later version) the call says that it is racy. */
const accepted: Continue = { kind: "continue", because: "accepted_race" };

interface ExecShape {
  readonly directory: number | undefined;
  readonly path: number;
  readonly argv: number;
  readonly flags: number | undefined;
}

function execHandler(mediator: Mediator, shape: ExecShape): Handler<EngineSandbox> {
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
      const directory = shape.directory === undefined ? AT_FDCWD : call.int(shape.directory);
      const flags = shape.flags === undefined ? 0 : call.int(shape.flags);
      const program =
        path.bytes.length === 0 && (flags & AT_EMPTY_PATH) !== 0
          ? mediator.tasks.link(call.tid, `fd/${directory}`)
          : absolutePath(mediator.tasks, call.tid, directory, path.bytes);
      if (typeof program === "number") return { kind: "errno", errno: program };
      return mediator.settleInKernel(
        call,
        sandbox,
        {
          category: "process",
          integrity: "racy",
          detail: {
            kind: "exec",
            program: Uint8Array.from(program ?? []),
            argv: splitStrings(argv.bytes),
            argvCut: argv.cut,
          },
        },
        accepted,
      );
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
