import { type Clock, systemClock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { DomainEvent, EventBody, EventSink, SandboxInfo } from "../model.js";
import { compileFilters, type EventFilter, type EventPredicate } from "./filter.js";

/** An event and its place in the order over all sandboxes. One object for all watchers. */
export interface JournalEntry {
  /** From 1, without holes. */
  readonly sequence: number;
  readonly event: DomainEvent;
  /** About what it takes. */
  readonly bytes: number;
}

/** Everything up to `sequence` was considered. */
export interface Cursor {
  /** Names one run of the journal. */
  readonly epoch: string;
  readonly sequence: number;
}

export type EventKind = EventBody["kind"];

/** Events that a watcher wanted and did not get. */
export interface Gap {
  readonly first: number;
  readonly last: number;
  readonly lost: number;
  readonly lostByKind: ReadonlyMap<EventKind, number>;
}

export type WatchStart =
  | { readonly kind: "now" }
  | { readonly kind: "oldest" }
  | { readonly kind: "snapshot" }
  | { readonly kind: "after"; readonly cursor: Cursor };

export interface WatchOptions {
  readonly selector: { readonly sandboxIds: ReadonlySet<string>; readonly labels: ReadonlyMap<string, string> };
  readonly start: WatchStart;
  /** Empty: all. */
  readonly include: readonly EventFilter[];
  readonly exclude: readonly EventFilter[];
  /** The cursor is sent at least this often. */
  readonly progressIntervalMs: number;
  /** How long to wait for more before a message that is not full. */
  readonly maxDelayMs: number;
  /** Events in one message. Zero: the journal's choice. */
  readonly maxBatch: number;
  /** Events this watcher may lag behind once it has caught up. Zero: the journal's choice. */
  readonly buffer: number;
  readonly overflow: "report_gap" | "disconnect";
}

export interface WatchBatch {
  /** They come before the events. */
  readonly gaps: readonly Gap[];
  readonly events: readonly JournalEntry[];
  readonly cursor: Cursor;
  /** In one batch only: the first after which nothing older is missing. */
  readonly caughtUp: boolean;
  /** Events after the cursor that are not considered yet. */
  readonly pending: number;
}

export interface Journal extends EventSink {
  /** Of the last event. */
  cursor(): Cursor;
  /**
   * Ends when the signal aborts, or the loop over it is left. Throws `out_of_range` when the cursor is not of this
   * run or too old, and `resource_exhausted` when the watcher fell behind and asked to be disconnected then.
   */
  watch(tenant: string, options: WatchOptions, signal: AbortSignal): AsyncIterableIterator<WatchBatch>;
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
const defaultBuffer = 8192;
/** More in one message is no faster. */
const batchLimit = 64;
const maxBatchBytes = 256 * 1024;
/** Events that one watcher may look at in one turn of the event loop. */
const scanBudget = 4096;

const done: IteratorResult<WatchBatch> = { done: true, value: undefined };

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

  interface Watcher {
    /** Everything up to here was considered. */
    position: number;
    /** Lag at which it is moved on. While it works through the backlog, only the ring's end moves it. */
    readonly buffer: number;
    isCaughtUp: boolean;
    /** Moves it past one event that it did not take. */
    skip(entry: JournalEntry): void;
    wake(): void;
  }

  function at(sequence: number): JournalEntry | undefined {
    return ring[sequence % maxEvents];
  }

  function append(event: DomainEvent): void {
    last += 1;
    const entry = entryOf(last, event);
    if (last - oldest >= maxEvents) dropOldest();
    ring[last % maxEvents] = entry;
    bytes += entry.bytes;
    while (bytes > maxBytes && oldest < last) dropOldest();
    for (const watcher of watchers) {
      if (watcher.isCaughtUp && last - watcher.position > watcher.buffer) moveOn(watcher, last - watcher.buffer);
      watcher.wake();
    }
  }

  function dropOldest(): void {
    const entry = at(oldest);
    for (const watcher of watchers) if (watcher.position < oldest) moveOn(watcher, oldest);
    if (entry !== undefined) bytes -= entry.bytes;
    ring[oldest % maxEvents] = undefined;
    oldest += 1;
  }

  function moveOn(watcher: Watcher, to: number): void {
    while (watcher.position < to) {
      const entry = at(watcher.position + 1);
      watcher.position += 1;
      if (entry !== undefined) watcher.skip(entry);
    }
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

  function watch(tenant: string, watching: WatchOptions, signal: AbortSignal): AsyncIterableIterator<WatchBatch> {
    const isWanted = wantedBy(tenant, watching);
    const maxBatch = watching.maxBatch > 0 ? Math.min(watching.maxBatch, batchLimit) : batchLimit;
    const buffer = Math.min(watching.buffer > 0 ? watching.buffer : defaultBuffer, maxEvents);
    /** Events that wait are sent before their delay is over when there are this many. */
    const enough = Math.max(1, Math.min(maxBatch, buffer >> 1));
    let parked: { resolve(result: IteratorResult<WatchBatch>): void; reject(error: unknown): void } | undefined;
    let cancelTimer: (() => void) | undefined;
    let isWaking = false;
    let hasEnded = false;
    let failure: SandboxError | undefined;
    let gap: MutableGap | undefined;
    let sentAtMs = clock.now();
    /** Until when to wait for a fuller message. Undefined while there is nothing to send. */
    let fillUntilMs: number | undefined;
    const watcher: Watcher = { position: startOf(watching.start), buffer, isCaughtUp: false, skip, wake };
    let snapshots = watching.start.kind === "snapshot" ? takeSnapshot() : [];

    function takeSnapshot(): JournalEntry[] {
      return snapshot(tenant)
        .filter(({ sandboxId, spec }) => isSelected(watching, sandboxId, spec.labels))
        .map((sandbox) => entryOf(last, snapshotEvent(tenant, sandbox, clock.wall())));
    }

    function skip({ sequence, event }: JournalEntry): void {
      if (!isWanted(event)) return;
      if (watching.overflow === "disconnect") failure ??= tooSlow(epoch, sequence - 1);
      gap ??= { first: sequence, last: sequence, lost: 0, lostByKind: new Map() };
      const { kind } = event.body;
      gap.last = sequence;
      gap.lost += 1;
      gap.lostByKind.set(kind, (gap.lostByKind.get(kind) ?? 0) + 1);
    }

    /** Passes over what is not wanted. False when there is more to pass over than one turn may take. */
    function passUnwanted(): boolean {
      for (let budget = scanBudget; watcher.position < last; budget -= 1) {
        const entry = at(watcher.position + 1);
        if (entry !== undefined && isWanted(entry.event)) return true;
        if (budget === 0) return false;
        watcher.position += 1;
      }
      return true;
    }

    function takeEvents(): JournalEntry[] {
      const taken: JournalEntry[] = [];
      let size = 0;
      for (let budget = scanBudget; watcher.position < last && budget > 0; budget -= 1) {
        if (taken.length >= maxBatch || size >= maxBatchBytes) break;
        const entry = at(watcher.position + 1);
        watcher.position += 1;
        if (entry === undefined || !isWanted(entry.event)) continue;
        taken.push(entry);
        size += entry.bytes;
      }
      return taken;
    }

    function batch(events: readonly JournalEntry[]): WatchBatch {
      const caughtUp = !watcher.isCaughtUp && snapshots.length === 0 && watcher.position === last;
      if (caughtUp) watcher.isCaughtUp = true;
      const gaps = gap === undefined ? [] : [gap];
      gap = undefined;
      fillUntilMs = undefined;
      sentAtMs = clock.now();
      const { position } = watcher;
      return { gaps, events, cursor: { epoch, sequence: position }, caughtUp, pending: last - position };
    }

    /** The next batch, when there is cause for one. */
    function take(): WatchBatch | undefined {
      if (snapshots.length > 0) {
        const events = snapshots.slice(0, maxBatch);
        snapshots = snapshots.slice(maxBatch);
        return batch(events);
      }
      const passed = passUnwanted();
      if (watcher.position < last && passed) {
        if (gap === undefined && watcher.isCaughtUp && last - watcher.position < enough) {
          fillUntilMs ??= clock.now() + watching.maxDelayMs;
          if (clock.now() < fillUntilMs) return undefined;
        }
        return batch(takeEvents());
      }
      if (gap !== undefined || (!watcher.isCaughtUp && passed)) return batch([]);
      if (!passed) setImmediate(wake);
      return clock.now() - sentAtMs >= watching.progressIntervalMs ? batch([]) : undefined;
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
      const dueMs = Math.min(fillUntilMs ?? Number.POSITIVE_INFINITY, sentAtMs + watching.progressIntervalMs);
      cancelTimer?.();
      cancelTimer = clock.after(Math.max(0, dueMs - clock.now()), wake);
    }

    function end(): void {
      if (hasEnded) return;
      hasEnded = true;
      watchers.delete(watcher);
      signal.removeEventListener("abort", end);
      unpark(Promise.resolve(done));
    }

    watchers.add(watcher);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
    return {
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
    };
  }

  return { append, cursor: () => ({ epoch, sequence: last }), watch };
}

type MutableGap = { first: number; last: number; lost: number; lostByKind: Map<EventKind, number> };

function tooSlow(epoch: string, sequence: number): SandboxError {
  return new SandboxError("resource_exhausted", "the reader fell too far behind", {
    reason: "READER_TOO_SLOW",
    metadata: { epoch, sequence: String(sequence) },
  });
}

function wantedBy(tenant: string, { selector, include, exclude }: WatchOptions): EventPredicate {
  const isIncluded = include.length === 0 ? () => true : compileFilters(include);
  const isExcluded = compileFilters(exclude);
  return (event) =>
    event.tenant === tenant &&
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

function entryOf(sequence: number, event: DomainEvent): JournalEntry {
  return { sequence, event, bytes: sizeOf(event) };
}

/** About what an event takes, here and in a message. */
function sizeOf({ task, body }: DomainEvent): number {
  const base = 256 + (task === undefined ? 0 : task.executable.length + task.command.length);
  switch (body.kind) {
    case "call_held":
    case "call_settled": {
      const { detail } = body.call;
      if (detail.kind === "file") return base + 256 + detail.path.length;
      return base + 256 + (detail.kind === "exec" ? detail.program.length + argvSize(detail.argv) : 64);
    }
    case "process_started":
      return base + body.program.length + argvSize(body.argv);
    case "sandbox_changed":
      return base + 4096;
    case "process_ended":
    case "limit_reached":
    case "decider_changed":
      return base;
  }
}

function argvSize(argv: readonly Uint8Array[]): number {
  return argv.reduce((sum, argument) => sum + argument.length + 32, 0);
}
