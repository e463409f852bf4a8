/** What a watcher asks for and what it is given. */

import type { EventBody } from "../model.js";
import type { JournalEntry } from "./entry.js";
import type { EventFilter } from "./filter.js";

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
  /** The reader was too slow; or the journal never got them, and cannot tell which of them a filter would have taken. */
  readonly cause: GapCause;
}

export type GapCause = "reader" | "journal";

export type WatchStart =
  | { readonly kind: "now" }
  | { readonly kind: "oldest" }
  | { readonly kind: "snapshot" }
  | { readonly kind: "after"; readonly cursor: Cursor };

/** Equal events of these kinds become one with a count. */
export interface Aggregation {
  /** From the first event that waits to the message with all of them; the message goes earlier when it is full. */
  readonly windowMs: number;
  readonly kinds: ReadonlySet<EventKind>;
}

export interface WatchOptions {
  readonly selector: { readonly sandboxIds: ReadonlySet<string>; readonly labels: ReadonlyMap<string, string> };
  readonly start: WatchStart;
  /** Empty: all. */
  readonly include: readonly EventFilter[];
  readonly exclude: readonly EventFilter[];
  /** The cursor is sent at least this often. */
  readonly progressIntervalMs: number;
  /** How long to wait for more before a message that is not full. Not used with an aggregation. */
  readonly maxDelayMs: number;
  /** Events in one message. Zero: the journal's choice. */
  readonly maxBatch: number;
  /** Events this watcher may lag behind once it has caught up. Zero: the journal's choice. */
  readonly buffer: number;
  readonly overflow: "report_gap" | "disconnect";
  readonly aggregation: Aggregation | undefined;
}

export interface WatchBatch {
  /** They come before the events. */
  readonly gaps: readonly Gap[];
  readonly events: readonly JournalEntry[];
  /** How many each of `events` stands for, where that is more than itself. */
  readonly counts: ReadonlyMap<JournalEntry, number>;
  readonly cursor: Cursor;
  /** In one batch only: the first after which nothing older is missing. */
  readonly caughtUp: boolean;
  /** Events after the cursor that are not considered yet. */
  readonly pending: number;
}
