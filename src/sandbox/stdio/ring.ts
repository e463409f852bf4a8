/** The newest bytes of one output stream, addressed by their offset from its start. Costs nothing until written to. */
export interface OutputRing {
  /** Offset of the oldest byte kept. */
  readonly oldest: number;
  /** Offset of the next byte to come. */
  readonly next: number;
  /**
   * Appends a copy of the bytes. What lies before `keepFrom` may be overwritten to make room; bytes from there on are
   * kept even where that takes more than the capacity.
   */
  append(bytes: Uint8Array, keepFrom: number): void;
  /** A copy of at most `maxBytes` from an offset that is kept; throws a RangeError for any other. */
  read(offset: number, maxBytes: number): Buffer;
  /** Frees the memory. Nothing is kept any more. */
  clear(): void;
}

const FIRST_BYTES = 1024;
const GROWTH = 4;

export function createRing(capacity: number): OutputRing {
  let buffer: Buffer | undefined;
  let oldest = 0;
  let next = 0;

  /** Byte `offset` is at `offset % buffer.length`. */
  function grow(bytesKept: number): Buffer {
    const size = buffer?.length ?? 0;
    if (buffer !== undefined && bytesKept <= size) return buffer;
    const grown = Math.max(bytesKept, Math.min(capacity, Math.max(FIRST_BYTES, size * GROWTH)));
    const larger = Buffer.allocUnsafeSlow(grown);
    for (let offset = oldest; offset < next; ) {
      const piece = contiguous(offset, Math.min(next - offset, grown - (offset % grown)));
      larger.set(piece, offset % grown);
      offset += piece.length;
    }
    buffer = larger;
    return larger;
  }

  /** The bytes at an offset up to where the buffer wraps. */
  function contiguous(offset: number, maxBytes: number): Buffer {
    if (buffer === undefined) return Buffer.alloc(0);
    const at = offset % buffer.length;
    return buffer.subarray(at, Math.min(buffer.length, at + maxBytes));
  }

  return {
    get oldest() {
      return oldest;
    },
    get next() {
      return next;
    },
    append(bytes, keepFrom) {
      const end = next + bytes.length;
      const wanted = Math.max(Math.min(capacity, end - oldest), end - Math.max(keepFrom, oldest));
      const target = grow(wanted);
      // Of more than fits only the tail is written.
      let offset = Math.max(next, end - target.length);
      let from = offset - next;
      oldest = Math.max(oldest, end - target.length);
      while (offset < end) {
        const at = offset % target.length;
        const length = Math.min(end - offset, target.length - at);
        target.set(bytes.subarray(from, from + length), at);
        offset += length;
        from += length;
      }
      next = end;
    },
    read(offset, maxBytes) {
      if (offset < oldest || offset > next) throw new RangeError(`offset ${offset} is not in ${oldest} to ${next}`);
      const length = Math.min(maxBytes, next - offset);
      const first = contiguous(offset, length);
      const copy = Buffer.allocUnsafe(length);
      copy.set(first);
      if (first.length < length) copy.set(contiguous(offset + first.length, length - first.length), first.length);
      return copy;
    },
    clear() {
      buffer = undefined;
      oldest = next;
    },
  };
}
