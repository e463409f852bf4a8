import type { Clock } from "../../base/clock.js";
import { noDeadline } from "../../base/deadlines.js";
import type { EventBody, EventSink, HeldCall, Settlement, VerdictSource } from "../model.js";
import type { HoldEngine, HoldSubject } from "../ports.js";
import { createDeadlines } from "./deadlines.js";
import type { DeliveredCall, WithdrawalReason } from "./decider.js";
import { coalescingKey } from "./same-call.js";
import { refusal, settlementOf } from "./settlement.js";
import { type HeldSandbox, type HoldLimits, holdIdOf, type Question, type Session, type Waiting } from "./state.js";

export type SettledAs = "answered" | "timeout" | "gone";

/** How a question came to its end. */
export interface How {
  readonly as: SettledAs;
  readonly withdrawal?: WithdrawalReason;
  readonly sourceName?: string;
  readonly reason?: string;
  readonly labels?: ReadonlyMap<string, string>;
}

/** A call that is over: whose it was and how it ended. */
export interface SettledCall {
  readonly tenant: string;
  readonly sandboxId: string;
  readonly as: SettledAs;
}

/** Every held call, from its arrival to its one end, and the clocks that run meanwhile. */
export interface Questions {
  readonly sandboxes: ReadonlyMap<string, HeldSandbox>;
  sandboxCreated(subject: HoldSubject): HeldSandbox;
  held(call: HeldCall): void;
  gone(holdId: number): void;
  paused(sandboxId: string, isPaused: boolean): void;
  /** Refuses what still waits. False when the sandbox was not known. */
  sandboxEnded(sandboxId: string): boolean;
  /** The question that a held call belongs to. */
  of(holdId: number): Question | undefined;
  /** The end of a call that is held no more, as long as that is remembered. */
  endOf(holdId: number): SettledCall | undefined;
  settle(question: Question, settlement: Settlement, source: VerdictSource, how: How): void;
  /** The decider whose turn it is. */
  findDecider(question: Question): Session | undefined;
  /** Gives the question to the decider whose turn it is. Without one, it waits for the grace time or ends here. */
  assign(question: Question): void;
  /** Takes the question from its decider, if it has one. Tells that decider when it was out there. */
  unassign(question: Question, withdrawal: WithdrawalReason | undefined): void;
  /** The question goes out to its decider: from here on the time for a verdict runs. */
  deliver(question: Question): DeliveredCall;
  describe(question: Question): DeliveredCall;
  /** Moves the end of the time for a verdict, as far as the hold goes. */
  extend(question: Question, timeLeftMs: number): void;
  dispose(): void;
}

export interface QuestionsOptions {
  readonly engine: HoldEngine;
  readonly events: EventSink;
  readonly clock: Clock;
  readonly limits: HoldLimits;
}

const never = Number.POSITIVE_INFINITY;

