/** Absolute paths as byte strings (latin1): every byte of a name is one character, and none is lost. */

/** `bytes` as a byte string. */
export function byteString(bytes: Uint8Array | string): string {
  if (typeof bytes === "string") return Buffer.from(bytes).toString("latin1");
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** What the system calls take. */
export function bytesOf(path: string): Buffer {
  return Buffer.from(path, "latin1");
}

/** For messages. */
export function textOf(path: string): string {
  return bytesOf(path).toString();
}

/** Whether a path is `tree` or lies beneath it. */
export function beneath(path: string, tree: string): boolean {
  return tree === "/" || path === tree || path.startsWith(tree.endsWith("/") ? tree : `${tree}/`);
}
