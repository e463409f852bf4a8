/**
 * The newest bytes of one output stream, addressed by their offset from its start. Plain data, without accessors or
 * closures, since an idle sandbox has two: it costs next to nothing until it is written to.
 */
export interface OutputRing {
  readonly capacity: number;
  /** Offset of the oldest byte kept. */
  oldest: number;
  /** Offset of the next byte to come. */
  next: number;
  /** Byte `offset` is at `offset % buffer.length`. */
  buffer: Buffer | undefined;
}

const FIRST_BYTES = 1024;
const GROWTH = 4;

export function createRing(capacity: number): OutputRing {
  return { capacity, oldest: 0, next: 0, buffer: undefined };
}

/**
 * Appends a copy of the bytes. What lies before `keepFrom` may be overwritten to make room; bytes from there on are
 * kept even where that takes more than the capacity.
 */
export function appendToRing(ring: OutputRing, bytes: Uint8Array, keepFrom: number): void {
  const end = ring.next + bytes.length;
  const wanted = Math.max(Math.min(ring.capacity, end - ring.oldest), end - Math.max(keepFrom, ring.oldest));
  const buffer = roomFor(ring, wanted);
  // Of more than fits only the tail is written.
  let offset = Math.max(ring.next, end - buffer.length);
  let from = offset - ring.next;
  while (offset < end) {
    const at = offset % buffer.length;
    const length = Math.min(end - offset, buffer.length - at);
    buffer.set(bytes.subarray(from, from + length), at);
    offset += length;
    from += length;
  }
  ring.oldest = Math.max(ring.oldest, end - buffer.length);
  ring.next = end;
}

/** A copy of at most `maxBytes` from an offset that is kept; throws a RangeError for any other. */
export function readRing(ring: OutputRing, offset: number, maxBytes: number): Buffer {
  if (offset < ring.oldest || offset > ring.next) {
    throw new RangeError(`offset ${offset} is not in ${ring.oldest} to ${ring.next}`);
  }
  const length = Math.min(maxBytes, ring.next - offset);
  const copy = Buffer.allocUnsafe(length);
  const first = contiguous(ring, offset, length);
  copy.set(first);
  if (first.length < length) copy.set(contiguous(ring, offset + first.length, length - first.length), first.length);
  return copy;
}

/** Frees the memory. Nothing is kept any more. */
export function clearRing(ring: OutputRing): void {
  ring.buffer = undefined;
  ring.oldest = ring.next;
}

function roomFor(ring: OutputRing, bytesKept: number): Buffer {
  const { buffer, capacity, next } = ring;
  const size = buffer?.length ?? 0;
  if (buffer !== undefined && bytesKept <= size) return buffer;
  const larger = Buffer.allocUnsafeSlow(Math.max(bytesKept, Math.min(capacity, Math.max(FIRST_BYTES, size * GROWTH))));
  for (let offset = ring.oldest; offset < next; ) {
    const at = offset % larger.length;
    const piece = contiguous(ring, offset, Math.min(next - offset, larger.length - at));
    larger.set(piece, at);
    offset += piece.length;
  }
  ring.buffer = larger;
  return larger;
}

/** The bytes at an offset up to where the buffer wraps. */
function contiguous({ buffer }: OutputRing, offset: number, maxBytes: number): Buffer {
  if (buffer === undefined) return Buffer.alloc(0);
  const at = offset % buffer.length;
  return buffer.subarray(at, Math.min(buffer.length, at + maxBytes));
}