export function createQuestions({ engine, events, clock, limits }: QuestionsOptions): Questions {
  const sandboxes = new Map<string, HeldSandbox>();
  const calls = new Map<number, Question>();
  const settled = new Map<number, SettledCall>();
  const deadlines = createDeadlines<Question>(clock, expire);

  // ------------------------------------------------------------------------------------------- intake

  function sandboxCreated(subject: HoldSubject): HeldSandbox {
    const sandbox: HeldSandbox = {
      subject,
      deciders: [],
      questions: new Set(),
      byKey: new Map(),
      waiters: new Set(),
      held: 0,
      heldTotal: 0,
      heldTimeMs: 0,
      overflowing: false,
      pausedAtMs: undefined,
      pausedMs: 0,
    };
    sandboxes.set(subject.sandboxId, sandbox);
    return sandbox;
  }

  function held(call: HeldCall): void {
    const sandbox = sandboxes.get(call.sandboxId);
    if (sandbox === undefined) {
      engine.settle(call.holdId, refusal);
      return;
    }
    if (calls.has(call.holdId)) return;
    const { policy } = sandbox.subject;
    sandbox.heldTotal += 1;
    const ageMs = Math.min(Math.max(0, clock.wall() - call.timeMs), policy.maxHoldMs);
    const waiting: Waiting = { call, heldAtMs: clock.now() - ageMs };
    if (sandbox.held >= policy.maxHeld || calls.size >= limits.maxHeld) {
      overflow(sandbox, waiting);
      return;
    }
    sandbox.overflowing = false;
    sandbox.held += 1;
    emitCall(sandbox, call, { kind: "call_held", call });
    const key = policy.coalesce ? coalescingKey(call) : undefined;
    const equal = key === undefined ? undefined : sandbox.byKey.get(key);
    if (equal !== undefined) {
      equal.calls = [...equal.calls, waiting];
      calls.set(call.holdId, equal);
      return;
    }
    ask(sandbox, key, [waiting], undefined);
  }

  function overflow(sandbox: HeldSandbox, waiting: Waiting): void {
    const { call } = waiting;
    if (!sandbox.overflowing) {
      sandbox.overflowing = true;
      emitCall(sandbox, call, { kind: "limit_reached", limit: "max_held", action: "applied on_timeout" });
    }
    conclude(sandbox, waiting, settlementOf(sandbox.subject.policy.onTimeout), "timeout", {
      sourceName: "max_held",
      reason: "too many calls were held already",
      as: "timeout",
    });
  }

  function ask(
    sandbox: HeldSandbox,
    key: string | undefined,
    waiting: readonly [Waiting, ...Waiting[]],
    abstained: Set<Session> | undefined,
  ): void {
    const ageMs = clock.now() - waiting[0].heldAtMs;
    const question: Question = {
      sandbox,
      key,
      calls: waiting,
      holdByMs: sandboxNow(sandbox) - ageMs + sandbox.subject.policy.maxHoldMs,
      verdictByMs: never,
      graceByMs: never,
      decider: undefined,
      delivered: false,
      attempt: 0,
      abstained,
      ...noDeadline,
    };
    for (const { call } of waiting) calls.set(call.holdId, question);
    sandbox.questions.add(question);
    if (key !== undefined) sandbox.byKey.set(key, question);
    assign(question);
  }

  function gone(holdId: number): void {
    const question = calls.get(holdId);
    if (question === undefined) return;
    const { sandbox } = question;
    const [first] = question.calls;
    const [vanished, others] = without(question.calls, holdId);
    if (vanished === undefined) return;
    if (vanished === first) {
      retire(question, "target_gone");
    } else if (others !== undefined) {
      question.calls = others;
    }
    calls.delete(holdId);
    sandbox.held -= 1;
    conclude(sandbox, vanished, undefined, "target_gone", { as: "gone" });
    // The others are asked for anew under an id of their own: the question that was out named a call that is no more.
    if (vanished === first && others !== undefined) ask(sandbox, question.key, others, question.abstained);
  }

  function paused(sandboxId: string, isPaused: boolean): void {
    const sandbox = sandboxes.get(sandboxId);
    if (sandbox === undefined || isPaused === (sandbox.pausedAtMs !== undefined)) return;
    if (sandbox.pausedAtMs === undefined) {
      sandbox.pausedAtMs = clock.now();
    } else {
      sandbox.pausedMs += clock.now() - sandbox.pausedAtMs;
      sandbox.pausedAtMs = undefined;
    }
    for (const question of sandbox.questions) arm(question);
  }

  function sandboxEnded(sandboxId: string): boolean {
    const sandbox = sandboxes.get(sandboxId);
    if (sandbox === undefined) return false;
    for (const question of [...sandbox.questions]) {
      settle(question, refusal, "target_gone", {
        as: "gone",
        withdrawal: "sandbox_ended",
        reason: "the sandbox ended",
      });
    }
    sandboxes.delete(sandboxId);
    for (const wake of [...sandbox.waiters]) wake();
    return true;
  }

  // ---------------------------------------------------------------------------------- who gets a question

  function findDecider(question: Question): Session | undefined {
    const [{ call }] = question.calls;
    return question.sandbox.deciders.find((session) => !question.abstained?.has(session) && session.wants(call));
  }

  function assign(question: Question): void {
    const session = findDecider(question);
    if (session !== undefined) {
      question.decider = session;
      question.graceByMs = never;
      session.queue.add(question);
      arm(question);
      session.outbox.wake();
      return;
    }
    const { graceMs } = question.sandbox.subject.policy.onNoDecider;
    if (question.graceByMs === never) question.graceByMs = sandboxNow(question.sandbox) + graceMs;
    if (graceMs <= 0) giveUp(question);
    else arm(question);
  }

  function unassign(question: Question, withdrawal: WithdrawalReason | undefined): void {
    const session = question.decider;
    if (session === undefined) return;
    question.decider = undefined;
    question.verdictByMs = never;
    session.queue.delete(question);
    session.inFlight.delete(question);
    if (question.delivered && withdrawal !== undefined) session.outbox.withdraw(holdIdOf(question), withdrawal);
    question.delivered = false;
    session.outbox.wake();
  }

  function deliver(question: Question): DeliveredCall {
    const { sandbox } = question;
    question.delivered = true;
    question.attempt += 1;
    question.verdictByMs = sandboxNow(sandbox) + sandbox.subject.policy.verdictTimeoutMs;
    arm(question);
    return describe(question);
  }

  function describe(question: Question): DeliveredCall {
    const { sandbox } = question;
    const endMs = Math.min(question.holdByMs, question.verdictByMs, question.graceByMs);
    return {
      call: question.calls[0].call,
      timeLeftMs: Math.max(0, endMs - sandboxNow(sandbox)),
      waiting: question.calls.length,
      attempt: question.attempt,
      fallback:
        question.graceByMs === never ? sandbox.subject.policy.onTimeout : sandbox.subject.policy.onNoDecider.fallback,
    };
  }

  // ------------------------------------------------------------------------------------------- time

  /** Stands still while the sandbox is paused. */
  function sandboxNow(sandbox: HeldSandbox): number {
    return (sandbox.pausedAtMs ?? clock.now()) - sandbox.pausedMs;
  }

  function arm(question: Question): void {
    const { sandbox } = question;
    const endMs = Math.min(question.holdByMs, question.verdictByMs, question.graceByMs);
    deadlines.set(question, sandbox.pausedAtMs === undefined ? endMs + sandbox.pausedMs : never);
  }

  function expire(question: Question): void {
    // The due time was reckoned on another clock: a rounding apart is the same moment.
    const now = sandboxNow(question.sandbox) + 0.001;
    if (question.graceByMs <= now && question.graceByMs <= question.holdByMs) {
      giveUp(question);
    } else if (Math.min(question.holdByMs, question.verdictByMs) <= now) {
      const { onTimeout } = question.sandbox.subject.policy;
      settle(question, settlementOf(onTimeout), "timeout", {
        as: "timeout",
        withdrawal: "timeout",
        sourceName: onTimeout.kind,
      });
    } else {
      arm(question);
    }
  }

  function giveUp(question: Question): void {
    const { fallback } = question.sandbox.subject.policy.onNoDecider;
    settle(question, settlementOf(fallback), "no_decider", { as: "timeout", sourceName: fallback.kind });
  }

  function extend(question: Question, timeLeftMs: number): void {
    question.verdictByMs = Math.min(question.holdByMs, sandboxNow(question.sandbox) + timeLeftMs);
    arm(question);
  }

  // ------------------------------------------------------------------------------------------- settling

  function settle(question: Question, settlement: Settlement, source: VerdictSource, how: How): void {
    const { sandbox } = question;
    retire(question, how.withdrawal);
    for (const waiting of question.calls) {
      calls.delete(waiting.call.holdId);
      sandbox.held -= 1;
    }
    for (const waiting of question.calls) conclude(sandbox, waiting, settlement, source, how);
  }

  /** The question is no longer asked; what becomes of its calls is the caller's to say. */
  function retire(question: Question, withdrawal: WithdrawalReason | undefined): void {
    const { sandbox, key } = question;
    deadlines.clear(question);
    unassign(question, withdrawal);
    sandbox.questions.delete(question);
    if (key !== undefined && sandbox.byKey.get(key) === question) sandbox.byKey.delete(key);
  }

  /** The one place where a call ends. Without a settlement the engine has forgotten it already. */
  function conclude(
    sandbox: HeldSandbox,
    { call, heldAtMs }: Waiting,
    settlement: Settlement | undefined,
    source: VerdictSource,
    how: How,
  ): void {
    if (settlement !== undefined) engine.settle(call.holdId, settlement);
    const heldMs = Math.max(0, clock.now() - heldAtMs);
    sandbox.heldTimeMs += heldMs;
    const { tenant, sandboxId } = sandbox.subject;
    settled.set(call.holdId, { tenant, sandboxId, as: how.as });
    if (settled.size > limits.settledKept) {
      const oldest = settled.keys().next();
      if (oldest.done === false) settled.delete(oldest.value);
    }
    emitCall(sandbox, call, {
      kind: "call_settled",
      call,
      settlement: settlement ?? refusal,
      source,
      sourceName: how.sourceName ?? "",
      reason: how.reason ?? "",
      ...(how.labels !== undefined && how.labels.size > 0 && { verdictLabels: how.labels }),
      heldMs,
    });
  }

  function emitCall(sandbox: HeldSandbox, call: HeldCall, body: EventBody): void {
    const { sandboxId, tenant, labels, traceparent = "" } = sandbox.subject;
    events.append({ timeMs: clock.wall(), sandboxId, tenant, labels, task: call.task, traceparent, body });
  }

  return {
    sandboxes,
    sandboxCreated,
    held,
    gone,
    paused,
    sandboxEnded,
    of: (holdId) => calls.get(holdId),
    endOf: (holdId) => settled.get(holdId),
    settle,
    findDecider,
    assign,
    unassign,
    deliver,
    describe,
    extend,
    dispose: () => deadlines.dispose(),
  };
}

/** Takes one call out of a question. */
function without(
  waiting: readonly Waiting[],
  holdId: number,
): readonly [Waiting | undefined, readonly [Waiting, ...Waiting[]] | undefined] {
  const [first, ...others] = waiting.filter(({ call }) => call.holdId !== holdId);
  return [waiting.find(({ call }) => call.holdId === holdId), first === undefined ? undefined : [first, ...others]];
}
