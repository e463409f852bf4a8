import { readFileSync } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Deferred, Handler } from "../../engine/loop.js";
import { deferred, refuse, type Verdict } from "../../engine/verdict.js";
import type { Allowance, Mediator, Origin } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { FileOperation } from "../model.js";
import { isBeneath } from "../policy/trees.js";
import type { Pin } from "../warden/keeper.js";
import { AT_FDCWD, asCaller, ownPath, PATH_LIMIT } from "./paths.js";

// open(2), asm-generic values, which x86_64 and (but for O_DIRECTORY and O_NOFOLLOW, unused here) aarch64 share.
const O_ACCMODE = 0o3;
const O_WRONLY = 0o1;
const O_CREAT = 0o100;
const O_NOCTTY = 0o400;
const O_TRUNC = 0o1000;
const O_CLOEXEC = 0o2000000;
const O_TMPFILE_BIT = 0o20000000;

const ENOENT = 2;
const EACCES = 13;
const ENAMETOOLONG = 36;

interface OpenShape {
  readonly directory: number | undefined;
  readonly path: number;
  readonly mode: number;
  flags(call: Call): number;
}

const O_PATH = 0o10000000;

/** Of a descriptor of this process. proc(5), /proc/pid/fdinfo. */
function isPathOnly(fd: number): boolean {
  const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1] ?? "";
  return (Number.parseInt(flags, 8) & O_PATH) !== 0;
}

/** Of a task in its own PID namespace. proc(5), /proc/pid/status. Throws what reading that does. */
function innerIds(tid: number): { pid: number; tid: number } {
  const status = readFileSync(`/proc/${tid}/status`, "latin1");
  const innermost = (name: string) => Number(new RegExp(`^${name}:.*\\t(\\d+)$`, "m").exec(status)?.[1]);
  return { pid: innermost("NStgid"), tid: innermost("NSpid") };
}

function isWrite(flags: number): boolean {
  return (flags & O_ACCMODE) !== 0 || (flags & (O_CREAT | O_TRUNC | O_TMPFILE_BIT)) !== 0;
}

function operationOf(flags: number, exists: boolean): FileOperation {
  if (!exists || (flags & O_TMPFILE_BIT) !== 0) return "create";
  return isWrite(flags) ? "write" : "read";
}

function openHandler(mediator: Mediator, shape: OpenShape): Handler<EngineSandbox> {
  const { tasks } = mediator;

  /** A new descriptor for one the caller already holds: it grants nothing. */
  function duplicateOwn(call: Call, fd: number, flags: number): Verdict {
    const pidfd = tasks.open(call.tid, call.tid);
    if (pidfd < 0) return refuse;
    const copy = tasks.takeFd(pidfd, fd);
    tasks.close(pidfd);
    if (copy < 0) return { kind: "errno", errno: ENOENT };
    // It names a file that was never opened: reopening it would grant something, and it cannot be handed over.
    if (isPathOnly(copy)) {
      tasks.close(copy);
      return { kind: "errno", errno: EACCES };
    }
    return { kind: "fd", fd: copy, closeOnExec: (flags & O_CLOEXEC) !== 0 };
  }

  /** Whether the program's own rights cover it: the kernel does not say, since the keeper's are wider. */
  function isStatic(sandbox: EngineSandbox, path: Uint8Array, flags: number): boolean {
    const { readableTrees, writableTrees } = sandbox.policy;
    const reads = (flags & O_ACCMODE) !== O_WRONLY;
    if (isWrite(flags) && !isBeneath(path, writableTrees)) return false;
    return !reads || isBeneath(path, readableTrees) || isBeneath(path, writableTrees);
  }

  function openPinned(origin: Origin, waiting: Deferred, pin: Pin, flags: number, mode: number): void {
    const { keeper } = origin.sandbox;
    const umask = tasks.read(origin.tid)?.umask ?? 0o077;
    if (keeper === undefined) {
      waiting.answer(refuse);
      return;
    }
    keeper.open(pin, flags | O_NOCTTY, mode, umask, (result) => {
      if (!result.ok) waiting.answer({ kind: "errno", errno: result.errno });
      else waiting.answer({ kind: "fd", fd: result.value, closeOnExec: (flags & O_CLOEXEC) !== 0 });
    });
  }

  return {
    shapes: [{ kind: "string", arg: shape.path, limit: PATH_LIMIT }],
    handle(call, sandbox) {
      const path = call.memory(shape.path);
      if (typeof path === "number") return { kind: "errno", errno: path };
      if (path.cut) return { kind: "errno", errno: ENAMETOOLONG };
      if (path.bytes.length === 0) return { kind: "errno", errno: ENOENT };
      const { keeper } = sandbox;
      if (keeper === undefined) return refuse;
      const flags = shape.flags(call);
      const mode = call.int(shape.mode);
      const origin = mediator.originOf(call, sandbox);
      const own = ownPath(path.bytes, origin.task.pid);
      if (own?.kind === "descriptor") return duplicateOwn(call, own.fd, flags);
      const directory = tasks.directory(call.tid, shape.directory === undefined ? AT_FDCWD : call.int(shape.directory));
      if (directory < 0) return { kind: "errno", errno: -directory };

      let pin: Pin | undefined;
      const waiting = mediator.defer(call, () => {
        if (pin !== undefined) keeper.release(pin);
      });
      keeper.resolve(
        directory,
        asCaller(path.bytes, () => innerIds(call.tid)),
        flags,
        (resolved) => {
          if (!resolved.ok) {
            waiting.answer({ kind: "errno", errno: resolved.errno });
            return;
          }
          if (!waiting.isWaiting()) {
            keeper.release(resolved.value);
            return;
          }
          const pinned = resolved.value;
          pin = pinned;
          const detail = {
            kind: "file",
            path: pinned.path,
            operation: operationOf(flags, pinned.exists),
            flags,
            mode,
            exists: pinned.exists,
          } as const;
          mediator.settle(origin, { category: "file", integrity: "copied", detail }, waiting, {
            allow(allowance: Allowance) {
              pin = undefined;
              if (allowance === "ceiling" || isStatic(sandbox, pinned.path, flags))
                openPinned(origin, waiting, pinned, flags, mode);
              else {
                keeper.release(pinned);
                waiting.answer({ kind: "errno", errno: EACCES });
              }
            },
            refuse(errno) {
              pin = undefined;
              keeper.release(pinned);
              waiting.answer({ kind: "errno", errno });
            },
          });
        },
      );
      return deferred;
    },
  };
}

/** `open`: performed by the keeper on the copied path; the descriptor is what was vetted. */
export function openFileHandler(mediator: Mediator): Handler<EngineSandbox> {
  return openHandler(mediator, { directory: undefined, path: 0, mode: 2, flags: (call) => call.int(1) });
}

/** `openat`. */
export function openatHandler(mediator: Mediator): Handler<EngineSandbox> {
  return openHandler(mediator, { directory: 0, path: 1, mode: 3, flags: (call) => call.int(2) });
}

/** `creat`, which is `open` with fixed flags. */
export function creatHandler(mediator: Mediator): Handler<EngineSandbox> {
  return openHandler(mediator, { directory: undefined, path: 0, mode: 1, flags: () => O_CREAT | O_WRONLY | O_TRUNC });
}
