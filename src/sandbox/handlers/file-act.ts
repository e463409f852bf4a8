import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, refuse, type Verdict } from "../../engine/verdict.js";
import type { ArgumentShape } from "../../native/exchange.js";
import type { Tasks } from "../../native/task.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { FileAct } from "../warden/keeper.js";
import { AT_FDCWD, mayBeOwn, ownPath, PATH_LIMIT } from "./paths.js";

const ENOENT = 2;
const EBADF = 9;
const ENAMETOOLONG = 36;
const AT_EMPTY_PATH = 0x1000;

/** What of a call is told to the keeper beside the file. Positive numbers are errnos. */
export type ActDetails = Omit<FileAct, "path" | "opened"> & {
  /** Descriptors that the act needs besides, in the caller. */
  readonly others?: readonly number[];
};

/** Where a call names its file. */
export interface FileShape {
  /** Argument with the directory's descriptor; undefined: relative paths start at the current directory. */
  readonly directory?: number;
  /** Argument with the path; undefined: `directory` is the file itself, opened. */
  readonly path?: number;
  /** AT_* flags; a call without them follows links. */
  flags?(call: Call): number;
  /** A path that is NULL stands for the descriptor, as in futimens(3). */
  readonly nullIsDescriptor?: boolean;
  /** What else is copied. */
  readonly shapes?: readonly ArgumentShape[];
  details(call: Call): ActDetails | number;
}

/**
 * A call on a file that Landlock does not judge: decided and carried out by the keeper, on the inode that the copied
 * path or the caller's descriptor led to, where the program's own grants cover it.
 */
export function fileActHandler(mediator: Mediator, shape: FileShape): Handler<EngineSandbox> {
  const { tasks } = mediator;

  return {
    shapes: [
      ...(shape.path === undefined ? [] : [{ kind: "string", arg: shape.path, limit: PATH_LIMIT } as const]),
      ...(shape.shapes ?? []),
    ],
    handle(call, sandbox) {
      const { keeper } = sandbox;
      if (keeper === undefined) return refuse;
      const details = shape.details(call);
      if (typeof details === "number") return { kind: "errno", errno: details };
      const file = findFile(call, shape, tasks);
      if (typeof file === "number") return { kind: "errno", errno: file };
      const { others = [], ...act } = details;
      const fds = [file.fd];
      for (const other of others) {
        const taken = takeDescriptor(tasks, call.tid, other);
        if (taken < 0) {
          for (const fd of fds) tasks.close(fd);
          return errnoOf(taken);
        }
        fds.push(taken);
      }
      const waiting = mediator.defer(call);
      // The caller was named by thread id: what was taken is its own only if it still waits (pid reuse).
      if (!waiting.isWaiting()) {
        for (const fd of fds) tasks.close(fd);
        return deferred;
      }
      keeper.act({ ...act, ...file.of }, fds, (result) => {
        if (!result.ok) waiting.answer({ kind: "errno", errno: result.errno });
        else if (result.value.kind === "value") waiting.answer(result.value);
        else {
          tasks.close(result.value.fd); // none of these acts opens anything
          waiting.answer(refuse);
        }
      });
      return deferred;
    },
  };
}

interface Found {
  readonly fd: number;
  readonly of: Pick<FileAct, "path" | "opened">;
}

/** The directory and the path in it, or the file's own descriptor; an errno when there is none. */
function findFile(call: Call, shape: FileShape, tasks: Tasks): Found | number {
  const directory = shape.directory === undefined ? AT_FDCWD : call.int(shape.directory);
  const descriptor = (fd: number, opened: boolean): Found | number => {
    const taken = fd === AT_FDCWD ? tasks.directory(call.tid, fd) : takeDescriptor(tasks, call.tid, fd);
    return taken < 0 ? (taken === -EBADF ? EBADF : -taken) : { fd: taken, of: { opened } };
  };
  if (shape.path === undefined) return descriptor(directory, true);
  if (shape.nullIsDescriptor === true && call.word(shape.path) === 0n) return descriptor(directory, true);
  const path = call.memory(shape.path);
  if (typeof path === "number") return path;
  if (path.cut) return ENAMETOOLONG;
  if (path.bytes.length === 0)
    return ((shape.flags?.(call) ?? 0) & AT_EMPTY_PATH) === 0 ? ENOENT : descriptor(directory, false);
  const own = mayBeOwn(path.bytes) ? ownPath(path.bytes, tasks.read(call.tid)?.tgid ?? 0) : undefined;
  // The keeper's own `self` is somebody else.
  if (own !== undefined) return own.kind === "descriptor" ? descriptor(own.fd, false) : refuse.errno;
  const opened = tasks.directory(call.tid, directory);
  return opened < 0 ? -opened : { fd: opened, of: { path: path.bytes } };
}

/** A duplicate of a descriptor of the caller, or a negative errno. */
function takeDescriptor(tasks: Tasks, tid: number, fd: number): number {
  const pidfd = tasks.open(tid, tid);
  if (pidfd < 0) return pidfd;
  const taken = tasks.takeFd(pidfd, fd);
  tasks.close(pidfd);
  return taken;
}

function errnoOf(negative: number): Verdict {
  return { kind: "errno", errno: -negative };
}
