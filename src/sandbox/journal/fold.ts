import { coalescingKey } from "../decisions/same-call.js";
import type { DomainEvent, EventBody, ExitStatus, Settlement } from "../model.js";
import type { JournalEntry } from "./entry.js";
import type { Aggregation } from "./watch.js";

/** Events of one window, equal ones as one. */
export interface Fold {
  /** In the order of the first of each. */
  readonly entries: readonly JournalEntry[];
  readonly counts: ReadonlyMap<JournalEntry, number>;
  /** False when it belongs into the next window: it happened after the end of this one, or has no room. */
  add(entry: JournalEntry): boolean;
}

export interface FoldLimits {
  readonly maxEntries: number;
  /** About what the entries may take. */
  readonly maxBytes: number;
}

export function createFold({ windowMs, kinds }: Aggregation, { maxEntries, maxBytes }: FoldLimits): Fold {
  const entries: JournalEntry[] = [];
  const counts = new Map<JournalEntry, number>();
  const firsts = new Map<string, JournalEntry>();
  let bytes = 0;

  function add(entry: JournalEntry): boolean {
    const [oldest] = entries;
    if (oldest !== undefined && entry.event.timeMs - oldest.event.timeMs >= windowMs) return false;
    const key = kinds.has(entry.event.body.kind) ? keyOf(entry.event) : undefined;
    const first = key === undefined ? undefined : firsts.get(key);
    if (first !== undefined) {
      counts.set(first, (counts.get(first) ?? 1) + 1);
      return true;
    }
    if (entries.length >= maxEntries || bytes >= maxBytes) return false;
    if (key !== undefined) firsts.set(key, entry);
    entries.push(entry);
    bytes += entry.bytes;
    return true;
  }

  return { entries, counts, add };
}

/** Equal for events that say the same, but for when, by which process of one executable, and under which number. */
function keyOf({ sandboxId, body }: DomainEvent): string | undefined {
  const what = bodyKey(body);
  return what === undefined ? undefined : JSON.stringify([sandboxId, body.kind, ...what]);
}

function bodyKey(body: EventBody): readonly (string | number | boolean | undefined)[] | undefined {
  switch (body.kind) {
    case "call_held":
    case "call_settled": {
      const call = coalescingKey(body.call);
      if (call === undefined) return undefined;
      if (body.kind === "call_held") return [call, body.call.rule];
      return [call, ...settlementKey(body.settlement), body.source, body.sourceName, body.reason];
    }
    case "process_started":
      return [text(body.program), ...body.argv.map(text)];
    case "process_ended":
      return [...resultKey(body.exit), body.managed];
    case "sandbox_changed":
      return [body.sandbox.state, body.previous];
    case "grant_changed":
      return [body.record.grant.grantId, body.active];
    case "limit_reached":
      return [body.limit, body.action];
    case "decider_changed":
      return [body.decider, body.connected, body.leased, body.identity];
  }
}

function settlementKey(settlement: Settlement): readonly (string | number)[] {
  switch (settlement.kind) {
    case "allow":
    case "static":
      return [settlement.kind];
    case "deny":
      return [settlement.kind, settlement.errno];
    case "kill":
      return [settlement.kind, settlement.scope, settlement.signal];
  }
}

function resultKey({ result, cause }: ExitStatus): readonly (string | number)[] {
  switch (result.kind) {
    case "code":
      return [cause, result.kind, result.code];
    case "signal":
      return [cause, result.kind, result.signal];
    case "not_started":
      return [cause, result.kind, result.error.message];
  }
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
