/** Things that must happen by a time, earliest first. A removed entry is skipped when its time comes. */
export interface Deadlines<T extends object> {
  set(item: T, timeMs: number): void;
  clear(item: T): void;
  /** Milliseconds from `nowMs` to the earliest, rounded up; -1 when there is none. */
  untilNext(nowMs: number): number;
  /** Removes and returns one item whose time has come, or undefined. */
  takeDue(nowMs: number): T | undefined;
}

interface Entry<T> {
  readonly item: T;
  readonly timeMs: number;
}

/** A binary heap with lazy removal: setting and clearing cost O(log n) at most. */
export function createDeadlines<T extends object>(): Deadlines<T> {
  const heap: Entry<T>[] = [];
  const current = new Map<T, Entry<T>>();

  function swap(a: number, b: number): void {
    const entry = heap[a] as Entry<T>;
    heap[a] = heap[b] as Entry<T>;
    heap[b] = entry;
  }

  function timeAt(index: number): number {
    return heap[index]?.timeMs ?? Number.POSITIVE_INFINITY;
  }

  function popTop(): void {
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    heap[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const child = timeAt(left) <= timeAt(left + 1) ? left : left + 1;
      if (timeAt(child) >= timeAt(at)) return;
      swap(at, child);
      at = child;
    }
  }

  /** The earliest entry that still counts. */
  function top(): Entry<T> | undefined {
    for (let entry = heap[0]; entry !== undefined; entry = heap[0]) {
      if (current.get(entry.item) === entry) return entry;
      popTop();
    }
    return undefined;
  }

  return {
    set(item, timeMs) {
      const entry: Entry<T> = { item, timeMs };
      current.set(item, entry);
      heap.push(entry);
      for (let at = heap.length - 1; at > 0; ) {
        const parent = (at - 1) >> 1;
        if (timeAt(parent) <= timeMs) return;
        swap(at, parent);
        at = parent;
      }
    },
    clear(item) {
      current.delete(item);
      // Cleared entries wait in the heap for their time; do not let them outnumber the live ones.
      if (heap.length > 64 && heap.length > 4 * current.size) {
        const live = heap.filter((entry) => current.get(entry.item) === entry).sort((a, b) => a.timeMs - b.timeMs);
        heap.splice(0, heap.length, ...live);
      }
    },
    untilNext(nowMs) {
      const entry = top();
      return entry === undefined ? -1 : Math.max(0, Math.ceil(entry.timeMs - nowMs));
    },
    takeDue(nowMs) {
      const entry = top();
      if (entry === undefined || entry.timeMs > nowMs) return undefined;
      current.delete(entry.item);
      popTop();
      return entry.item;
    },
  };
}
