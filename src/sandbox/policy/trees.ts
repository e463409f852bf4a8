import { beneath, byteString } from "./byte-paths.js";

/** Whether an absolute, resolved path is one of the trees' roots or lies beneath one. Compared as bytes. */
export function isBeneath(path: Uint8Array, trees: readonly string[]): boolean {
  const text = byteString(path);
  return trees.some((tree) => beneath(text, byteString(tree)));
}
