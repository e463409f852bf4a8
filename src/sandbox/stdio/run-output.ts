import { type AttachmentSeat, maxChunkBytes, type OutputChunk } from "./attachment.js";
import type { Output } from "./output.js";

/** All output of one run, in the order of its arrival. To be iterated once. Streams have no end chunk of their own. */
export interface RunOutput extends AsyncIterable<OutputChunk> {
  /** Bytes beyond the limit so far. */
  readonly droppedBytes: number;
}

/** Alternations between the streams that are remembered; of more, the order is only approximate. */
const MAX_PIECES = 4096;

interface Piece {
  readonly output: Output;
  length: number;
}

/**
 * Makes the outputs wait for this reader. The iteration ends with the last output, and throws the signal's reason
 * when that aborts.
 */
export function openRunOutput(
  outputs: readonly Output[],
  seats: Set<AttachmentSeat>,
  maxBytes: number,
  signal: AbortSignal,
): RunOutput {
  const pieces: Piece[] = [];
  const positions = new Map(outputs.map((output) => [output, 0]));
  const limit = maxBytes === 0 ? Number.POSITIVE_INFINITY : maxBytes;
  let delivered = 0;
  let dropped = 0;
  let wake = (): void => {};

  for (const output of outputs) {
    output.makeWait();
    output.onAppend = (bytes) => {
      const last = pieces.at(-1);
      const mergeable = last?.output === output ? last : pieces.length < MAX_PIECES ? undefined : pieces.at(-2);
      if (mergeable?.output === output) mergeable.length += bytes;
      else pieces.push({ output, length: bytes });
    };
  }
  const seat: AttachmentSeat = { wake: () => wake(), inputLost() {}, hostGone: () => wake() };
  seats.add(seat);

  /** The next piece, or undefined when there is none now. Over the limit, pieces are only counted. */
  function take(): OutputChunk | undefined {
    for (;;) {
      const piece = pieces[0];
      if (piece === undefined) return undefined;
      const { output } = piece;
      const offset = positions.get(output) ?? 0;
      const length = Math.min(piece.length, maxChunkBytes, Math.max(0, limit - delivered)) || piece.length;
      // Bytes that are gone were disposed of together with the streams.
      const over = delivered >= limit || offset < output.ring.oldest;
      const data = over ? undefined : output.ring.read(offset, length);
      piece.length -= length;
      if (piece.length === 0) pieces.shift();
      positions.set(output, offset + length);
      output.confirm(offset + length);
      if (data !== undefined) {
        delivered += length;
        return { stream: output.name, offset, data, dropped: 0, end: false };
      }
      dropped += length;
    }
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

  return {
    get droppedBytes() {
      return dropped;
    },
    [Symbol.asyncIterator]: iterate,
  };
}
