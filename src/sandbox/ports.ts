/**
 * What the parts of the main thread hand to each other. Each part gets what it needs from the one that
 * builds it (`src/service/main.ts`); none reaches for another.
 */
import type { Grant, HeldCall, HoldPolicy, Settlement, VerdictSource } from "./model.js";

/** Engine-side actions that the hold registry needs. */
export interface HoldEngine {
  /** Settles one held call. Ignored when the call is gone. */
  settle(holdId: number, settlement: Settlement): void;
  /** Installs a grant in front of the deciders. */
  addGrant(grant: Grant): void;
  /** Forgets a grant. */
  removeGrant(sandboxId: string, grantId: string): void;
}

/** What the hold registry must know of a sandbox. */
export interface HoldSubject {
  readonly sandboxId: string;
  readonly tenant: string;
  readonly labels: ReadonlyMap<string, string>;
  /** For its events; empty: none. */
  readonly traceparent?: string;
  readonly policy: HoldPolicy;
}

/** Calls from the supervisor into the hold registry. */
export interface HoldIntake {
  sandboxCreated(subject: HoldSubject): void;
  held(call: HeldCall): void;
  /** The call vanished (its task died); the engine has forgotten it. */
  gone(holdId: number): void;
  /** Timers stand still while a sandbox is paused. */
  paused(sandboxId: string, paused: boolean): void;
  sandboxEnded(sandboxId: string): void;
  /** Calls waiting and deciders connected, for snapshots. */
  counts(sandboxId: string): {
    readonly held: number;
    readonly deciders: number;
    readonly heldTotal: number;
    readonly heldTimeMs: number;
  };
  /** Resolves once a decider for the sandbox is connected. Rejects when the signal aborts. */
  whenDecider(sandboxId: string, signal: AbortSignal): Promise<void>;
}

/** One process's streams, made before the launch and owned by the sandbox record. */
export interface ProcessStreams {
  /** Descriptors for the child's 0, 1, 2; the caller passes them to the warden, then calls `launched` or `dispose`. */
  readonly childFds: readonly [number, number, number];
  /** Closes this process's copies of `childFds` and starts pumping. */
  launched(): void;
  /** The process ended; `drained` resolves when all output was taken or, at the latest, shortly after the sandbox is gone. */
  exited(): void;
  readonly drained: Promise<void>;
  /** Nothing of the sandbox is left, so nothing more can be written: what remains is read without waiting. */
  sandboxGone(): void;
  /** Frees buffers and closes everything. */
  dispose(): void;
}

/** A call that the engine settled without asking, when the spec wants those recorded. */
export interface AutomaticSettlement {
  readonly call: HeldCall;
  readonly settlement: Settlement;
  readonly source: VerdictSource;
  readonly sourceName: string;
}
