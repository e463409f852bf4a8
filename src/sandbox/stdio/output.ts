import type { ProcessSpec } from "../model.js";
import { appendToRing, createRing, type OutputRing } from "./ring.js";
import { type OutputSource, resumeSource } from "./source.js";

export type OutputStream = "stdout" | "stderr" | "terminal";

/** One output stream of a process: what is kept of it, and whether the program has to wait. Plain data, like the ring. */
export interface Output {
  readonly name: OutputStream;
  readonly ring: OutputRing;
  /** Whether the program waits rather than lose what nobody has read. */
  waits: boolean;
  /** Everything before this offset was read by somebody. */
  confirmed: number;
  /** Whether the source was told to wait. */
  full: boolean;
  ended: boolean;
  source: OutputSource | undefined;
  /** Called with the length of each appended piece. */
  onAppend: ((bytes: number) => void) | undefined;
}

export function createOutput(name: OutputStream, capacity: number, overflow: ProcessSpec["outputOverflow"]): Output {
  return {
    name,
    ring: createRing(capacity),
    waits: overflow === "wait",
    confirmed: 0,
    full: false,
    ended: false,
    source: undefined,
    onAppend: undefined,
  };
}

/** Keeps the bytes. False: no more until somebody has read enough; then the source is resumed. */
export function appendOutput(output: Output, bytes: Uint8Array): boolean {
  const { ring } = output;
  appendToRing(ring, bytes, output.waits ? output.confirmed : ring.next + bytes.length);
  output.onAppend?.(bytes.length);
  output.full = output.waits && ring.next - output.confirmed >= ring.capacity;
  return !output.full;
}

/** Says that somebody has read everything before an offset, so that it may be overwritten. */
export function confirmOutput(output: Output, offset: number): void {
  if (offset <= output.confirmed) return;
  output.confirmed = offset;
  if (!output.full || output.ring.next - offset >= output.ring.capacity) return;
  output.full = false;
  if (output.source !== undefined) resumeSource(output.source);
}
