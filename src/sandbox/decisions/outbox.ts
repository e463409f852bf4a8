import type { Clock } from "../../base/clock.js";
import type { DeciderMessage, DeliveredCall, Problem, VerdictOutcome, WithdrawalReason } from "./decider.js";

/** What waits to be taken by one decider, and the reader that takes it. */
export interface Outbox {
  withdraw(holdId: number, reason: WithdrawalReason): void;
  outcome(outcome: VerdictOutcome): void;
  problem(problem: Problem): void;
  /** More may be taken now: the reader looks again after the current turn, so that what comes together is sent together. */
  wake(): void;
  /** Nothing more will be put in; the reader ends when all was taken. */
  end(): void;
  ready(): Promise<void>;
  messages(): AsyncIterableIterator<DeciderMessage>;
}

export interface OutboxOptions {
  readonly clock: Clock;
  readonly first: () => DeciderMessage;
  readonly heartbeatIntervalMs: number;
  /** Takes the next calls, if there is room for any. From here on their time runs. */
  readonly takeCalls: () => readonly DeliveredCall[];
  readonly load: () => { readonly inFlight: number; readonly queued: number };
  /** The reader left before the end. */
  readonly abandoned: () => void;
}

/** Outcomes and problems that may wait before no more of the client's messages are read. */
const maxReplies = 1024;
/** Outcomes, or withdrawn calls, in one message. */
const maxEntries = 1024;

const done: IteratorResult<DeciderMessage> = { done: true, value: undefined };

/**
 * Withdrawals are bounded by the window, since a call is withdrawn at most once and none is delivered while nobody
 * reads; outcomes and problems are bounded by `ready`.
 */
export function createOutbox(options: OutboxOptions): Outbox {
  const { clock, heartbeatIntervalMs } = options;
  let isOpened = false;
  let withdrawals: { readonly reason: WithdrawalReason; readonly holdIds: number[] }[] = [];
  let outcomes: VerdictOutcome[] = [];
  let problems: Problem[] = [];
  let parked: ((result: IteratorResult<DeciderMessage>) => void) | undefined;
  let readyWaiters: (() => void)[] = [];
  let waking = false;
  let ended = false;
  let abandoned = false;
  let takenAtMs = clock.now();
  let cancelHeartbeat: (() => void) | undefined;

  function take(): DeciderMessage | undefined {
    if (!isOpened) {
      isOpened = true;
      return options.first();
    }
    const problem = problems.shift();
    if (problem !== undefined) return { kind: "problem", problem };
    const withdrawal = withdrawals.shift();
    if (withdrawal !== undefined) return { kind: "withdrawal", ...withdrawal };
    if (outcomes.length > 0) {
      const message = { kind: "outcomes", outcomes: outcomes.slice(0, maxEntries) } as const;
      outcomes = outcomes.slice(maxEntries);
      return message;
    }
    if (ended) return undefined;
    const calls = options.takeCalls();
    return calls.length > 0 ? { kind: "calls", calls } : undefined;
  }

  function next(): IteratorResult<DeciderMessage> | undefined {
    if (abandoned) return done;
    const message = take();
    if (message === undefined) return ended ? done : undefined;
    takenAtMs = clock.now();
    if (!isFull()) letReadersOn();
    return { done: false, value: message };
  }

  function isFull(): boolean {
    return !ended && outcomes.length + problems.length >= maxReplies;
  }

  function letReadersOn(): void {
    if (readyWaiters.length === 0) return;
    const waiters = readyWaiters;
    readyWaiters = [];
    for (const resolve of waiters) resolve();
  }

  function settleParked(result: IteratorResult<DeciderMessage>): void {
    const resolve = parked;
    parked = undefined;
    resolve?.(result);
  }

  function wake(): void {
    if (parked === undefined || waking) return;
    waking = true;
    queueMicrotask(() => {
      waking = false;
      if (parked === undefined) return;
      const result = next();
      if (result !== undefined) settleParked(result);
    });
  }

  function beat(): void {
    cancelHeartbeat = undefined;
    if (ended) return;
    const idleMs = clock.now() - takenAtMs;
    if (parked !== undefined && idleMs >= heartbeatIntervalMs) {
      takenAtMs = clock.now();
      settleParked({ done: false, value: { kind: "heartbeat", ...options.load() } });
    }
    scheduleBeat();
  }

  function scheduleBeat(): void {
    const idleMs = clock.now() - takenAtMs;
    cancelHeartbeat = clock.after(Math.max(1, heartbeatIntervalMs - idleMs), beat);
  }

  function end(): void {
    if (ended) return;
    ended = true;
    cancelHeartbeat?.();
    cancelHeartbeat = undefined;
    letReadersOn();
    wake();
  }

  scheduleBeat();
  return {
    withdraw(holdId, reason) {
      const last = withdrawals.at(-1);
      if (last?.reason === reason && last.holdIds.length < maxEntries) last.holdIds.push(holdId);
      else withdrawals.push({ reason, holdIds: [holdId] });
      wake();
    },
    outcome(outcome) {
      outcomes.push(outcome);
      wake();
    },
    problem(problem) {
      problems.push(problem);
      wake();
    },
    wake,
    end,
    ready() {
      return isFull() ? new Promise((resolve) => readyWaiters.push(resolve)) : Promise.resolve();
    },
    messages() {
      return {
        next() {
          const result = next();
          return result !== undefined ? Promise.resolve(result) : new Promise((resolve) => (parked = resolve));
        },
        return() {
          if (!abandoned) {
            abandoned = true;
            withdrawals = [];
            outcomes = [];
            problems = [];
            options.abandoned();
            settleParked(done);
          }
          return Promise.resolve(done);
        },
        [Symbol.asyncIterator]() {
          return this;
        },
      };
    },
  };
}
