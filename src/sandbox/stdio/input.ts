import { closeSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { invalidField, SandboxError } from "../../base/errors.js";

/** Input that waits for the process, in bytes, beyond what the kernel holds. */
export const maxWaitingInput = 64 * 1024;

/** Input goes to the kernel in pieces of this size, so that what was taken is known closely. */
const PIECE_BYTES = 16 * 1024;

const nothing = new Uint8Array(0);

/** How long a terminal whose input is full is left alone. */
const TERMINAL_RETRY_MS = 10;

/** What goes to a process's standard input or terminal. Bytes are addressed by their offset from the start. */
export interface InputQueue {
  /** Offset of the next byte wanted. */
  readonly next: number;
  /** Offset up to which the kernel has taken the bytes for the process. */
  readonly taken: number;
  /** Whether no more input can reach the process. */
  readonly closed: boolean;
  /**
   * Takes bytes that begin at an offset; those already here are skipped. Throws `out_of_range` when bytes are missing
   * before them, `resource_exhausted` when they are too many to wait, `failed_precondition` when the input is closed.
   */
  write(data: Uint8Array, offset: number, end: boolean): void;
  /** Takes all of the input at once, of any length, and ends it where there is an end to show. */
  feed(data: Uint8Array): void;
  dispose(): void;
}

/** What an input queue writes to. */
interface InputTarget {
  /** Writes what goes without waiting. Negative: nothing goes any more. */
  writeNow(bytes: Uint8Array): number;
  /** Calls back when it makes sense to go on; with the number of bytes that it has written meanwhile, or negative. */
  writeLater(bytes: Uint8Array, done: (written: number) => void): void;
  /** Whether an end of input can be shown to the process. */
  readonly canEnd: boolean;
  close(): void;
}

/** Input through a pipe whose write end, not blocking, this queue owns. `changed` is called when `taken` or `closed` changed. */
export function createPipeInput(fd: number, changed: () => void): InputQueue {
  // Made when the process first lets input wait: an idle pipe costs no more than its descriptor.
  let socket: Socket | undefined;
  return createInput(
    {
      writeNow: (bytes) => (socket === undefined ? writeNow(fd, bytes) : 0),
      writeLater(bytes, done) {
        if (socket === undefined) {
          socket = new Socket({ fd, readable: false, writable: true });
          socket.on("error", () => {}); // told to the callback of each write
        }
        socket.write(bytes, (error) => done(error == null ? bytes.length : -1));
      },
      canEnd: true,
      close() {
        if (socket === undefined) closeSync(fd);
        else socket.destroy();
      },
    },
    changed,
  );
}

/**
 * Input through a terminal, whose descriptor, not blocking, stays the caller's. When the program does not read, the
 * kernel's buffer is tried again after a while: libuv would wait for it in a busy loop.
 */
export function createTerminalInput(master: number, changed: () => void): InputQueue {
  let timer: NodeJS.Timeout | undefined;
  return createInput(
    {
      writeNow: (bytes) => writeNow(master, bytes),
      writeLater(_bytes, done) {
        timer = setTimeout(done, TERMINAL_RETRY_MS, 0);
      },
      canEnd: false,
      close: () => clearTimeout(timer),
    },
    changed,
  );
}

/** Input of a process that was started without any. */
export function createNoInput(): InputQueue {
  return {
    next: 0,
    taken: 0,
    closed: true,
    write() {
      throw closedInput(0);
    },
    feed() {
      throw closedInput(0);
    },
    dispose() {},
  };
}

function createInput(target: InputTarget, changed: () => void): InputQueue {
  let waiting: Uint8Array = nothing;
  let next = 0;
  let taken = 0;
  let state: "open" | "ending" | "closed" = "open";
  let writing = false;

  function close(): void {
    if (state === "closed") return;
    state = "closed";
    waiting = nothing;
    target.close();
  }

  /** Gives the kernel what it takes. Returns whether anything changed. */
  function flush(): boolean {
    let moved = false;
    while (!writing && state !== "closed") {
      if (waiting.length === 0) {
        if (state !== "ending") break;
        close();
        return true;
      }
      const piece = waiting.subarray(0, PIECE_BYTES);
      const written = target.writeNow(piece);
      if (written !== 0) {
        advance(written);
        moved = true;
        continue;
      }
      writing = true;
      target.writeLater(piece, (late) => {
        writing = false;
        if (state === "closed") return;
        if (late !== 0) advance(late);
        if (flush() || late !== 0) changed();
      });
    }
    return moved;
  }

  function advance(written: number): void {
    if (written < 0) {
      close();
      return;
    }
    taken += written;
    waiting = waiting.subarray(written);
  }

  function accept(data: Uint8Array, end: boolean): void {
    waiting = waiting.length === 0 ? data : Buffer.concat([waiting, data]);
    next += data.length;
    if (end) state = "ending";
    if (flush()) changed();
  }

  return {
    get next() {
      return next;
    },
    get taken() {
      return taken;
    },
    get closed() {
      return state === "closed";
    },
    write(data, offset, end) {
      if (end && !target.canEnd) {
        throw invalidField("input.end", "a terminal has no end of input; send its end-of-file character instead");
      }
      if (offset > next) {
        throw new SandboxError("out_of_range", `input.offset: the bytes from ${next} to ${offset} are missing`, {
          reason: "INVALID_FIELD",
          field: "input.offset",
          metadata: { expected: String(next) },
        });
      }
      const fresh = data.subarray(Math.min(data.length, next - offset));
      if (fresh.length === 0 && !(end && state === "open")) return;
      if (state !== "open") throw closedInput(next);
      if (next - taken + fresh.length > maxWaitingInput) {
        throw new SandboxError(
          "resource_exhausted",
          `the process has not read ${next - taken} bytes of its input; at most ${maxWaitingInput} may wait`,
          { field: "input.data", metadata: { expected: String(next) } },
        );
      }
      accept(fresh, end);
    },
    feed(data) {
      if (state !== "open") throw closedInput(next);
      accept(data, target.canEnd);
    },
    dispose: close,
  };
}

/** Bytes written; 0 when the kernel's buffer is full; negative when nobody reads any more. */
function writeNow(fd: number, bytes: Uint8Array): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EAGAIN" ? 0 : -1;
  }
}

function closedInput(next: number): SandboxError {
  return new SandboxError("failed_precondition", "the process's input is closed", {
    reason: "WRONG_STATE",
    field: "input",
    metadata: { expected: String(next) },
  });
}
