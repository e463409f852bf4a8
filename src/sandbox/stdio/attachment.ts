import { invalidField, SandboxError } from "../../base/errors.js";
import type { InputQueue } from "./input.js";
import { confirmOutput, type Output, type OutputStream } from "./output.js";
import { readRing } from "./ring.js";

/** Output travels in pieces of at most this size. */
export const maxChunkBytes = 64 * 1024;

/** More credit than this at a time is not kept. */
const MAX_CREDIT_BYTES = 1024 * 1024 * 1024;

/** Chunks sent but not confirmed that are told apart; of more, every second is confirmed together with the next. */
const MAX_MARKS = 1024;

export interface OutputChunk {
  readonly stream: OutputStream;
  /** Offset of the first byte in the stream. */
  readonly offset: number;
  /** At most `maxChunkBytes`. */
  readonly data: Uint8Array;
  /** Bytes right before `offset` that this reader misses, because they are no longer kept. */
  readonly dropped: number;
  /** Whether the stream ends after these bytes. */
  readonly end: boolean;
}

export type AttachmentEvent =
  | { readonly kind: "output"; readonly chunk: OutputChunk }
  | { readonly kind: "input_ack"; readonly offset: number; readonly closed: boolean }
  /** Another attachment took the input; this one only reads from now on. */
  | { readonly kind: "input_lost" };

export interface AttachOptions {
  /** Empty: all that the process has. */
  readonly streams: readonly OutputStream[];
  /** Where to begin. A stream without an entry begins with what comes next. */
  readonly offsets: ReadonlyMap<OutputStream, number>;
  /** Bytes that may be taken before more credit is given. Zero: 256 KiB. */
  readonly creditBytes: number;
  /** Whether to write input. One attachment at a time may. */
  readonly input: boolean;
  /** Takes the input from whoever has it. */
  readonly takeOverInput: boolean;
}

/** One client's view of a process's streams. Slow or stuck, it disturbs no other. */
export interface Attachment extends Disposable {
  /** Offset of the next input byte. */
  readonly inputOffset: number;
  /** Oldest offset kept of each attached stream. */
  readonly oldest: ReadonlyMap<OutputStream, number>;
  /** The next thing to tell the client, or undefined when there is nothing now; then `changed` is called later. */
  take(): AttachmentEvent | undefined;
  /** Whether every attached stream was taken to its end. */
  readonly ended: boolean;
  /** Whether the process's streams were disposed of under it. */
  readonly gone: boolean;
  /** Bytes that wait only for credit. */
  readonly heldBack: number;
  /** Bytes that the client has read: as many more may be taken, and in `wait` mode they may be overwritten. */
  credit(bytes: number): void;
  /** The client can give no credit any more: what is taken counts as read. */
  creditEnded(): void;
  /** See `InputQueue.write`. Throws `failed_precondition` when this attachment does not have the input. */
  write(data: Uint8Array, offset: number, end: boolean): void;
  /** Throws what `write` throws when this attachment does not have the input. */
  requireInput(act: string): void;
}

/** What the attachments of one process share. */
export interface AttachmentHost {
  readonly outputs: readonly Output[];
  readonly input: InputQueue;
  readonly seats: Set<AttachmentSeat>;
  /** Makes this attachment the writer. Throws `failed_precondition` when there is another and `takeOver` is false. */
  claimInput(attachment: AttachmentSeat, takeOver: boolean): void;
  leave(attachment: AttachmentSeat): void;
}

/** What the host knows of an attachment. */
export interface AttachmentSeat {
  /** Something can be taken, perhaps. */
  wake(): void;
  inputLost(): void;
  hostGone(): void;
}

interface Cursor {
  readonly output: Output;
  position: number;
  endTaken: boolean;
}

/** How far each cursor was when this many bytes had been taken in all. */
interface Mark {
  readonly total: number;
  readonly positions: readonly number[];
}

