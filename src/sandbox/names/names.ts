import type { Clock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { SandboxSpec } from "../model.js";
import { type NameTable, namesOf } from "../policy/network.js";
import { hostsText } from "./hosts.js";
import { createNamePins, type PinnedNames, UnresolvedName } from "./pins.js";
import type { NameResolver } from "./resolver.js";

/** The names in sandboxes' network rules: what they stand for, and how the sandbox sees them. */
export interface Names {
  /** Undefined where the spec names no host. */
  of(spec: SandboxSpec): SandboxNames | undefined;
}

/** What holds now, whole. */
export interface NamesNow {
  readonly table: NameTable;
  /** Of the sandbox's own /etc/hosts. */
  readonly hosts: Uint8Array;
}

export interface SandboxNames {
  /**
   * Looks them up. `onChange` is told of each change, until they are closed. Rejects with a `SandboxError`
   * (NAME_UNRESOLVED) that names the rule and the cause.
   */
  pin(onChange: (now: NamesNow) => void): Promise<NamesNow>;
  close(): void;
}

export function createNames(resolver: NameResolver, clock: Clock): Names {
  const pins = createNamePins(resolver, clock);

  return {
    of(spec) {
      const fields = namesOf(spec.network);
      if (fields.size === 0) return undefined;
      let pinned: PinnedNames | undefined;
      let isClosed = false;
      return {
        async pin(onChange) {
          const changed = (): void => {
            if (pinned !== undefined) onChange(nowOf(pinned));
          };
          const opened = await pins.open([...fields.keys()], changed).catch((error: unknown) => {
            throw error instanceof UnresolvedName ? refusal(error, fields.get(error.host) ?? "spec.network") : error;
          });
          pinned = opened;
          if (isClosed) opened.close();
          return nowOf(opened);
        },
        close() {
          isClosed = true;
          pinned?.close();
        },
      };
    },
  };
}

function nowOf(pinned: PinnedNames): NamesNow {
  return { table: pinned.table(), hosts: Uint8Array.from(Buffer.from(hostsText(pinned.current()))) };
}

function refusal(error: UnresolvedName, field: string): SandboxError {
  return new SandboxError(
    error.isPassing ? "unavailable" : "failed_precondition",
    `${field}: ${JSON.stringify(error.host)} could not be resolved: ${error.message}`,
    { reason: "NAME_UNRESOLVED", field, metadata: { name: error.host }, cause: error },
  );
}
