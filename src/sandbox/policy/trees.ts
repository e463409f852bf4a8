/** Whether an absolute, resolved path is one of the trees' roots or lies beneath one. Compared as bytes. */
export function isBeneath(path: Uint8Array, trees: readonly string[]): boolean {
  const text = Buffer.from(path.buffer, path.byteOffset, path.byteLength).toString("latin1");
  return trees.some((tree) => {
    const root = Buffer.from(tree).toString("latin1");
    return root === "/" || text === root || text.startsWith(root.endsWith("/") ? root : `${root}/`);
  });
}
