import { spawnSync } from "node:child_process";
import type { Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";

/** A terminal or other stream that both the program and a question read from, never at the same time. */
export interface SharedInput {
  readonly isTerminal: boolean;
  /** Gives all further bytes to the program; undefined is the end of the input. On a terminal with `raw`, keys go through as they are. */
  connect(handler: (chunk: Uint8Array | undefined) => void, raw: boolean): void;
  /** Backpressure of the program's side; questions are read regardless. */
  setProgramPaused(paused: boolean): void;
  /** Takes the input from the program: what was typed before still goes to the program. One borrower at a time. */
  borrow(): Promise<BorrowedInput>;
  /** Restores the terminal and stops reading. */
  close(): void;
}

export interface BorrowedInput {
  /** Undefined at the end of the input. Throws the signal's reason when it aborts. */
  readLine(signal: AbortSignal): Promise<string | undefined>;
  /** Gives the input back to the program. */
  release(): void;
}

interface RawCapable {
  setRawMode?(on: boolean): unknown;
  readonly isTTY?: boolean;
  unref?(): unknown;
}

/** Owns `stream` until closed. `onRaw` is called each time that its terminal was put into raw mode. */
export function createSharedInput(stream: Readable & RawCapable, onRaw: () => void = () => undefined): SharedInput {
  let toProgram: ((chunk: Uint8Array | undefined) => void) | undefined;
  let rawForProgram = false;
  let programPaused = false;
  let ended = false;
  let started = false;
  let borrower: { buffered: string; wake: (() => void) | undefined } | undefined;

  const isTerminal = stream.isTTY === true && stream.setRawMode !== undefined;
  const setRaw = (on: boolean) => {
    if (!isTerminal) return;
    stream.setRawMode?.(on);
    if (on) onRaw();
  };
  const applyFlow = () => {
    if (ended) return;
    if (borrower === undefined && (programPaused || toProgram === undefined)) stream.pause();
    else stream.resume();
  };
  const onData = (chunk: Uint8Array) => {
    if (borrower === undefined) {
      toProgram?.(chunk);
      return;
    }
    borrower.buffered += Buffer.from(chunk).toString("utf8");
    borrower.wake?.();
  };
  const onEnd = () => {
    if (ended) return;
    ended = true;
    borrower?.wake?.();
    toProgram?.(undefined);
  };
  const start = () => {
    if (started) return;
    started = true;
    stream.on("data", onData);
    stream.on("end", onEnd);
    stream.on("error", onEnd); // a terminal that hung up reads as EIO
  };

  return {
    isTerminal,
    connect(handler, raw) {
      toProgram = handler;
      rawForProgram = raw;
      start();
      if (borrower === undefined) setRaw(raw);
      if (ended) handler(undefined);
      applyFlow();
    },
    setProgramPaused(paused) {
      programPaused = paused;
      applyFlow();
    },
    async borrow() {
      if (borrower !== undefined) throw new Error("the input is already borrowed");
      start();
      // Two turns of the event loop read what was typed before the question and hand it to the program.
      await nextTurn();
      await nextTurn();
      const mine = { buffered: "", wake: undefined as (() => void) | undefined };
      borrower = mine;
      setRaw(false);
      applyFlow();
      return {
        async readLine(signal) {
          for (;;) {
            signal.throwIfAborted();
            const newline = mine.buffered.indexOf("\n");
            if (newline >= 0) {
              const line = mine.buffered.slice(0, newline);
              mine.buffered = mine.buffered.slice(newline + 1);
              return line;
            }
            if (ended) return mine.buffered === "" ? undefined : takeRest(mine);
            await woken(mine, signal);
          }
        },
        release() {
          if (borrower !== mine) return;
          borrower = undefined;
          setRaw(rawForProgram);
          applyFlow();
        },
      };
    },
    close() {
      setRaw(false);
      toProgram = undefined;
      stream.off("data", onData);
      stream.off("end", onEnd);
      stream.pause();
      stream.unref?.();
    },
  };
}

function takeRest(borrowed: { buffered: string }): string {
  const rest = borrowed.buffered;
  borrowed.buffered = "";
  return rest;
}

function woken(borrowed: { wake: (() => void) | undefined }, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      borrowed.wake = undefined;
      signal.removeEventListener("abort", done);
      resolve();
    };
    borrowed.wake = done;
    signal.addEventListener("abort", done, { once: true });
  });
}

/**
 * Node's raw mode still turns each newline written to the terminal into two characters, which the program's own
 * terminal has done already, or was told not to do. Leaving raw mode undoes this too.
 */
export function passOutputUnchanged(): void {
  spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
}
