import { type AttachmentSeat, maxChunkBytes, type OutputChunk } from "./attachment.js";
import { confirmOutput, type Output } from "./output.js";
import { readRing } from "./ring.js";

/** Alternations between the streams that are remembered; of more, the order is only approximate. */
const MAX_PIECES = 4096;

const nothing = new Uint8Array(0);

interface Piece {
  readonly output: Output;
  length: number;
}

/**
 * All output of one run, in the order of its arrival, to be iterated once; the program keeps the reader's pace. Of what
 * is beyond `maxBytes` in all only the length is told, in chunks without data. Streams have no end chunk of their own:
 * the iteration ends when all have ended, and throws the signal's reason when that aborts.
 */
export function openRunOutput(
  outputs: readonly Output[],
  seats: Set<AttachmentSeat>,
  signal: AbortSignal,
  maxBytes: number,
): AsyncIterable<OutputChunk> {
  const pieces: Piece[] = [];
  const positions = new Map(outputs.map((output) => [output, 0]));
  const limit = maxBytes === 0 ? Number.POSITIVE_INFINITY : maxBytes;
  let delivered = 0;
  let wake = (): void => {};

  for (const output of outputs) {
    output.waits = true;
    if (output.ring.next > 0) pieces.push({ output, length: output.ring.next });
    output.onAppend = (bytes) => {
      const last = pieces.at(-1);
      const mergeable = last?.output === output ? last : pieces.length < MAX_PIECES ? undefined : pieces.at(-2);
      if (mergeable?.output === output) mergeable.length += bytes;
      else pieces.push({ output, length: bytes });
    };
  }
  const seat: AttachmentSeat = { wake: () => wake(), inputLost() {}, hostGone: () => wake() };
  seats.add(seat);

  /** The next piece, or undefined when there is none now. */
  function take(): OutputChunk | undefined {
    const piece = pieces[0];
    if (piece === undefined) return undefined;
    const { output } = piece;
    const offset = positions.get(output) ?? 0;
    const room = Math.min(piece.length, maxChunkBytes, limit - delivered);
    // Bytes that are gone were disposed of together with the streams.
    const lost = room <= 0 || offset < output.ring.oldest;
    const length = lost ? piece.length : room;
    const data = lost ? nothing : readRing(output.ring, offset, length);
    delivered += data.length;
    piece.length -= length;
    if (piece.length === 0) pieces.shift();
    positions.set(output, offset + length);
    confirmOutput(output, offset + length);
    return { stream: output.name, offset, data, dropped: lost ? length : 0, end: false };
  }

  async function* iterate(): AsyncGenerator<OutputChunk> {
    const aborted = (): void => wake();
    signal.addEventListener("abort", aborted);
    try {
      for (;;) {
        signal.throwIfAborted();
        const chunk = take();
        if (chunk !== undefined) {
          yield chunk;
          continue;
        }
        if (outputs.every((output) => output.ended)) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      signal.removeEventListener("abort", aborted);
      seats.delete(seat);
    }
  }

  return { [Symbol.asyncIterator]: iterate };
}
