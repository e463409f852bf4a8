import type { Settlement, VerdictSource } from "../model.js";
import type { AutomaticSettlement } from "../ports.js";
import type { FromEngine } from "./protocol.js";

/** Records that may be on their way at a time. */
const UNDER_WAY = 8192;
/** Losses and counts are told to the main thread no more often than this. */
const DELAY_MS = 100;

/** What is told of calls that the engine settles by itself. It never waits: what the main thread is too slow for is lost. */
export interface Records {
  /** A call whose sandbox wants it recorded. Made only where there is room. */
  add(sandboxId: string, make: () => AutomaticSettlement): void;
  /** Any call that was settled here. */
  count(source: VerdictSource, outcome: Settlement["kind"]): void;
}

export interface RecordsOptions {
  readonly post: (message: FromEngine) => void;
  readonly after: (delayMs: number, act: () => void) => void;
  /** How many records the main thread has taken, as it counts them; it wraps. */
  readonly taken: Int32Array;
  /** Whether anybody looks at the counts. */
  readonly counting: boolean;
}

export function createRecords({ post, after, taken, counting }: RecordsOptions): Records {
  let posted = 0;
  let lost = new Map<string, number>();
  let counts = new Map<string, number>();

  function tellLost(): void {
    post({ kind: "records_lost", bySandbox: lost });
    lost = new Map();
  }

  function tellCounts(): void {
    post({ kind: "settled", counts });
    counts = new Map();
  }

  return {
    add(sandboxId, make) {
      const underWay = (posted - Atomics.load(taken, 0)) | 0;
      if (underWay >= UNDER_WAY) {
        if (lost.size === 0) after(DELAY_MS, tellLost);
        lost.set(sandboxId, (lost.get(sandboxId) ?? 0) + 1);
        return;
      }
      posted = (posted + 1) | 0;
      post({ kind: "automatic", settled: make() });
    },
    count(source, outcome) {
      if (!counting) return;
      if (counts.size === 0) after(DELAY_MS, tellCounts);
      const key = `${source} ${outcome}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    },
  };
}
