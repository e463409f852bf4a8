/** What a full queue does with one item more. */
export type WhenFull = "refuse" | "drop_oldest";

/** Items from one or more producers to one reader. Iterating takes them; a second reader is an error. */
export interface BoundedQueue<Item> extends AsyncIterable<Item> {
  readonly size: number;
  /** Items lost to `drop_oldest` so far. */
  readonly dropped: number;
  /** False when the item was not taken: the queue is full and refuses, or it has ended. */
  push(item: Item): boolean;
  /** The reader gets what is queued, then the end. */
  end(): void;
  /** The reader gets what is queued, then `error`. */
  fail(error: unknown): void;
}

type Ending = { readonly kind: "end" } | { readonly kind: "error"; readonly error: unknown };

/** A queue of at most `capacity` items. */
export function createBoundedQueue<Item>(capacity: number, whenFull: WhenFull): BoundedQueue<Item> {
  if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError(`not a capacity: ${capacity}`);
  let items: Item[] = [];
  let head = 0;
  let dropped = 0;
  let ending: Ending | undefined;
  let reading = false;
  let wake: (() => void) | undefined;

  const notify = (): void => {
    wake?.();
    wake = undefined;
  };
  const finish = (how: Ending): void => {
    ending ??= how;
    notify();
  };
  const shift = (): Item => {
    const item = items[head] as Item;
    head += 1;
    // Taken items are let go in one piece, so that a shift costs the same however long the queue is.
    if (head > capacity) {
      items = items.slice(head);
      head = 0;
    }
    return item;
  };

  async function* read(): AsyncGenerator<Item> {
    if (reading) throw new Error("a bounded queue has one reader");
    reading = true;
    try {
      for (;;) {
        while (items.length > head) yield shift();
        if (ending?.kind === "error") throw ending.error;
        if (ending !== undefined) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      // Without its reader, nothing would ever be taken again.
      ending ??= { kind: "end" };
      items = [];
      head = 0;
    }
  }

  return {
    get size() {
      return items.length - head;
    },
    get dropped() {
      return dropped;
    },
    push(item) {
      if (ending !== undefined) return false;
      if (items.length - head >= capacity) {
        if (whenFull === "refuse") return false;
        shift();
        dropped += 1;
      }
      items.push(item);
      notify();
      return true;
    },
    end: () => finish({ kind: "end" }),
    fail: (error) => finish({ kind: "error", error }),
    [Symbol.asyncIterator]: read,
  };
}
