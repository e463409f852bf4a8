import type { Clock } from "../../base/clock.js";

/** Many deadlines on one timer. */
export interface Deadlines<T extends Deadline> {
  /** Sets or moves the deadline of `entry`, in the clock's monotonic milliseconds. `Infinity` clears it. */
  set(entry: T, atMs: number): void;
  clear(entry: T): void;
  /** Stops the timer; nothing expires any more. */
  dispose(): void;
}

/** What has a deadline keeps its place in the heap itself. Begins as `noDeadline`; only `Deadlines` changes it. */
export interface Deadline {
  /** When it is due, or `Infinity`. */
  dueAtMs: number;
  /** Index in the heap, or -1. */
  duePlace: number;
}

export const noDeadline: Readonly<Deadline> = { dueAtMs: Number.POSITIVE_INFINITY, duePlace: -1 };

/**
 * A binary heap under one timer. A cleared deadline leaves the heap at once, so its size is the number of
 * deadlines that are set; the timer may then fire early, finds nothing due, and is set again.
 */
export function createDeadlines<T extends Deadline>(clock: Clock, expire: (entry: T) => void): Deadlines<T> {
  const heap: T[] = [];
  let cancelTimer: (() => void) | undefined;
  let timerAtMs = Number.POSITIVE_INFINITY;

  function put(entry: T, place: number): void {
    heap[place] = entry;
    entry.duePlace = place;
  }

  function rise(entry: T, from: number): number {
    let place = from;
    while (place > 0) {
      const parent = heap[(place - 1) >> 1];
      if (parent === undefined || parent.dueAtMs <= entry.dueAtMs) break;
      put(parent, place);
      place = (place - 1) >> 1;
    }
    put(entry, place);
    return place;
  }

  function sink(entry: T, from: number): void {
    let place = from;
    for (;;) {
      const left = heap[2 * place + 1];
      const right = heap[2 * place + 2];
      const child = right !== undefined && left !== undefined && right.dueAtMs < left.dueAtMs ? right : left;
      if (child === undefined || child.dueAtMs >= entry.dueAtMs) break;
      const vacated = child.duePlace;
      put(child, place);
      place = vacated;
    }
    put(entry, place);
  }

  function remove(entry: T): void {
    const place = entry.duePlace;
    if (place < 0) return;
    entry.duePlace = -1;
    const last = heap.pop();
    if (last === undefined || last === entry) return;
    if (rise(last, place) === place) sink(last, place);
  }

  function arm(): void {
    const first = heap[0];
    if (first === undefined || first.dueAtMs >= timerAtMs) return;
    cancelTimer?.();
    timerAtMs = first.dueAtMs;
    cancelTimer = clock.after(first.dueAtMs - clock.now(), fire);
  }

  function fire(): void {
    cancelTimer = undefined;
    timerAtMs = Number.POSITIVE_INFINITY;
    const now = clock.now();
    for (let first = heap[0]; first !== undefined && first.dueAtMs <= now; first = heap[0]) {
      remove(first);
      first.dueAtMs = Number.POSITIVE_INFINITY;
      expire(first);
    }
    arm();
  }

  return {
    set(entry, atMs) {
      if (atMs === entry.dueAtMs && entry.duePlace >= 0) return;
      remove(entry);
      entry.dueAtMs = atMs;
      if (atMs === Number.POSITIVE_INFINITY) return;
      heap.push(entry);
      rise(entry, heap.length - 1);
      arm();
    },
    clear(entry) {
      remove(entry);
      entry.dueAtMs = Number.POSITIVE_INFINITY;
    },
    dispose() {
      cancelTimer?.();
      cancelTimer = undefined;
      timerAtMs = Number.NEGATIVE_INFINITY;
    },
  };
}
