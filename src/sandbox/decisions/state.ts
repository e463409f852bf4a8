/** What the registry of held calls keeps: sandboxes, questions, and the deciders that are asked. */

import type { Deadline } from "../../base/deadlines.js";
import type { HeldCall } from "../model.js";
import type { HoldSubject } from "../ports.js";
import type { DeciderOptions } from "./decider.js";
import type { Outbox } from "./outbox.js";

export interface HoldLimits {
  /** Calls held at a time, over all sandboxes; a sandbox's own `maxHeld` applies as well. */
  readonly maxHeld: number;
  readonly maxDecidersPerTenant: number;
  readonly maxWindow: number;
  readonly maxBatch: number;
  readonly maxGrantsPerSandbox: number;
  /** Settled calls remembered, to tell a late verdict from an unknown one. */
  readonly settledKept: number;
  readonly heartbeatIntervalMs: number;
}

/** What the registry keeps of a sandbox. */
export interface HeldSandbox {
  readonly subject: HoldSubject;
  /** Deciders that chose it, those asked first in front. */
  readonly deciders: Session[];
  /** Oldest first. */
  readonly questions: Set<Question>;
  readonly byKey: Map<string, Question>;
  readonly waiters: Set<() => void>;
  held: number;
  heldTotal: number;
  heldTimeMs: number;
  /** The last call found no room; the limit is reported once until there is room again. */
  overflowing: boolean;
  pausedAtMs: number | undefined;
  /** Time spent paused so far: the sandbox's clock is this much behind. */
  pausedMs: number;
}

export interface Waiting {
  readonly call: HeldCall;
  readonly heldAtMs: number;
}

/** One or more equal calls that wait for one answer. Its times are on its sandbox's clock. */
export interface Question extends Deadline {
  readonly sandbox: HeldSandbox;
  readonly key: string | undefined;
  /** The first gives the question its id. */
  calls: readonly [Waiting, ...Waiting[]];
  /** The latest end, counted from the first call. */
  readonly holdByMs: number;
  /** The end of the time to judge it, while it is out with a decider. */
  verdictByMs: number;
  /** The end of the wait for a decider, while there is none. */
  graceByMs: number;
  decider: Session | undefined;
  delivered: boolean;
  attempt: number;
  abstained: Set<Session> | undefined;
}

export interface Session {
  readonly sessionId: string;
  readonly tenant: string;
  readonly identity: string;
  readonly options: DeciderOptions;
  readonly wants: (call: HeldCall) => boolean;
  readonly matchKey: string;
  /** Lower is asked first. */
  readonly rank: number;
  readonly queue: Set<Question>;
  readonly inFlight: Set<Question>;
  readonly outbox: Outbox;
  window: number;
  state: "open" | "draining" | "closed";
}

export function holdIdOf(question: Question): number {
  return question.calls[0].call.holdId;
}
