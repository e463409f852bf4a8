import { type Clock, systemClock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { DomainEvent, EventSink, SandboxInfo } from "../model.js";
import { entryOf, type JournalEntry, type JournalSlot, type LostEvents, lossOf } from "./entry.js";
import { compileFilters, type EventFilter, isOfKindsOnly } from "./filter.js";
import type { Cursor, EventKind, GapCause, WatchBatch, WatchOptions, WatchStart } from "./watch.js";
import { createWatcher, type Ring, type Watcher, type WatcherOptions } from "./watcher.js";

export interface Journal extends EventSink {
  /** Events were lost on their way here; every watcher of theirs will be told. */
  lost(events: LostEvents): void;
  /** Of the last event. */
  cursor(): Cursor;
  counts(): JournalCounts;
  /**
   * Of one tenant's sandboxes; undefined: of all, which no client is. Ends when the signal aborts, or the loop over it is left. Throws `out_of_range` when the cursor is not of this
   * run or too old, and `resource_exhausted` when the watcher fell behind and asked to be disconnected then.
   */
  watch(tenant: string | undefined, options: WatchOptions, signal: AbortSignal): AsyncIterableIterator<WatchBatch>;
}

export interface JournalCounts {
  /** Kept, and about what they take. */
  readonly events: number;
  readonly bytes: number;
  readonly watchers: number;
  /** Events that the slowest watcher has not considered. */
  readonly lag: number;
  /** Events that watchers were not sent, over all of them. */
  readonly lost: Readonly<Record<GapCause, number>>;
}

export interface JournalOptions {
  /** Names this run; another than any before. */
  readonly epoch: string;
  readonly maxEvents: number;
  /** About what the kept events may take; old ones go before `maxEvents` when they are large. */
  readonly maxBytes?: number;
  readonly clock?: Clock;
  /** Sandboxes of a tenant, for watchers that begin with a snapshot. */
  readonly snapshot: (tenant: string) => readonly SandboxInfo[];
}

const defaultMaxBytes = 64 * 1024 * 1024;

/**
 * The last events in a ring. A watcher is a place in it: events are not copied, and an append costs a watcher that
 * reads nothing but a wake-up. A watcher that does not read is moved on when it lags too far, and what it would
 * have been sent is counted then, so that each gap is exact.
 */
export function createJournal(options: JournalOptions): Journal {
  const { epoch, maxEvents, snapshot } = options;
  const clock = options.clock ?? systemClock;
  const maxBytes = options.maxBytes ?? defaultMaxBytes;
  const ring: (JournalSlot | undefined)[] = [];
  const watchers = new Set<Watcher>();
  /** Sequence of the oldest event kept; one past the last when there is none. */
  let oldest = 1;
  let last = 0;
  let bytes = 0;
  const lost: Record<GapCause, number> = { reader: 0, journal: 0 };

  function at(sequence: number): JournalSlot | undefined {
    return ring[sequence % maxEvents];
  }

  const view: Ring = { epoch, capacity: maxEvents, clock, last: () => last, at };

  function push(slot: JournalSlot): void {
    last = slot.sequence;
    if (last - oldest >= maxEvents) dropOldest();
    ring[last % maxEvents] = slot;
    bytes += slot.bytes;
    while (bytes > maxBytes && oldest < last) dropOldest();
    for (const watcher of watchers) {
      if (watcher.isCaughtUp && last - watcher.position > watcher.buffer) watcher.moveOn(last - watcher.buffer);
      watcher.wake();
    }
  }

  function dropOldest(): void {
    for (const watcher of watchers) if (watcher.position < oldest) watcher.moveOn(oldest);
    bytes -= at(oldest)?.bytes ?? 0;
    ring[oldest % maxEvents] = undefined;
    oldest += 1;
  }

  function startOf(start: WatchStart): number {
    switch (start.kind) {
      case "now":
      case "snapshot":
        return last;
      case "oldest":
        return oldest - 1;
      case "after": {
        const { cursor } = start;
        if (cursor.epoch !== epoch) {
          throw new SandboxError("out_of_range", "the cursor belongs to an earlier run of the server", {
            reason: "CURSOR_EPOCH_CHANGED",
            field: "after.epoch",
            metadata: { epoch },
          });
        }
        if (cursor.sequence > last) {
          throw new SandboxError("out_of_range", `the cursor is ahead of the last event, ${last}`, {
            reason: "INVALID_FIELD",
            field: "after.sequence",
            metadata: { last: String(last) },
          });
        }
        if (cursor.sequence < oldest - 1) {
          throw new SandboxError("out_of_range", `the oldest event kept is ${oldest}`, {
            reason: "CURSOR_COMPACTED",
            field: "after.sequence",
            metadata: { oldest: String(oldest), last: String(last) },
          });
        }
        return cursor.sequence;
      }
    }
  }

  function watch(
    tenant: string | undefined,
    watching: WatchOptions,
    signal: AbortSignal,
  ): AsyncIterableIterator<WatchBatch> {
    const position = startOf(watching.start);
    const watcher: Watcher = createWatcher({
      ring: view,
      watching,
      ...wantedBy(tenant, watching),
      onLost(cause, count) {
        lost[cause] += count;
      },
      position,
      snapshots: watching.start.kind === "snapshot" ? takeSnapshot(tenant, watching) : [],
      signal,
      onEnd: () => watchers.delete(watcher),
    });
    if (!signal.aborted) watchers.add(watcher);
    return watcher.batches;
  }

  function takeSnapshot(tenant: string | undefined, watching: WatchOptions): JournalEntry[] {
    if (tenant === undefined) throw new Error("a snapshot is of one tenant");
    return snapshot(tenant)
      .filter(({ sandboxId, spec }) => isSelected(watching, sandboxId, spec.labels))
      .map((sandbox) => entryOf(last, snapshotEvent(tenant, sandbox, clock.wall())));
  }

  return {
    append: (event) => push(entryOf(last + 1, event)),
    lost: (events) => push(lossOf(last + 1, events)),
    cursor: () => ({ epoch, sequence: last }),
    watch,
    counts: () => ({
      events: last - oldest + 1,
      bytes,
      watchers: watchers.size,
      lag: [...watchers].reduce((most, { position }) => Math.max(most, last - position), 0),
      lost: { ...lost },
    }),
  };
}

function wantedBy(
  tenant: string | undefined,
  { selector, include, exclude }: WatchOptions,
): Pick<WatcherOptions, "isWanted" | "mayWant"> {
  const isIncluded = include.length === 0 ? () => true : compileFilters(include);
  const isExcluded = compileFilters(exclude);
  const isOurs = (of: Pick<LostEvents, "tenant" | "sandboxId" | "labels">): boolean =>
    (tenant === undefined || of.tenant === tenant) && isSelected({ selector }, of.sandboxId, of.labels);
  const names = ({ kinds }: EventFilter, kind: EventKind): boolean => kinds.length === 0 || kinds.includes(kind);
  return {
    isWanted: (event) => isOurs(event) && isIncluded(event) && !isExcluded(event),
    mayWant: (loss) =>
      isOurs(loss) &&
      (include.length === 0 || include.some((filter) => names(filter, loss.kind))) &&
      !exclude.some((filter) => isOfKindsOnly(filter) && names(filter, loss.kind)),
  };
}

function isSelected(
  { selector }: Pick<WatchOptions, "selector">,
  sandboxId: string,
  labels: ReadonlyMap<string, string>,
): boolean {
  if (selector.sandboxIds.size > 0 && !selector.sandboxIds.has(sandboxId)) return false;
  for (const [name, value] of selector.labels) if (labels.get(name) !== value) return false;
  return true;
}

function snapshotEvent(tenant: string, sandbox: SandboxInfo, timeMs: number): DomainEvent {
  return {
    timeMs,
    sandboxId: sandbox.sandboxId,
    tenant,
    labels: sandbox.spec.labels,
    task: undefined,
    body: { kind: "sandbox_changed", sandbox, previous: undefined },
  };
}
