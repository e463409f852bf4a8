/**
 * Calls on paths where something is denied below what is granted, and no mount hides it. The kernel refuses every
 * access to what is denied, and besides what happens directly in the directories that lead there: that alone is done
 * by the keeper, and everything else left to the kernel, whose own rules need no help.
 */
import { constants } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred } from "../../engine/verdict.js";
import { ACT_LEAVE } from "../../native/abi.js";
import type { Continue, Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import { isBeneath } from "../policy/trees.js";
import type { FileAct } from "../warden/keeper.js";
import { AT_FDCWD, mayBeOwn, ownPath, PATH_LIMIT } from "./paths.js";

const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const PERMISSIONS = 0o7777;

const kernelDecides: Continue = { kind: "continue", because: "kernel_decides" };

interface Place {
  /** Argument with the directory; undefined: the current one. */
  readonly directory?: number;
  /** Argument with the path. */
  readonly path: number;
}

interface PathShape extends Place {
  /** Where a new name is to be, or undefined. */
  readonly to?: Place;
  /** Argument with a symbolic link's text. */
  readonly text?: number;
  details(call: Call): Omit<FileAct, "path" | "value">;
}

function memoryArguments({ path, to, text }: PathShape): number[] {
  return [path, ...(to === undefined ? [] : [to.path]), ...(text === undefined ? [] : [text])];
}

function pathActHandler(mediator: Mediator, shape: PathShape): Handler<EngineSandbox> {
  const { tasks } = mediator;

  const directoryOf = (call: Call, place: Place): number =>
    tasks.directory(call.tid, place.directory === undefined ? AT_FDCWD : call.int(place.directory));

  /** Undefined for what the kernel refuses, or follows, by itself. */
  function bytesAt(call: Call, argument: number, { policy }: EngineSandbox): Uint8Array | undefined {
    const copied = call.memory(argument);
    if (typeof copied === "number" || copied.cut || copied.bytes.length === 0) return undefined;
    // Not a judgement: a path that begins so and leads elsewhere is refused there by the kernel.
    if (isBeneath(copied.bytes, policy.kernelTrees)) return undefined;
    const isOwn = mayBeOwn(copied.bytes) && ownPath(copied.bytes, tasks.read(call.tid)?.tgid ?? 0) !== undefined;
    return isOwn ? undefined : copied.bytes;
  }

  /** The second path, or a link's text, which may say anything; empty when the call has neither. */
  function secondOf(call: Call, sandbox: EngineSandbox): Uint8Array | undefined {
    if (shape.to !== undefined) return bytesAt(call, shape.to.path, sandbox);
    if (shape.text === undefined) return new Uint8Array(0);
    const copied = call.memory(shape.text);
    return typeof copied === "number" || copied.cut ? undefined : copied.bytes;
  }

  return {
    shapes: memoryArguments(shape).map((arg) => ({ kind: "string", arg, limit: PATH_LIMIT }) as const),
    handle(call, sandbox) {
      const { keeper } = sandbox;
      const path = bytesAt(call, shape.path, sandbox);
      const value = secondOf(call, sandbox);
      if (keeper === undefined || path === undefined || value === undefined) return kernelDecides;
      const fds = [shape, ...(shape.to === undefined ? [] : [shape.to])].map((place) => directoryOf(call, place));
      const waiting = mediator.defer(call);
      // Directories were found by thread id: they are the caller's only if it still waits (pid reuse).
      if (fds.some((fd) => fd < 0) || !waiting.isWaiting()) {
        for (const fd of fds) if (fd >= 0) tasks.close(fd);
        waiting.answer(kernelDecides);
        return deferred;
      }
      const details = shape.details(call);
      const umask = makesFile(details) ? (tasks.read(call.tid)?.umask ?? STRICT_UMASK) : STRICT_UMASK;
      keeper.act({ ...details, umask, path, value }, fds, (result) => {
        if (!result.ok)
          waiting.answer(result.errno === ACT_LEAVE ? kernelDecides : { kind: "errno", errno: result.errno });
        else if (result.value.kind === "value") waiting.answer(result.value);
        else waiting.answer({ ...result.value, closeOnExec: ((details.options ?? 0) & O_CLOEXEC) !== 0 });
      });
      return deferred;
    },
  };
}

/** The caller's umask is asked for only where it counts. */
function makesFile({ act, options = 0 }: Omit<FileAct, "path" | "value">): boolean {
  return act === "mkdir" || act === "mknod" || (act === "open" && (options & (O_CREAT | O_TMPFILE)) !== 0);
}

const STRICT_UMASK = 0o077;
const O_CREAT = 0o100;
/** Its own bit; the other is O_DIRECTORY's. */
const O_TMPFILE = 0o20000000;
const O_CLOEXEC = 0o2000000;
const CREAT_FLAGS = constants.O_CREAT | constants.O_WRONLY | constants.O_TRUNC;

function openShape(place: Place, flags: (call: Call) => number, modeArg: number): PathShape {
  return {
    ...place,
    details: (call) => ({ act: "open", options: flags(call), mode: call.int(modeArg) & PERMISSIONS }),
  };
}

function linkShape(place: Place, to: Place, flagsArg?: number): PathShape {
  const follows = (call: Call) => flagsArg !== undefined && (call.int(flagsArg) & AT_SYMLINK_FOLLOW) !== 0;
  return { ...place, to, details: (call) => ({ act: "link", noFollow: !follows(call) }) };
}

function renameShape(place: Place, to: Place, flagsArg?: number): PathShape {
  return {
    ...place,
    to,
    details: (call) => ({ act: "rename", options: flagsArg === undefined ? 0 : call.int(flagsArg) }),
  };
}

const here = { path: 0 } as const;
const at = { directory: 0, path: 1 } as const;

function mkdirShape(place: Place, modeArg: number): PathShape {
  return { ...place, details: (call) => ({ act: "mkdir", mode: call.int(modeArg) & PERMISSIONS }) };
}

function mknodShape(place: Place, modeArg: number): PathShape {
  return { ...place, details: (call) => ({ act: "mknod", options: call.int(modeArg) }) };
}

const OPENS: Readonly<Record<string, PathShape>> = {
  open: openShape(here, (call) => call.int(1), 2),
  openat: openShape(at, (call) => call.int(2), 3),
  creat: openShape(here, () => CREAT_FLAGS, 1),
};

const OTHERS: Readonly<Record<string, PathShape>> = {
  mkdir: mkdirShape(here, 1),
  mkdirat: mkdirShape(at, 2),
  mknod: mknodShape(here, 1),
  mknodat: mknodShape(at, 2),
  rmdir: { ...here, details: () => ({ act: "rmdir" }) },
  unlink: { ...here, details: () => ({ act: "unlink" }) },
  unlinkat: { ...at, details: (call) => ({ act: (call.int(2) & AT_REMOVEDIR) === 0 ? "unlink" : "rmdir" }) },
  symlink: { path: 1, text: 0, details: () => ({ act: "symlink" }) },
  symlinkat: { directory: 1, path: 2, text: 0, details: () => ({ act: "symlink" }) },
  link: linkShape(here, { path: 1 }),
  linkat: linkShape(at, { directory: 2, path: 3 }, 4),
  rename: renameShape(here, { path: 1 }),
  renameat: renameShape(at, { directory: 2, path: 3 }),
  renameat2: renameShape(at, { directory: 2, path: 3 }, 4),
  truncate: {
    ...here,
    details: (call) => ({ act: "truncate", times: [BigInt.asIntN(64, call.word(1)), 0n, 0n, 0n] }),
  },
};

type Handlers = Readonly<Record<string, (mediator: Mediator) => Handler<EngineSandbox>>>;

function handlersOf(shapes: Readonly<Record<string, PathShape>>): Handlers {
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, (mediator: Mediator) => pathActHandler(mediator, shape)]),
  );
}

/** By the name of the call: opens, where none is held for a verdict. */
export const openActHandlers: Handlers = handlersOf(OPENS);

/** By the name of the call: all others. */
export const pathActHandlers: Handlers = handlersOf(OTHERS);
