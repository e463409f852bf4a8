import { ANSWER, ANSWER_FLAG, ANSWER_KIND, MAX_SENT_FDS, SHAPE, SHAPE_KIND, SHAPES_PER_CALL, SOURCE } from "./abi.js";
import { check, type Library } from "./library.js";

/** Answers that fit one turn. */
const ANSWER_CAPACITY = 4096;
/** Holds an outcome for each answer, the largest call and the largest packet. */
const RECORD_BYTES = 1 << 20;

const ANSWER_WORDS = ANSWER.bytes / 4;

export type ArgumentShape =
  | { readonly kind: "string"; readonly arg: number; readonly limit: number }
  | { readonly kind: "bytes"; readonly arg: number; readonly lengthArg: number; readonly limit: number }
  | { readonly kind: "strings"; readonly arg: number; readonly limit: number }
  /** Exactly `limit` bytes; none when the pointer is NULL. */
  | { readonly kind: "block"; readonly arg: number; readonly limit: number };

/** A source of the epoll set, under a slot number that the caller keeps until its terminal record. */
export type SourceKind = keyof typeof SOURCE;

/**
 * The engine's one conversation with the kernel. Single-threaded: the thread that made it is its only
 * user. Ids of notifications cross as two 32-bit words, since a 64-bit one would cost a bigint a call.
 */
export interface Exchange extends Disposable {
  /** The records of the last turn; valid until the next. Offsets are in `abi.ts`. */
  readonly bytes: Buffer;
  readonly words: Uint32Array;
  /** Sends the queued answers, waits at most `timeoutMs` (-1: no bound), and returns the bytes of records. */
  turn(timeoutMs: number, spinUs: number): number;
  /** Room for this many more answers before the next turn. */
  answerRoom(): number;
  /** The call runs as issued. Only for decisions that no write to the caller's memory can undo. */
  continueCall(slot: number, idLow: number, idHigh: number): void;
  /** The call fails with `errno` (positive), or returns `value` when `errno` is 0. */
  returnCall(slot: number, idLow: number, idHigh: number, errno: number, value: number): void;
  /** The call returns a new descriptor for `fd`, which is closed here in any case. */
  installFd(slot: number, idLow: number, idHigh: number, fd: number, closeOnExec: boolean): void;
  setShape(nr: number, shapes: readonly ArgumentShape[]): void;
  /** Takes ownership of `fd`, also when it throws. */
  add(slot: number, kind: SourceKind, fd: number): void;
  remove(slot: number): void;
  /** Sends a packet on a channel; false when the channel is full or gone. */
  send(slot: number, packet: Uint8Array, fds: readonly number[]): boolean;
  /** Whether a notification still waits for its answer. */
  isWaiting(slot: number, idLow: number, idHigh: number): boolean;
  /** Writes into the caller's memory while it waits. Returns 0 or a positive errno. */
  store(slot: number, idLow: number, idHigh: number, tid: number, address: bigint, bytes: Uint8Array): number;
  /**
   * A duplicate of the caller's socket `fd`, taken while the notification waits; else a positive errno: ENOTSOCK when
   * it is no socket, ENOENT when nobody waits. The duplicate is the caller's of this.
   */
  takeSocket(slot: number, idLow: number, idHigh: number, tid: number, fd: number): TakenSocket | number;
}

export interface SocketKind {
  readonly domain: number;
  readonly type: number;
  readonly protocol: number;
}

export interface TakenSocket {
  readonly fd: number;
  readonly kind: SocketKind;
}

