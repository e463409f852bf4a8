import type { EngineLoop } from "../../engine/loop.js";
import type { Tasks } from "../../native/task.js";

/**
 * A held call is not disturbed by signals, but some calls are meant to be: a program sets an alarm to bound a connect.
 * Nothing tells of a signal that waits, so those who wait long are looked at in turn.
 */
export interface Interrupts {
  /** Calls `onSignal` once, when a signal waits for the thread. Returns how to stop looking. */
  watch(tid: number, onSignal: () => void): () => void;
}

const LOOK_MS = 10;
/** Each look reads a file of /proc, so that many waiting calls are looked at less often, not at a higher price. */
const LOOKS = 8;

interface Watched {
  readonly tid: number;
  readonly onSignal: () => void;
}

export function createInterrupts<Sandbox>(loop: EngineLoop<Sandbox>, tasks: Tasks): Interrupts {
  /** In the order in which they are looked at next. */
  const watched = new Set<Watched>();
  let looking = false;

  function look(): void {
    looking = false;
    for (const each of [...firstOf(watched, LOOKS)]) {
      watched.delete(each);
      if (tasks.hasSignal(each.tid)) each.onSignal();
      else watched.add(each);
    }
    lookLater();
  }

  function lookLater(): void {
    if (looking || watched.size === 0) return;
    looking = true;
    loop.after(LOOK_MS, look);
  }

  return {
    watch(tid, onSignal) {
      const each: Watched = { tid, onSignal };
      watched.add(each);
      lookLater();
      return () => {
        watched.delete(each);
      };
    },
  };
}

function* firstOf<T>(values: Iterable<T>, count: number): Iterable<T> {
  let left = count;
  for (const value of values) {
    if (left-- === 0) return;
    yield value;
  }
}
