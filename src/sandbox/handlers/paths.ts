export const AT_FDCWD = -100;
/** PATH_MAX, with its NUL. */
export const PATH_LIMIT = 4096;

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

/** Whether `ownPath` may know it: reading the caller's id for it is not cheap. */
export function mayBeOwn(path: Uint8Array): boolean {
  return OWN_PREFIXES.some((prefix) => prefix.every((byte, index) => path[index] === byte));
}

const OWN_PREFIXES = ["/proc/", "/dev/"].map((prefix) => [...Buffer.from(prefix)]);

/** `/proc/self` and `/proc/thread-self` as the caller means them, who is `pid`, or thread `tid`, in its own namespace. */
export function asCaller(path: Uint8Array, caller: () => { readonly pid: number; readonly tid: number }): Uint8Array {
  const text = Buffer.from(path.buffer, path.byteOffset, path.byteLength).toString("latin1");
  const [, thread, rest = ""] = /^\/+proc\/+(thread-)?self(\/.*)?$/s.exec(text) ?? [];
  if (rest === "") return path; // of the link itself there is nothing to say
  const { pid, tid } = caller();
  return Buffer.from(`/proc/${pid}${thread === undefined ? "" : `/task/${tid}`}${rest}`, "latin1");
}

/** A path that names something of the caller itself: the broker's own `self` is somebody else. */
export type OwnPath = { readonly kind: "descriptor"; readonly fd: number } | { readonly kind: "executable" };

/** What of the caller a path names (`/dev/stdout`, `/dev/fd/1`, `/proc/self/fd/1`, `/proc/self/exe`), or undefined. */
export function ownPath(path: Uint8Array, tgid: number): OwnPath | undefined {
  const text = Buffer.from(path.buffer, path.byteOffset, path.byteLength).toString("latin1");
  if (text === "/dev/stdin") return { kind: "descriptor", fd: 0 };
  if (text === "/dev/stdout") return { kind: "descriptor", fd: 1 };
  if (text === "/dev/stderr") return { kind: "descriptor", fd: 2 };
  const match = /^(?:\/dev\/fd|\/proc\/(self|thread-self|\d+)\/(?:fd|(exe)$))(?:\/(\d{1,9}))?$/.exec(text);
  if (match === null) return undefined;
  const [, owner, executable, number] = match;
  if (owner !== undefined && owner !== "self" && owner !== "thread-self" && Number(owner) !== tgid) return undefined;
  if (executable !== undefined) return { kind: "executable" };
  return number === undefined ? undefined : { kind: "descriptor", fd: Number(number) };
}
