/** Rules on Unix sockets: by the place of a socket's file or the tree that it lies in, or by an abstract name. */
const NUL = 0;
const SLASH = 0x2f;

/** A socket's file, as stat(2) has it. */
export interface SocketIdentity {
  readonly device: bigint;
  readonly inode: bigint;
}

/** Whether a rule's host names the address: a path with every link followed, or a NUL and an abstract name. */
export function compileUnixHost(host: string): (path: Uint8Array) => boolean {
  const name = Buffer.from(host);
  if (host.startsWith("@")) {
    name[0] = NUL;
    return (path) => name.equals(path);
  }
  return (path) => {
    if (path[0] !== SLASH || !name.equals(path.subarray(0, name.length))) return false;
    return path.length === name.length || path[name.length] === SLASH || host === "/";
  };
}

/** Whether a host is a path or an abstract name, and not too long to be one. unix(7). */
export function isUnixHost(host: string): boolean {
  if (host.includes("\0")) return false;
  const length = Buffer.byteLength(host);
  return host.startsWith("@") ? length > 1 && length <= 108 : host.startsWith("/") && length < 4096;
}
