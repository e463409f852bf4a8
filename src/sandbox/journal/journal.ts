import { type Clock, systemClock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { DomainEvent, EventSink, SandboxInfo } from "../model.js";
import { entryOf, type JournalEntry } from "./entry.js";
import { compileFilters, type EventPredicate } from "./filter.js";
import type { Cursor, WatchBatch, WatchOptions, WatchStart } from "./watch.js";
import { createWatcher, type Ring, type Watcher } from "./watcher.js";

export interface Journal extends EventSink {
  /** Of the last event. */
  cursor(): Cursor;
  /**
   * Of one tenant's sandboxes; undefined: of all, which no client is. Ends when the signal aborts, or the loop over it is left. Throws `out_of_range` when the cursor is not of this
   * run or too old, and `resource_exhausted` when the watcher fell behind and asked to be disconnected then.
   */
  watch(tenant: string | undefined, options: WatchOptions, signal: AbortSignal): AsyncIterableIterator<WatchBatch>;
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
  const ring: (JournalEntry | undefined)[] = [];
  const watchers = new Set<Watcher>();
  /** Sequence of the oldest event kept; one past the last when there is none. */
  let oldest = 1;
  let last = 0;
  let bytes = 0;

  function at(sequence: number): JournalEntry | undefined {
    return ring[sequence % maxEvents];
  }

  const view: Ring = { epoch, capacity: maxEvents, clock, last: () => last, at };

  function append(event: DomainEvent): void {
    last += 1;
    const entry = entryOf(last, event);
    if (last - oldest >= maxEvents) dropOldest();
    ring[last % maxEvents] = entry;
    bytes += entry.bytes;
    while (bytes > maxBytes && oldest < last) dropOldest();
    for (const watcher of watchers) {
      if (watcher.isCaughtUp && last - watcher.position > watcher.buffer) watcher.moveOn(last - watcher.buffer);
      watcher.wake();
    }
  }

  function dropOldest(): void {
    const entry = at(oldest);
    for (const watcher of watchers) if (watcher.position < oldest) watcher.moveOn(oldest);
    if (entry !== undefined) bytes -= entry.bytes;
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
      isWanted: wantedBy(tenant, watching),
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

  return { append, cursor: () => ({ epoch, sequence: last }), watch };
}

function wantedBy(tenant: string | undefined, { selector, include, exclude }: WatchOptions): EventPredicate {
  const isIncluded = include.length === 0 ? () => true : compileFilters(include);
  const isExcluded = compileFilters(exclude);
  return (event) =>
    (tenant === undefined || event.tenant === tenant) &&
    isSelected({ selector }, event.sandboxId, event.labels) &&
    isIncluded(event) &&
    !isExcluded(event);
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