export function createExchange(library: Library): Exchange {
  const answers = new Uint32Array((ANSWER_CAPACITY * ANSWER.bytes) / 4);
  const answersView = new DataView(answers.buffer);
  const bytes = Buffer.from(new ArrayBuffer(RECORD_BYTES));
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, RECORD_BYTES / 4);
  const engine = check("sg_engine_create", library.engineCreate(new Uint8Array(answers.buffer), bytes, bytes.length));
  const idWords = new Uint32Array(2);
  const fdWords = new Int32Array(MAX_SENT_FDS);
  const kindWords = new Int32Array(3);
  let queued = 0;
  let open = true;

  /** Starts an answer and returns its first word's index. */
  function startAnswer(slot: number, kind: number, idLow: number, idHigh: number): number {
    if (queued === ANSWER_CAPACITY) throw new Error("more answers in one turn than the exchange has room for");
    const at = queued * ANSWER_WORDS;
    queued++;
    answers.fill(0, at, at + ANSWER_WORDS);
    answers[at + ANSWER.at.slot / 4] = slot;
    answers[at + ANSWER.at.kind / 4] = kind;
    answers[at + ANSWER.at.id / 4] = idLow;
    answers[at + ANSWER.at.id / 4 + 1] = idHigh;
    return at;
  }

  return {
    bytes,
    words,
    turn(timeoutMs, spinUs) {
      const count = queued;
      queued = 0;
      return check("sg_exchange", library.exchange(engine, count, timeoutMs, spinUs));
    },
    answerRoom: () => ANSWER_CAPACITY - queued,
    continueCall(slot, idLow, idHigh) {
      answers[startAnswer(slot, ANSWER_KIND.send, idLow, idHigh) + ANSWER.at.flags / 4] = ANSWER_FLAG.continue;
    },
    returnCall(slot, idLow, idHigh, errno, value) {
      const at = startAnswer(slot, ANSWER_KIND.send, idLow, idHigh);
      answers[at + ANSWER.at.error / 4] = -errno;
      if (value !== 0) answersView.setBigInt64(at * 4 + ANSWER.at.value, BigInt(value), true);
    },
    installFd(slot, idLow, idHigh, fd, closeOnExec) {
      const at = startAnswer(slot, ANSWER_KIND.fd, idLow, idHigh);
      answers[at + ANSWER.at.fd / 4] = fd;
      answers[at + ANSWER.at.fd_flags / 4] = closeOnExec ? 0o2000000 : 0;
    },
    setShape(nr, shapes) {
      const table = new Uint8Array(SHAPE.bytes * SHAPES_PER_CALL);
      const view = new DataView(table.buffer);
      for (const [i, shape] of shapes.entries()) {
        const at = i * SHAPE.bytes;
        table[at + SHAPE.at.kind] = SHAPE_KIND[shape.kind];
        table[at + SHAPE.at.arg] = shape.arg;
        table[at + SHAPE.at.length_arg] = shape.kind === "bytes" ? shape.lengthArg : 0;
        view.setUint32(at + SHAPE.at.limit, shape.limit, true);
      }
      check("sg_engine_shape", library.engineShape(engine, nr, table), `call ${nr}`);
    },
    add(slot, kind, fd) {
      check("sg_engine_add", library.engineAdd(engine, slot, SOURCE[kind], fd), kind);
    },
    remove(slot) {
      library.engineRemove(engine, slot);
    },
    send(slot, packet, fds) {
      fdWords.set(fds);
      return library.engineSend(engine, slot, packet, packet.length, fdWords, fds.length) === 0;
    },
    isWaiting(slot, idLow, idHigh) {
      idWords[0] = idLow;
      idWords[1] = idHigh;
      return library.engineValid(engine, slot, idWords) === 1;
    },
    store(slot, idLow, idHigh, tid, address, bytes) {
      idWords[0] = idLow;
      idWords[1] = idHigh;
      return -library.engineStore(engine, slot, idWords, tid, address, bytes, bytes.length);
    },
    takeSocket(slot, idLow, idHigh, tid, fd) {
      idWords[0] = idLow;
      idWords[1] = idHigh;
      const copy = library.engineTakeSocket(engine, slot, idWords, tid, fd, kindWords);
      if (copy < 0) return -copy;
      return { fd: copy, kind: { domain: kindWords[0] ?? 0, type: kindWords[1] ?? 0, protocol: kindWords[2] ?? 0 } };
    },
    [Symbol.dispose]() {
      if (!open) return;
      open = false;
      library.engineDestroy(engine);
    },
  };
}
