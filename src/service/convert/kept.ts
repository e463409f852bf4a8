/** Bytes of the last keys, by number. A plain ring: maps with weak keys made the collector take a fifth of all time. */
export interface Kept<Key extends object> {
  get(key: Key): Uint8Array | undefined;
  /** Returns the bytes. */
  set(key: Key, bytes: Uint8Array): Uint8Array;
}

export function createKept<Key extends object>(size: number, numberOf: (key: Key) => number): Kept<Key> {
  const kept: ({ readonly key: Key; readonly bytes: Uint8Array } | undefined)[] = [];
  return {
    get(key) {
      const known = kept[numberOf(key) % size];
      return known?.key === key ? known.bytes : undefined;
    },
    set(key, bytes) {
      kept[numberOf(key) % size] = { key, bytes };
      return bytes;
    },
  };
}
