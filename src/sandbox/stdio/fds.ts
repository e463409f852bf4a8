import type { TerminalSize } from "../model.js";

/**
 * What the streams need of the operating system beyond `node:fs`; made by `src/native/descriptors.ts`.
 * Every descriptor is close-on-exec and belongs to the caller. Failures throw an error that names the call.
 */
export interface FdCalls {
  /** Where reads land before they are kept: one for all streams of a thread, without content between callbacks. */
  readonly scratch: Buffer;
  /** A pipe: read end, write end. */
  pipe(): readonly [number, number];
  /** A new pseudo terminal of this size. */
  openTerminal(size: TerminalSize): { readonly master: number; readonly slave: number };
  /** Sets the size and tells the foreground process group (SIGWINCH). */
  setTerminalSize(master: number, size: TerminalSize): void;
  /** Foreground process group of a terminal as seen by this process; zero when there is none. */
  terminalGroup(master: number): number;
  /** SIGINT, SIGQUIT or SIGTSTP to the foreground group, sent by the kernel itself; it accepts no other. */
  signalTerminal(master: number, signal: number): void;
  duplicate(fd: number): number;
  setNonblocking(fd: number): void;
}
