import type { Clock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { DomainEvent } from "../model.js";
import type { JournalEntry, JournalSlot, LostEvents } from "./entry.js";
import { createFold, type Fold } from "./fold.js";
import type { Aggregation, EventKind, Gap, GapCause, WatchBatch, WatchOptions } from "./watch.js";

const defaultBuffer = 8192;
/** More in one message is no faster. */
const batchLimit = 64;
const maxBatchBytes = 256 * 1024;
/** Events that one watcher may look at in one turn of the event loop. */
const scanBudget = 4096;

const done: IteratorResult<WatchBatch> = { done: true, value: undefined };
const noCounts: ReadonlyMap<JournalEntry, number> = new Map();

/** The journal's ring, as a watcher reads it. */
export interface Ring {
  readonly epoch: string;
  readonly capacity: number;
  readonly clock: Clock;
  /** Sequence of the last event. */
  last(): number;
  at(sequence: number): JournalSlot | undefined;
}

/** One watcher's place in the ring. */
export interface Watcher {
  /** Everything up to here was considered. */
  readonly position: number;
  /** Lag at which it is moved on. While it works through the backlog, only the ring's end moves it. */
  readonly buffer: number;
  readonly isCaughtUp: boolean;
  /** Moves it past events that it did not take, and counts what it would have been sent. */
  moveOn(to: number): void;
  /** There is something new. */
  wake(): void;
  readonly batches: AsyncIterableIterator<WatchBatch>;
}

export interface WatcherOptions {
  readonly ring: Ring;
  readonly watching: WatchOptions;
  readonly isWanted: (event: DomainEvent) => boolean;
  /** Whether some of the lost events may have been wanted. */
  readonly mayWant: (loss: LostEvents) => boolean;
  /** Told of what the watcher wanted and is not sent. */
  readonly onLost: (cause: GapCause, count: number) => void;
  readonly position: number;
  /** Sent before all else. */
  readonly snapshots: readonly JournalEntry[];
  readonly signal: AbortSignal;
  onEnd(): void;
}

type MutableGap = { first: number; last: number; lost: number; lostByKind: Map<EventKind, number>; cause: GapCause };

/** Events that are being folded, and the place that a reader resumes from while they were not sent. */
interface Window {
  readonly fold: Fold;
  readonly after: number;
  readonly closesAtMs: number;
  /** The last event that was looked at for it. */
  until: number;
}

export function createWatcher(options: WatcherOptions): Watcher {
  const { ring, watching, isWanted, mayWant, onLost, signal, onEnd } = options;
  const { epoch, clock, at, last } = ring;
  const { aggregation } = watching;
  const maxBatch = watching.maxBatch > 0 ? Math.min(watching.maxBatch, batchLimit) : batchLimit;
  const buffer = Math.min(watching.buffer > 0 ? watching.buffer : defaultBuffer, ring.capacity);
  /** Events that wait are sent before their delay is over when there are this many. */
  const enough = Math.max(1, Math.min(maxBatch, buffer >> 1));
  let snapshots = options.snapshots;
  let position = options.position;
  let isCaughtUp = false;
  let parked: { resolve(result: IteratorResult<WatchBatch>): void; reject(error: unknown): void } | undefined;
  let cancelTimer: (() => void) | undefined;
  let isWaking = false;
  let hasEnded = false;
  let failure: SandboxError | undefined;
  let gaps: MutableGap[] = [];
  let sentAtMs = clock.now();
  /** Until when to wait for a fuller message. Undefined while there is nothing to send. */
  let fillUntilMs: number | undefined;
  let window: Window | undefined;

  function addGap(sequence: number, kind: EventKind, count: number, cause: GapCause): void {
    onLost(cause, count);
    let gap = gaps.at(-1);
    if (gap?.cause !== cause) {
      gap = { first: sequence, last: sequence, lost: 0, lostByKind: new Map(), cause };
      gaps.push(gap);
    }
    gap.last = sequence;
    gap.lost += count;
    gap.lostByKind.set(kind, (gap.lostByKind.get(kind) ?? 0) + count);
  }

  function moveOn(to: number): void {
    while (position < to) {
      const slot = at(position + 1);
      position += 1;
      if (slot === undefined || !concerns(slot)) continue;
      if ("loss" in slot) {
        noteLoss(slot);
        continue;
      }
      if (watching.overflow === "disconnect") failure ??= tooSlow(epoch, slot.sequence - 1);
      addGap(slot.sequence, slot.event.body.kind, 1, "reader");
    }
  }

  function concerns(slot: JournalSlot): boolean {
    return "loss" in slot ? mayWant(slot.loss) : isWanted(slot.event);
  }

  function noteLoss({ sequence, loss }: Extract<JournalSlot, { loss: LostEvents }>): void {
    addGap(sequence, loss.kind, loss.count, "journal");
  }

  /** Passes over what is not wanted. False when there is more to pass over than one turn may take. */
  function passUnwanted(): boolean {
    for (let budget = scanBudget; position < last(); budget -= 1) {
      const slot = at(position + 1);
      if (slot !== undefined && concerns(slot)) return true;
      if (budget === 0) return false;
      position += 1;
    }
    return true;
  }

  /** Events up to the next loss, which goes in front of those after it. */
  function takeEvents(): JournalEntry[] {
    const taken: JournalEntry[] = [];
    let size = 0;
    for (let budget = scanBudget; position < last() && budget > 0; budget -= 1) {
      if (taken.length >= maxBatch || size >= maxBatchBytes) break;
      const slot = at(position + 1);
      if (slot !== undefined && concerns(slot)) {
        if ("loss" in slot) {
          if (taken.length > 0) break;
          noteLoss(slot);
        } else {
          taken.push(slot);
          size += slot.bytes;
        }
      }
      position += 1;
    }
    return taken;
  }

  function takeGaps(): readonly Gap[] {
    const taken = gaps;
    gaps = [];
    return taken;
  }

  function batch(
    events: readonly JournalEntry[],
    { cursor = position, counts = noCounts, gaps: before = takeGaps() } = {},
  ): WatchBatch {
    const caughtUp = !isCaughtUp && snapshots.length === 0 && cursor === last();
    if (caughtUp) isCaughtUp = true;
    fillUntilMs = undefined;
    sentAtMs = clock.now();
    return { gaps: before, events, counts, cursor: { epoch, sequence: cursor }, caughtUp, pending: last() - cursor };
  }

  /** The next batch, when there is cause for one. */
  function take(): WatchBatch | undefined {
    if (snapshots.length > 0) {
      const events = snapshots.slice(0, maxBatch);
      snapshots = snapshots.slice(maxBatch);
      return batch(events);
    }
    return aggregation === undefined ? takeNext() : takeFolded(aggregation);
  }

  function takeNext(): WatchBatch | undefined {
    const passed = passUnwanted();
    if (position < last() && passed) {
      if (gaps.length === 0 && isCaughtUp && last() - position < enough) {
        fillUntilMs ??= clock.now() + watching.maxDelayMs;
        if (clock.now() < fillUntilMs) return undefined;
      }
      return batch(takeEvents());
    }
    return takeIdle(passed, position);
  }

  function takeFolded(folding: Aggregation): WatchBatch | undefined {
    const scan = foldOn(folding);
    if (window !== undefined) {
      const isBacklog = !isCaughtUp && scan === "to_end";
      if (isBacklog || scan === "full" || gaps.length > 0 || clock.now() >= window.closesAtMs) {
        const { fold, until } = window;
        window = undefined;
        // What was skipped meanwhile comes after the window.
        return batch(fold.entries, { cursor: until, counts: fold.counts, gaps: [] });
      }
    }
    return takeIdle(scan === "to_end", window?.after ?? position);
  }

  /** Takes events into the window until it is full or over, up to the end, or as far as one turn may go. */
  function foldOn(folding: Aggregation): "full" | "to_end" | "paused" {
    if (gaps.length > 0) return "to_end";
    for (let budget = scanBudget; position < last(); budget -= 1) {
      if (budget === 0) return "paused";
      const slot = at(position + 1);
      if (slot !== undefined && concerns(slot)) {
        if ("loss" in slot) {
          if (window !== undefined) return "full";
          noteLoss(slot);
          position += 1;
          return "to_end";
        }
        window ??= {
          fold: createFold(folding, { maxEntries: maxBatch, maxBytes: maxBatchBytes }),
          after: position,
          until: position,
          closesAtMs: clock.now() + folding.windowMs,
        };
        if (!window.fold.add(slot)) return "full";
      }
      position += 1;
      if (window !== undefined) window.until = position;
    }
    return "to_end";
  }

  /** A batch without events, when there is cause for one. */
  function takeIdle(passed: boolean, cursor: number): WatchBatch | undefined {
    if (window === undefined && (gaps.length > 0 || (!isCaughtUp && passed))) return batch([], { cursor });
    if (!passed) setImmediate(wake);
    return clock.now() - sentAtMs >= watching.progressIntervalMs ? batch([], { cursor }) : undefined;
  }

  function next(): Promise<IteratorResult<WatchBatch>> | undefined {
    if (hasEnded) return Promise.resolve(done);
    if (failure !== undefined) {
      end();
      return Promise.reject(failure);
    }
    const value = take();
    return value === undefined ? undefined : Promise.resolve({ done: false, value });
  }

  function wake(): void {
    if (parked === undefined || isWaking) return;
    isWaking = true;
    queueMicrotask(() => {
      isWaking = false;
      if (parked === undefined) return;
      const result = next();
      if (result === undefined) setTimer();
      else unpark(result);
    });
  }

  function unpark(result: Promise<IteratorResult<WatchBatch>>): void {
    const waiting = parked;
    parked = undefined;
    cancelTimer?.();
    cancelTimer = undefined;
    if (waiting !== undefined) result.then(waiting.resolve, waiting.reject);
  }

  function setTimer(): void {
    const dueMs = Math.min(
      fillUntilMs ?? Number.POSITIVE_INFINITY,
      window?.closesAtMs ?? Number.POSITIVE_INFINITY,
      sentAtMs + watching.progressIntervalMs,
    );
    cancelTimer?.();
    cancelTimer = clock.after(Math.max(0, dueMs - clock.now()), wake);
  }

  function end(): void {
    if (hasEnded) return;
    hasEnded = true;
    window = undefined;
    onEnd();
    signal.removeEventListener("abort", end);
    unpark(Promise.resolve(done));
  }

  if (signal.aborted) hasEnded = true;
  signal.addEventListener("abort", end);
  return {
    get position() {
      return position;
    },
    get isCaughtUp() {
      return isCaughtUp;
    },
    buffer,
    moveOn,
    wake,
    batches: {
      next() {
        const result = next();
        if (result !== undefined) return result;
        setTimer();
        return new Promise((resolve, reject) => {
          parked = { resolve, reject };
        });
      },
      return() {
        end();
        return Promise.resolve(done);
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    },
  };
}

function tooSlow(epoch: string, sequence: number): SandboxError {
  return new SandboxError("resource_exhausted", "the reader fell too far behind", {
    reason: "READER_TOO_SLOW",
    metadata: { epoch, sequence: String(sequence) },
  });
}
