import type { Clock } from "../../base/clock.js";
import { addressKey, type NameTable } from "../policy/network.js";
import { NameMissing, type NameResolver, type Resolution } from "./resolver.js";

/** Addresses of the names of sandboxes, looked up again when their time to live ends. */
export interface NamePins {
  /**
   * Looks up what is not known yet. Resolves with what keeps the names current until it is closed; rejects with
   * `UnresolvedName` when one has no address. `onChange` is called with the whole of what now holds.
   */
  open(names: readonly string[], onChange: () => void): Promise<PinnedNames>;
}

export interface PinnedNames {
  /** What may be reached under each name. */
  table(): NameTable;
  /** What each name stands for now: without what it stood for a moment ago. */
  current(): ReadonlyMap<string, readonly Uint8Array[]>;
  close(): void;
}

export class UnresolvedName extends Error {
  override readonly name = "UnresolvedName";
  readonly host: string;
  /** Asking again may help. */
  readonly isPassing: boolean;

  constructor(host: string, cause: Error) {
    super(cause.message, { cause });
    this.host = host;
    this.isPassing = !(cause instanceof NameMissing);
  }
}

/** A name is looked up again no sooner and no later than this, whatever its time to live. */
const MIN_TTL_MS = 5000;
const MAX_TTL_MS = 5 * 60_000;
/** An address that a name no longer stands for may still be reached this long: a program may just have read it. */
export const GRACE_MS = 60_000;
/** Without an answer, the last addresses hold this long. */
export const STALE_MS = 10 * 60_000;

interface Entry {
  readonly name: string;
  /** Those whose policy has it. */
  readonly users: Set<() => void>;
  /** Undefined before the first answer. */
  current: readonly Uint8Array[] | undefined;
  answeredMs: number;
  /** By address, until when it may be reached. */
  readonly past: Map<string, number>;
  cancel: (() => void) | undefined;
  /** While it is looked up. */
  pending: Promise<void> | undefined;
}

export function createNamePins(resolver: NameResolver, clock: Clock): NamePins {
  const entries = new Map<string, Entry>();

  function lookUp(entry: Entry): Promise<void> {
    entry.pending ??= resolver
      .resolve(entry.name)
      .then((resolution) => take(entry, resolution))
      .finally(() => {
        entry.pending = undefined;
      });
    return entry.pending;
  }

  function take(entry: Entry, { addresses, ttlMs }: Resolution): void {
    const nowMs = clock.now();
    const keys = new Set(addresses.map(addressKey));
    for (const address of entry.current ?? []) entry.past.set(addressKey(address), nowMs + GRACE_MS);
    for (const [key, untilMs] of entry.past) if (keys.has(key) || untilMs <= nowMs) entry.past.delete(key);
    entry.current = addresses;
    entry.answeredMs = nowMs;
    // What is past is also taken away in time.
    const longestMs = entry.past.size > 0 ? GRACE_MS : MAX_TTL_MS;
    again(entry, Math.min(longestMs, Math.max(MIN_TTL_MS, ttlMs)));
  }

  function again(entry: Entry, afterMs: number): void {
    entry.cancel?.();
    entry.cancel = undefined;
    if (entry.users.size > 0) entry.cancel = clock.after(afterMs, () => void refresh(entry));
  }

  async function refresh(entry: Entry): Promise<void> {
    const before = stateOf(entry);
    await lookUp(entry).catch(() => {
      again(entry, MIN_TTL_MS);
      if (clock.now() - entry.answeredMs < STALE_MS) return;
      entry.current = [];
      entry.past.clear();
    });
    dropPast(entry);
    if (stateOf(entry) !== before) for (const changed of entry.users) changed();
  }

  function dropPast(entry: Entry): void {
    for (const [key, untilMs] of entry.past) if (untilMs <= clock.now()) entry.past.delete(key);
  }

  function stateOf(entry: Entry): string {
    return JSON.stringify([(entry.current ?? []).map(addressKey).sort(), [...entry.past.keys()].sort()]);
  }

  function entryOf(name: string): Entry {
    const known = entries.get(name);
    if (known !== undefined) return known;
    const made: Entry = {
      name,
      users: new Set(),
      current: undefined,
      answeredMs: 0,
      past: new Map(),
      cancel: undefined,
      pending: undefined,
    };
    entries.set(name, made);
    return made;
  }

  return {
    async open(names, onChange) {
      const used = [...new Set(names)].map(entryOf);
      const user = () => onChange();
      for (const entry of used) entry.users.add(user);
      const close = (): void => {
        for (const entry of used) {
          entry.users.delete(user);
          if (entry.users.size > 0) continue;
          entry.cancel?.();
          entries.delete(entry.name);
        }
      };
      try {
        await Promise.all(
          used.map(async (entry) => {
            if (entry.current !== undefined && entry.current.length > 0) return;
            await lookUp(entry).catch((cause: Error) => {
              throw new UnresolvedName(entry.name, cause);
            });
          }),
        );
      } catch (error) {
        close();
        throw error;
      }
      return {
        table: () =>
          new Map(
            used.map((entry) => [
              entry.name,
              new Set([...(entry.current ?? []).map(addressKey), ...entry.past.keys()]),
            ]),
          ),
        current: () => new Map(used.map((entry) => [entry.name, entry.current ?? []])),
        close,
      };
    },
  };
}
