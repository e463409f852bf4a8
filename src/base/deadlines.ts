/** What has a deadline keeps its place in the heap itself. Begins as `noDeadline`; only its heap changes it. */
export interface Deadline {
  /** When it is due, or `Infinity`. */
  dueAtMs: number;
  /** Index in the heap, or -1. */
  duePlace: number;
}

export const noDeadline: Readonly<Deadline> = { dueAtMs: Number.POSITIVE_INFINITY, duePlace: -1 };

/** Deadlines, earliest first. Times are of one clock, in milliseconds. */
export interface DeadlineHeap<T extends Deadline> {
  /** Sets or moves the deadline of `entry`. `Infinity` clears it. */
  set(entry: T, atMs: number): void;
  clear(entry: T): void;
  /** The earliest deadline, or `Infinity`. */
  nextMs(): number;
  /** Removes and returns one entry that is due, or undefined. */
  takeDue(nowMs: number): T | undefined;
}

/** A binary heap. A cleared deadline leaves it at once, so its size is the number of deadlines that are set. */
export function createDeadlineHeap<T extends Deadline>(): DeadlineHeap<T> {
  const heap: T[] = [];

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

  function clear(entry: T): void {
    remove(entry);
    entry.dueAtMs = Number.POSITIVE_INFINITY;
  }

  return {
    set(entry, atMs) {
      if (atMs === entry.dueAtMs && entry.duePlace >= 0) return;
      clear(entry);
      entry.dueAtMs = atMs;
      if (atMs === Number.POSITIVE_INFINITY) return;
      heap.push(entry);
      rise(entry, heap.length - 1);
    },
    clear,
    nextMs: () => heap[0]?.dueAtMs ?? Number.POSITIVE_INFINITY,
    takeDue(nowMs) {
      const first = heap[0];
      if (first === undefined || first.dueAtMs > nowMs) return undefined;
      clear(first);
      return first;
    },
  };
}
