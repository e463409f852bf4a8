import { BLOB, RECORD } from "../native/abi.js";
import type { Exchange } from "../native/exchange.js";

/**
 * One notification, as a window onto the exchange's record: valid only while its handler runs. What a
 * deferred call needs later is copied out first.
 */
export interface Call {
  /** Slot of the listener that it came from. */
  readonly slot: number;
  readonly idLow: number;
  readonly idHigh: number;
  /** Thread id of the caller, in the server's pid namespace. */
  readonly tid: number;
  readonly nr: number;
  /** AUDIT_ARCH value. */
  readonly arch: number;
  /** Low 32 bits of an argument, signed, as C's `int` parameters are read. */
  int(index: number): number;
  /** A whole argument. */
  word(index: number): bigint;
  /** A copy of all six arguments, low and high words in turn. */
  argumentWords(): Uint32Array<ArrayBuffer>;
  /** A copy of what argument `index` points to, or the errno (positive) of the failed copy. */
  memory(index: number): { readonly bytes: Buffer; readonly cut: boolean } | number;
}

const EFAULT = 14;

/** The loop's one window; `moveTo` points it at the record at a byte offset. */
export interface CallWindow extends Call {
  moveTo(offset: number): void;
}

export function createCallWindow(exchange: Exchange): CallWindow {
  const { bytes, words } = exchange;
  const ints = new Int32Array(words.buffer, words.byteOffset, words.length);
  let offset = 0;
  let base = 0;

  const wordAt = (member: number): number => words[base + member / 4] as number;

  return {
    moveTo(at) {
      offset = at;
      base = at / 4;
    },
    get slot() {
      return wordAt(RECORD.at.slot);
    },
    get idLow() {
      return wordAt(RECORD.at.id);
    },
    get idHigh() {
      return wordAt(RECORD.at.id + 4);
    },
    get tid() {
      return wordAt(RECORD.at.pid);
    },
    get nr() {
      return ints[base + RECORD.at.nr / 4] as number;
    },
    get arch() {
      return wordAt(RECORD.at.arch);
    },
    int: (index) => ints[base + RECORD.at.args / 4 + index * 2] as number,
    word: (index) => bytes.readBigUInt64LE(offset + RECORD.at.args + index * 8),
    argumentWords: () => new Uint32Array(words.subarray(base + RECORD.at.args / 4, base + RECORD.at.args / 4 + 12)),
    memory(index) {
      let at = offset + RECORD.bytes;
      for (let left = bytes.readUInt16LE(offset + RECORD.at.blobs); left > 0; left--) {
        const length = bytes.readInt32LE(at + BLOB.at.length);
        const start = at + BLOB.bytes;
        if (bytes.readUInt16LE(at + BLOB.at.arg) === index) {
          if (length < 0) return -length;
          // A copy of its own: the record is overwritten by the next turn.
          return {
            bytes: Buffer.from(bytes.subarray(start, start + length)),
            cut: bytes.readUInt16LE(at + BLOB.at.cut) !== 0,
          };
        }
        at = start + (length > 0 ? (length + 7) & ~7 : 0);
      }
      return EFAULT;
    },
  };
}