export function createAttachment(host: AttachmentHost, options: AttachOptions, changed: () => void): Attachment {
  const cursors = openCursors(host.outputs, options);
  let credit = addCredit(0, options.creditBytes === 0 ? 256 * 1024 : options.creditBytes);
  let creditless = false;
  let turn = 0;
  let takenTotal = 0;
  let confirmedTotal = 0;
  let marks: Mark[] = [];
  let writer: "none" | "writing" | "lost" = "none";
  let ackedOffset = host.input.taken;
  let ackedClosed = false;
  let gone = false;

  const seat: AttachmentSeat = {
    wake: changed,
    inputLost() {
      writer = "lost";
      changed();
    },
    hostGone() {
      gone = true;
      changed();
    },
  };
  if (options.input) {
    host.claimInput(seat, options.takeOverInput);
    writer = "writing";
  }

  function takeInputEvent(): AttachmentEvent | undefined {
    if (writer === "lost") {
      writer = "none";
      return { kind: "input_lost" };
    }
    if (writer !== "writing") return undefined;
    const { taken, closed } = host.input;
    if (taken === ackedOffset && closed === ackedClosed) return undefined;
    ackedOffset = taken;
    ackedClosed = closed;
    return { kind: "input_ack", offset: taken, closed };
  }

  /** Streams take turns, so that a busy one does not hide the other. */
  function takeOutputEvent(): AttachmentEvent | undefined {
    for (let step = 0; step < cursors.length; step++) {
      const cursor = cursors[(turn + step) % cursors.length];
      const chunk = cursor === undefined ? undefined : takeChunk(cursor);
      if (chunk === undefined) continue;
      turn = (turn + step + 1) % cursors.length;
      return { kind: "output", chunk };
    }
    return undefined;
  }

  function takeChunk(cursor: Cursor): OutputChunk | undefined {
    if (cursor.endTaken) return undefined;
    const { ring, name } = cursor.output;
    const offset = Math.max(cursor.position, ring.oldest);
    const length = Math.min(ring.next - offset, maxChunkBytes, credit);
    const end = cursor.output.ended && offset + length === ring.next;
    if (length === 0 && !end) return undefined;
    const dropped = offset - cursor.position;
    const data = readRing(ring, offset, length);
    cursor.position = offset + length;
    cursor.endTaken = end;
    credit -= length;
    takenTotal += length;
    if (creditless) confirmOutput(cursor.output, cursor.position);
    else if (length > 0) mark();
    return { stream: name, offset, data, dropped, end };
  }

  function mark(): void {
    if (marks.length === MAX_MARKS) marks = marks.filter((_, index) => index % 2 === 1);
    marks.push({ total: takenTotal, positions: cursors.map((cursor) => cursor.position) });
  }

  function confirmUpTo(total: number): void {
    let reached: Mark | undefined;
    while (marks[0] !== undefined && marks[0].total <= total) reached = marks.shift();
    cursors.forEach(({ output }, index) => {
      confirmOutput(output, reached?.positions[index] ?? 0);
    });
  }

  const attachment: Attachment = {
    inputOffset: host.input.next,
    oldest: new Map(cursors.map(({ output }) => [output.name, output.ring.oldest])),
    take: () => takeInputEvent() ?? takeOutputEvent(),
    get ended() {
      return cursors.every((cursor) => cursor.endTaken);
    },
    get gone() {
      return gone;
    },
    get heldBack() {
      if (credit > 0) return 0;
      return cursors.reduce(
        (sum, { output, position }) => sum + output.ring.next - Math.max(position, output.ring.oldest),
        0,
      );
    },
    credit(bytes) {
      credit = addCredit(credit, bytes);
      confirmedTotal += bytes;
      confirmUpTo(confirmedTotal);
      changed();
    },
    creditEnded() {
      creditless = true;
      credit = Number.MAX_SAFE_INTEGER;
      confirmUpTo(takenTotal);
      changed();
    },
    write(data, offset, end) {
      attachment.requireInput("write input");
      host.input.write(data, offset, end);
    },
    requireInput(act) {
      if (writer === "writing") return;
      throw new SandboxError("failed_precondition", `this attachment does not have the input, so it cannot ${act}`, {
        reason: "WRONG_STATE",
      });
    },
    [Symbol.dispose]() {
      host.leave(seat);
    },
  };
  host.seats.add(seat);
  return attachment;
}

function openCursors(outputs: readonly Output[], options: AttachOptions): readonly Cursor[] {
  const names = options.streams.length === 0 ? outputs.map((output) => output.name) : [...new Set(options.streams)];
  return names.map((name) => {
    const output = outputs.find((candidate) => candidate.name === name);
    if (output === undefined) {
      throw invalidField(
        "open.streams",
        `the process has no ${name}; it has ${outputs.map((each) => each.name).join(", ")}`,
      );
    }
    const position = options.offsets.get(name) ?? output.ring.next;
    if (position > output.ring.next) {
      throw new SandboxError("out_of_range", `open.offsets: ${name} has only ${output.ring.next} bytes so far`, {
        reason: "INVALID_FIELD",
        field: "open.offsets",
        metadata: { available: String(output.ring.next) },
      });
    }
    return { output, position, endTaken: false };
  });
}

function addCredit(credit: number, bytes: number): number {
  return credit > MAX_CREDIT_BYTES ? credit : Math.min(MAX_CREDIT_BYTES, credit + bytes);
}
