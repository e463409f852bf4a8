import type { Clock } from "../../base/clock.js";

/** Many deadlines on one timer. */
export interface Deadlines<T> {
  /** Sets or moves the deadline of `entry`, in the clock's monotonic milliseconds. `Infinity` clears it. */
  set(entry: Deadline<T>, atMs: number): void;
  clear(entry: Deadline<T>): void;
  /** Stops the timer; nothing expires any more. */
  dispose(): void;
}

/** One place in the heap. Made by `deadlineFor`; only `Deadlines` changes it. */
export interface Deadline<T> {
  readonly value: T;
  atMs: number;
  /** Index in the heap, or -1. */
  place: number;
}

export function deadlineFor<T>(value: T): Deadline<T> {
  return { value, atMs: Number.POSITIVE_INFINITY, place: -1 };
}

/**
 * A binary heap under one timer. A cleared deadline leaves the heap at once, so its size is the number of
 * deadlines that are set; the timer may then fire early, finds nothing due, and is set again.
 */
export function createDeadlines<T>(clock: Clock, expire: (value: T) => void): Deadlines<T> {
  const heap: Deadline<T>[] = [];
  let cancelTimer: (() => void) | undefined;
  let timerAtMs = Number.POSITIVE_INFINITY;

  function put(entry: Deadline<T>, place: number): void {
    heap[place] = entry;
    entry.place = place;
  }

  function rise(entry: Deadline<T>, from: number): number {
    let place = from;
    while (place > 0) {
      const parent = heap[(place - 1) >> 1];
      if (parent === undefined || parent.atMs <= entry.atMs) break;
      put(parent, place);
      place = (place - 1) >> 1;
    }
    put(entry, place);
    return place;
  }

  function sink(entry: Deadline<T>, from: number): void {
    let place = from;
    for (;;) {
      const left = heap[2 * place + 1];
      const right = heap[2 * place + 2];
      const child = right !== undefined && left !== undefined && right.atMs < left.atMs ? right : left;
      if (child === undefined || child.atMs >= entry.atMs) break;
      const vacated = child.place;
      put(child, place);
      place = vacated;
    }
    put(entry, place);
  }

  function remove(entry: Deadline<T>): void {
    const { place } = entry;
    if (place < 0) return;
    entry.place = -1;
    const last = heap.pop();
    if (last === undefined || last === entry) return;
    if (rise(last, place) === place) sink(last, place);
  }

  function arm(): void {
    const first = heap[0];
    if (first === undefined || first.atMs >= timerAtMs) return;
    cancelTimer?.();
    timerAtMs = first.atMs;
    cancelTimer = clock.after(first.atMs - clock.now(), fire);
  }

  function fire(): void {
    cancelTimer = undefined;
    timerAtMs = Number.POSITIVE_INFINITY;
    const now = clock.now();
    for (let first = heap[0]; first !== undefined && first.atMs <= now; first = heap[0]) {
      remove(first);
      first.atMs = Number.POSITIVE_INFINITY;
      expire(first.value);
    }
    arm();
  }

  return {
    set(entry, atMs) {
      if (atMs === entry.atMs && entry.place >= 0) return;
      remove(entry);
      entry.atMs = atMs;
      if (atMs === Number.POSITIVE_INFINITY) return;
      heap.push(entry);
      rise(entry, heap.length - 1);
      arm();
    },
    clear(entry) {
      remove(entry);
      entry.atMs = Number.POSITIVE_INFINITY;
    },
    dispose() {
      cancelTimer?.();
      cancelTimer = undefined;
      timerAtMs = Number.NEGATIVE_INFINITY;
    },
  };
}
