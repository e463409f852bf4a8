import type { Clock } from "../../base/clock.js";
import { type Deadline, noDeadline } from "../../base/deadlines.js";
import { SandboxError } from "../../base/errors.js";
import type { EventSink } from "../model.js";
import { createDeadlines } from "./deadlines.js";
import type { GrantRecord, SandboxSelector } from "./decider.js";
import { selects } from "./decider.js";

/** The remembered verdicts of all sandboxes, as the main thread knows them; the engine thread applies them. */
export interface GrantStore {
  /** Throws `resource_exhausted` when the sandbox has its share. */
  add(sandbox: GrantOwner, record: (grantId: string) => GrantRecord): GrantRecord;
  /** The engine answered one call with it. */
  used(grantId: string, uses: number): void;
  /** The engine forgot it. */
  ended(grantId: string): void;
  list(tenant: string, selector: SandboxSelector, after: string, limit: number): readonly GrantRecord[];
  /** Forgets these; with none named, all of the selected sandboxes. Returns which. */
  revoke(tenant: string, grantIds: readonly string[], selector: SandboxSelector): readonly string[];
  sandboxEnded(sandboxId: string): void;
  readonly size: number;
  dispose(): void;
}

export interface GrantOwner {
  readonly sandboxId: string;
  readonly tenant: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly traceparent?: string;
}

interface Entry extends Deadline {
  readonly owner: GrantOwner;
  readonly serial: number;
  record: GrantRecord;
}

export function createGrantStore(options: {
  readonly clock: Clock;
  readonly maxPerSandbox: number;
  readonly removeFromEngine: (sandboxId: string, grantId: string) => void;
  readonly events: EventSink;
}): GrantStore {
  const { clock, maxPerSandbox, events } = options;
  /** In the order in which they were made. */
  const entries = new Map<string, Entry>();
  const perSandbox = new Map<string, Set<Entry>>();
  const deadlines = createDeadlines<Entry>(clock, forget);
  let serial = 0;

  function tell({ owner, record }: Entry, active: boolean): void {
    const { sandboxId, tenant, labels, traceparent = "" } = owner;
    const body = { kind: "grant_changed", record, active } as const;
    events.append({ timeMs: clock.wall(), sandboxId, tenant, labels, task: record.origin.task, traceparent, body });
  }

  function forget(entry: Entry | undefined): void {
    if (entry === undefined) return;
    const { grant } = entry.record;
    if (!entries.delete(grant.grantId)) return;
    deadlines.clear(entry);
    const siblings = perSandbox.get(grant.sandboxId);
    siblings?.delete(entry);
    if (siblings?.size === 0) perSandbox.delete(grant.sandboxId);
    options.removeFromEngine(grant.sandboxId, grant.grantId);
    tell(entry, false);
  }

  return {
    add(owner, make) {
      const siblings = perSandbox.get(owner.sandboxId) ?? new Set<Entry>();
      if (siblings.size >= maxPerSandbox) {
        throw new SandboxError("resource_exhausted", `the sandbox already has ${maxPerSandbox} grants`, {
          reason: "QUOTA_EXHAUSTED",
          metadata: { limit: "grants", value: String(maxPerSandbox) },
        });
      }
      serial += 1;
      const record = make(`grant-${serial}`);
      const entry: Entry = { owner, serial, record, ...noDeadline };
      entries.set(record.grant.grantId, entry);
      siblings.add(entry);
      perSandbox.set(owner.sandboxId, siblings);
      const { expireTimeMs } = record.grant;
      if (expireTimeMs !== undefined) deadlines.set(entry, clock.now() + (expireTimeMs - clock.wall()));
      tell(entry, true);
      return record;
    },
    used(grantId, uses) {
      const entry = entries.get(grantId);
      if (entry === undefined) return;
      entry.record = { ...entry.record, uses: entry.record.uses + uses };
      const { maxUses } = entry.record.grant;
      if (maxUses > 0 && entry.record.uses >= maxUses) forget(entry);
    },
    ended: (grantId) => forget(entries.get(grantId)),
    get size() {
      return entries.size;
    },
    list(tenant, selector, after, limit) {
      const afterSerial = Number(after.replace(/^grant-/, "")) || 0;
      const found: GrantRecord[] = [];
      for (const entry of entries.values()) {
        if (found.length >= limit) break;
        if (entry.serial <= afterSerial || entry.owner.tenant !== tenant || !selects(selector, entry.owner)) continue;
        found.push(entry.record);
      }
      return found;
    },
    revoke(tenant, grantIds, selector) {
      const named = grantIds.length > 0 ? grantIds.map((grantId) => entries.get(grantId)) : [...entries.values()];
      const revoked: string[] = [];
      for (const entry of named) {
        if (entry === undefined || entry.owner.tenant !== tenant || !selects(selector, entry.owner)) continue;
        if (!entries.has(entry.record.grant.grantId)) continue;
        forget(entry);
        revoked.push(entry.record.grant.grantId);
      }
      return revoked;
    },
    sandboxEnded(sandboxId) {
      for (const entry of [...(perSandbox.get(sandboxId) ?? [])]) forget(entry);
    },
    dispose: () => deadlines.dispose(),
  };
}
