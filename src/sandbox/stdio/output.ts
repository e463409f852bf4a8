import type { ProcessSpec } from "../model.js";
import type { OutputState, OutputStream } from "./attachment.js";
import { createRing } from "./ring.js";

/** One output stream of a process: what is kept of it, and when the program has to wait. */
export interface Output extends OutputState {
  /** Keeps the bytes. False: no more until `whenRoom`'s callback. */
  append(bytes: Uint8Array): boolean;
  end(): void;
  /** What to do when there is room again. */
  whenRoom(callback: () => void): void;
  /** Makes the program wait rather than lose what nobody has read. */
  makeWait(): void;
  /** Called with the length of each appended piece. */
  onAppend: ((bytes: number) => void) | undefined;
  dispose(): void;
}

export function createOutput(name: OutputStream, capacity: number, overflow: ProcessSpec["outputOverflow"]): Output {
  const ring = createRing(capacity);
  let waits = overflow === "wait";
  let confirmed = 0;
  let ended = false;
  let full = false;
  let resume = (): void => {};

  const output: Output = {
    name,
    ring,
    onAppend: undefined,
    get ended() {
      return ended;
    },
    append(bytes) {
      ring.append(bytes, waits ? confirmed : ring.next + bytes.length);
      output.onAppend?.(bytes.length);
      full = waits && ring.next - confirmed >= capacity;
      return !full;
    },
    confirm(offset) {
      if (offset <= confirmed) return;
      confirmed = offset;
      if (!full || ring.next - confirmed >= capacity) return;
      full = false;
      resume();
    },
    end() {
      ended = true;
    },
    whenRoom(callback) {
      resume = callback;
    },
    makeWait() {
      waits = true;
    },
    dispose() {
      ended = true;
      ring.clear();
    },
  };
  return output;
}
