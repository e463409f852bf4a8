import type { Tasks } from "../../native/task.js";

export const AT_FDCWD = -100;
/** PATH_MAX, with its NUL. */
export const PATH_LIMIT = 4096;

const SLASH = 0x2f;
const EBADF = 9;
const ENOENT = 2;

/** Splits strings that are packed with their NULs. */
export function splitStrings(packed: Uint8Array): Uint8Array[] {
  const strings: Uint8Array[] = [];
  for (let start = 0; start < packed.length; ) {
    const nul = packed.indexOf(0, start);
    const end = nul < 0 ? packed.length : nul;
    strings.push(Uint8Array.prototype.slice.call(packed, start, end));
    start = end + 1;
  }
  return strings;
}

/**
 * A caller's path as an absolute one, for people and for rules on programs: its directory in front,
 * nothing resolved. Returns a positive errno when the directory cannot be named.
 */
export function absolutePath(tasks: Tasks, tid: number, directory: number, path: Uint8Array): Uint8Array | number {
  if (path[0] === SLASH) return path;
  if (path.length === 0) return ENOENT;
  const base = tasks.link(tid, directory === AT_FDCWD ? "cwd" : `fd/${directory}`);
  if (base === undefined) return EBADF;
  return Buffer.concat([base, base.at(-1) === SLASH ? Buffer.alloc(0) : Buffer.from("/"), path]);
}

/**
 * The descriptor that a path of the caller's own names (`/dev/stdout`, `/dev/fd/1`, `/proc/self/fd/1`), or
 * undefined. The broker must not resolve these: its own `self` is somebody else.
 */
export function ownDescriptor(path: Uint8Array, tgid: number): number | undefined {
  const text = Buffer.from(path.buffer, path.byteOffset, path.byteLength).toString("latin1");
  if (text === "/dev/stdin") return 0;
  if (text === "/dev/stdout") return 1;
  if (text === "/dev/stderr") return 2;
  const match = /^(?:\/dev\/fd|\/proc\/(self|thread-self|\d+)\/fd)\/(\d{1,9})$/.exec(text);
  if (match === null) return undefined;
  const [, owner, number] = match;
  const isOwn = owner === undefined || owner === "self" || owner === "thread-self" || Number(owner) === tgid;
  return isOwn ? Number(number) : undefined;
}
