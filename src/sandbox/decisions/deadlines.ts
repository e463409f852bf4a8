import type { Clock } from "../../base/clock.js";
import { createDeadlineHeap, type Deadline } from "../../base/deadlines.js";

/** Many deadlines on one timer. */
export interface Deadlines<T extends Deadline> {
  /** Sets or moves the deadline of `entry`, in the clock's monotonic milliseconds. `Infinity` clears it. */
  set(entry: T, atMs: number): void;
  clear(entry: T): void;
  /** Stops the timer; nothing expires any more. */
  dispose(): void;
}

/** The timer may fire early, after its deadline was cleared: it then finds nothing due, and is set again. */
export function createDeadlines<T extends Deadline>(clock: Clock, expire: (entry: T) => void): Deadlines<T> {
  const heap = createDeadlineHeap<T>();
  let cancelTimer: (() => void) | undefined;
  let timerAtMs = Number.POSITIVE_INFINITY;

  function arm(): void {
    const nextMs = heap.nextMs();
    if (nextMs >= timerAtMs) return;
    cancelTimer?.();
    timerAtMs = nextMs;
    cancelTimer = clock.after(nextMs - clock.now(), fire);
  }

  function fire(): void {
    cancelTimer = undefined;
    timerAtMs = Number.POSITIVE_INFINITY;
    const now = clock.now();
    for (let due = heap.takeDue(now); due !== undefined; due = heap.takeDue(now)) expire(due);
    arm();
  }

  return {
    set(entry, atMs) {
      heap.set(entry, atMs);
      arm();
    },
    clear: heap.clear,
    dispose() {
      cancelTimer?.();
      cancelTimer = undefined;
      timerAtMs = Number.NEGATIVE_INFINITY;
    },
  };
}
