import { type Clock, systemClock } from "../../base/clock.js";
import { type Deadline, noDeadline } from "../../base/deadlines.js";
import { SandboxError } from "../../base/errors.js";
import type { EventBody, EventSink, Fallback, Grant, HeldCall, Settlement, VerdictSource } from "../model.js";
import { compileMatch } from "../policy/match.js";
import type { HoldEngine, HoldIntake, HoldSubject } from "../ports.js";
import { createDeadlines } from "./deadlines.js";
import {
  type DeciderOptions,
  type DeciderSession,
  type DecisionApi,
  type DeliveredCall,
  type Problem,
  type Remember,
  type SandboxSelector,
  selects,
  type Verdict,
  type VerdictOutcome,
  type WithdrawalReason,
} from "./decider.js";
import { createGrantStore } from "./grants.js";
import { createOutbox, type Outbox } from "./outbox.js";
import { coalescingKey, sameCallKey } from "./same-call.js";

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

export const defaultHoldLimits: HoldLimits = {
  maxHeld: 65_536,
  maxDecidersPerTenant: 1024,
  maxWindow: 4096,
  maxBatch: 64,
  maxGrantsPerSandbox: 1024,
  settledKept: 8192,
  heartbeatIntervalMs: 15_000,
};

export interface HoldRegistry extends HoldIntake, DecisionApi {
  /** The engine settled calls with this grant. */
  grantUsed(grantId: string, uses: number): void;
  /** The engine forgot a grant that was used up or is over. */
  grantEnded(grantId: string): void;
  /** Stops the timers. Whatever still waits is refused. */
  dispose(): void;
}

export interface HoldRegistryOptions {
  readonly engine: HoldEngine;
  readonly events: EventSink;
  readonly clock?: Clock;
  readonly limits?: Partial<HoldLimits>;
}

const EPERM = 1;
const SIGKILL = 9;
const maxErrno = 4095;
const maxSignal = 64;
/** Encoded bytes of calls in one message, about. */
const maxBatchBytes = 256 * 1024;

const refusal: Settlement = { kind: "deny", errno: EPERM };
const never = Number.POSITIVE_INFINITY;

/** What the registry keeps of a sandbox. */
interface HeldSandbox {
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

interface Waiting {
  readonly call: HeldCall;
  readonly heldAtMs: number;
}

/** One or more equal calls that wait for one answer. Its times are on its sandbox's clock. */
interface Question extends Deadline {
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

interface Session {
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

type SettledAs = "answered" | "timeout" | "gone";

/**
 * Every held call waits here until a decider answers, its time is over, or it vanishes, and is settled exactly once.
 * Only an allowing verdict, or a fallback that was set to the static policy, releases a call; whatever else happens
 * refuses it.
 */
export function createHoldRegistry(options: HoldRegistryOptions): HoldRegistry {
  const { engine, events } = options;
  const clock = options.clock ?? systemClock;
  const limits = { ...defaultHoldLimits, ...options.limits };
  const sandboxes = new Map<string, HeldSandbox>();
  const sessions = new Set<Session>();
  const calls = new Map<number, Question>();
  const settled = new Map<number, { readonly tenant: string; readonly sandboxId: string; readonly as: SettledAs }>();
  const deadlines = createDeadlines<Question>(clock, expire);
  const grants = createGrantStore({
    clock,
    maxPerSandbox: limits.maxGrantsPerSandbox,
    removeFromEngine: (sandboxId, grantId) => engine.removeGrant(sandboxId, grantId),
  });
  let sessionSerial = 0;

  // ------------------------------------------------------------------------------------------- intake

  function sandboxCreated(subject: HoldSubject): void {
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
    for (const session of sessions) if (decidesFor(session, sandbox)) addDecider(sandbox, session);
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

  function sandboxEnded(sandboxId: string): void {
    const sandbox = sandboxes.get(sandboxId);
    if (sandbox === undefined) return;
    for (const question of [...sandbox.questions]) {
      settle(question, refusal, "target_gone", {
        as: "gone",
        withdrawal: "sandbox_ended",
        reason: "the sandbox ended",
      });
    }
    sandboxes.delete(sandboxId);
    grants.sandboxEnded(sandboxId);
    for (const wake of [...sandbox.waiters]) wake();
  }

  function whenDecider(sandboxId: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sandbox = sandboxes.get(sandboxId);
      function look(): void {
        if (sandbox === undefined || sandboxes.get(sandboxId) !== sandbox) finish(() => reject(ended(sandboxId)));
        else if (signal.aborted) finish(() => reject(signal.reason));
        else if (sandbox.deciders.length > 0) finish(resolve);
      }
      function finish(answer: () => void): void {
        sandbox?.waiters.delete(look);
        signal.removeEventListener("abort", look);
        answer();
      }
      sandbox?.waiters.add(look);
      signal.addEventListener("abort", look);
      look();
    });
  }

  // ---------------------------------------------------------------------------------- who gets a question

  function decidesFor(session: Session, sandbox: HeldSandbox): boolean {
    return (
      session.state === "open" &&
      session.tenant === sandbox.subject.tenant &&
      selects(session.options.selector, sandbox.subject)
    );
  }

  function addDecider(sandbox: HeldSandbox, session: Session): void {
    const place = sandbox.deciders.findIndex((other) => other.rank > session.rank);
    sandbox.deciders.splice(place < 0 ? sandbox.deciders.length : place, 0, session);
    for (const wake of [...sandbox.waiters]) wake();
  }

  function findDecider(question: Question): Session | undefined {
    const [{ call }] = question.calls;
    return question.sandbox.deciders.find((session) => !question.abstained?.has(session) && session.wants(call));
  }

  /** Gives the question to the decider whose turn it is. Without one, it waits for the grace time or ends here. */
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

  /** Takes the question from its decider, if it has one. Tells that decider when it was out there. */
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

  /** The next questions for a session, as far as its window and one message go. From here on their time runs. */
  function takeCalls(session: Session): readonly DeliveredCall[] {
    if (session.queue.size === 0 || session.inFlight.size >= session.window) return [];
    const taken: DeliveredCall[] = [];
    const most = Math.min(session.window - session.inFlight.size, batchOf(session));
    let bytes = 0;
    for (const question of session.queue) {
      if (taken.length >= most || bytes >= maxBatchBytes) break;
      session.queue.delete(question);
      session.inFlight.add(question);
      question.delivered = true;
      question.attempt += 1;
      question.verdictByMs = sandboxNow(question.sandbox) + question.sandbox.subject.policy.verdictTimeoutMs;
      arm(question);
      const delivered = describe(question);
      bytes += sizeOf(delivered.call);
      taken.push(delivered);
    }
    return taken;
  }

  function batchOf(session: Session): number {
    const { maxBatch } = session.options;
    return maxBatch > 0 ? Math.min(maxBatch, limits.maxBatch) : limits.maxBatch;
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

  // ------------------------------------------------------------------------------------------- settling

  interface How {
    readonly as: SettledAs;
    readonly withdrawal?: WithdrawalReason;
    readonly sourceName?: string;
    readonly reason?: string;
    readonly labels?: ReadonlyMap<string, string>;
  }

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
    const { sandboxId, tenant, labels } = sandbox.subject;
    events.append({ timeMs: clock.wall(), sandboxId, tenant, labels, task: call.task, body });
  }

  // ------------------------------------------------------------------------------------------- verdicts

  interface Answerer {
    readonly tenant: string;
    readonly name: string;
    readonly mayAllow: boolean;
    /** Only calls leased to it are its to answer. Undefined: any of the tenant's. */
    readonly session: Session | undefined;
  }

  interface Answered {
    readonly outcome: VerdictOutcome;
    /** Calls that nobody has been asked about yet may be settled by it. */
    readonly grant: Grant | undefined;
  }

  function applyVerdict(answerer: Answerer, verdict: Verdict): Answered {
    const { holdId, action } = verdict;
    const found = find(answerer, holdId);
    if ("problem" in found) return failed(holdId, found.problem);
    const { question } = found;
    if (action.kind === "abstain") {
      abstain(question, answerer);
      return { outcome: { holdId, applied: true, problem: undefined, grantId: undefined }, grant: undefined };
    }
    const { settlement, problem } = judge(verdict, answerer.mayAllow);
    const memory = problem === undefined ? remember(question, verdict, settlement, answerer) : undefined;
    settle(question, settlement, "decider", {
      as: "answered",
      sourceName: answerer.name,
      reason: problem === undefined ? verdict.reason : problem.message,
      labels: verdict.labels,
      // A decider needs no word about what it answered itself.
      ...(question.decider !== answerer.session && { withdrawal: "answered" }),
    });
    return {
      outcome: {
        holdId,
        applied: problem === undefined,
        problem: problem ?? memory?.problem,
        grantId: memory?.grant?.grantId,
      },
      grant: memory?.grant,
    };
  }

  function failed(holdId: number, problem: Problem): Answered {
    return { outcome: { holdId, applied: false, problem, grantId: undefined }, grant: undefined };
  }

  /** The question that a verdict names, or why it cannot be answered. */
  function find(answerer: Answerer, holdId: number): { readonly question: Question } | { readonly problem: Problem } {
    const question = calls.get(holdId);
    if (question === undefined || question.sandbox.subject.tenant !== answerer.tenant) {
      return { problem: absence(answerer.tenant, holdId) };
    }
    const { session } = answerer;
    if (
      session === undefined ||
      (question.decider === session && question.delivered && holdIdOf(question) === holdId)
    ) {
      return { question };
    }
    if (!selects(session.options.selector, question.sandbox.subject))
      return { problem: absence(answerer.tenant, holdId) };
    return {
      problem: problem("failed_precondition", "LEASE_HELD", `call ${holdId} is not leased to this stream`, {
        holdId: String(holdId),
      }),
    };
  }

  function absence(tenant: string, holdId: number): Problem {
    const end = settled.get(holdId);
    const metadata = { holdId: String(holdId) };
    if (end === undefined || end.tenant !== tenant) {
      return problem("not_found", "HOLD_NOT_FOUND", `no call ${holdId} is held`, metadata);
    }
    switch (end.as) {
      case "answered":
        return problem("failed_precondition", "VERDICT_LATE", `call ${holdId} was answered before`, metadata);
      case "timeout":
        return problem("failed_precondition", "VERDICT_LATE", `call ${holdId} got its fallback before`, metadata);
      case "gone":
        return problem("failed_precondition", "TARGET_GONE", `the task that made call ${holdId} is gone`, metadata);
    }
  }

  function abstain(question: Question, answerer: Answerer): void {
    const { session } = answerer;
    if (session === undefined) return;
    question.abstained ??= new Set();
    question.abstained.add(session);
    unassign(question, undefined);
    assign(question);
  }

  /** Whether and how to remember a verdict. A failure to remember leaves the verdict as it is. */
  function remember(
    question: Question,
    verdict: Verdict,
    settlement: Settlement,
    answerer: Answerer,
  ): { readonly grant?: Grant; readonly problem?: Problem } | undefined {
    const wish = verdict.remember;
    if (wish === undefined) return undefined;
    const [{ call }] = question.calls;
    const obstacle = cannotRemember(wish, call, settlement);
    if (obstacle !== undefined || wish.kind === "invalid")
      return obstacle === undefined ? undefined : { problem: obstacle };
    const { subject } = question.sandbox;
    try {
      const { grant } = grants.add(subject, (grantId) => ({
        grant: {
          grantId,
          sandboxId: subject.sandboxId,
          match: wish.match === "same_call" ? { sameCall: call } : wish.match,
          settlement,
          expireTimeMs: wish.ttlMs === undefined ? undefined : clock.wall() + wish.ttlMs,
          maxUses: wish.maxUses,
        },
        verdict,
        origin: call,
        decider: answerer.name,
        createTimeMs: clock.wall(),
        uses: 0,
      }));
      engine.addGrant(grant);
      return { grant };
    } catch (error) {
      if (error instanceof SandboxError) return { problem: error };
      throw error;
    }
  }

  /** Settles with a new grant what nobody was asked about yet. What is out with a decider stays that decider's. */
  function applyGrant(grant: Grant): void {
    const sandbox = sandboxes.get(grant.sandboxId);
    if (sandbox === undefined || grant.maxUses > 0) return;
    const { match, settlement } = grant;
    const matches = "sameCall" in match ? sameAs(match.sameCall) : compileMatch(match);
    for (const question of [...sandbox.questions]) {
      const [{ call }] = question.calls;
      if (question.delivered || (settlement.kind === "allow" && call.integrity === "racy") || !matches(call)) continue;
      grants.used(grant.grantId, question.calls.length);
      settle(question, settlement, "grant", { as: "answered", sourceName: grant.grantId });
    }
  }

  // ------------------------------------------------------------------------------------------- sessions

  function openDecider(tenant: string, identity: string, wanted: DeciderOptions): DeciderSession {
    let ofTenant = 0;
    for (const other of sessions) if (other.tenant === tenant) ofTenant += 1;
    if (ofTenant >= limits.maxDecidersPerTenant) {
      throw new SandboxError("resource_exhausted", `${ofTenant} deciders are connected already`, {
        reason: "QUOTA_EXHAUSTED",
        metadata: { limit: "deciders", value: String(limits.maxDecidersPerTenant) },
      });
    }
    const matchKey = JSON.stringify(wanted.match ?? {});
    const holder = [...sessions].find((other) => other.tenant === tenant && competes(other, wanted, matchKey));
    if (holder !== undefined && !wanted.takeOver) {
      throw new SandboxError(
        "failed_precondition",
        `decider "${holder.options.name}" holds the lease for these calls`,
        {
          reason: "LEASE_HELD",
          metadata: { decider: holder.options.name, identity: holder.identity },
        },
      );
    }
    sessionSerial += 1;
    const sessionId = `decider-${sessionSerial}`;
    let opened = { sandboxes: 0, backlog: 0 };
    const session: Session = {
      sessionId,
      tenant,
      identity,
      options: { ...wanted, name: wanted.name || sessionId },
      wants: wanted.match === undefined ? () => true : compileMatch(wanted.match),
      matchKey,
      rank: rankOf(wanted, holder !== undefined),
      queue: new Set(),
      inFlight: new Set(),
      outbox: createOutbox({
        clock,
        heartbeatIntervalMs: limits.heartbeatIntervalMs,
        first: () => ({
          kind: "opened",
          sessionId,
          ...opened,
          heartbeatIntervalMs: limits.heartbeatIntervalMs,
          mayAllow: wanted.mayAllow,
        }),
        takeCalls: () => takeCalls(session),
        load: () => ({ inFlight: session.inFlight.size, queued: session.queue.size }),
        abandoned: () => closeSession(session),
      }),
      window: Math.min(wanted.window, limits.maxWindow),
      state: "open",
    };
    sessions.add(session);
    const chosen = [...sandboxes.values()].filter((sandbox) => decidesFor(session, sandbox));
    for (const sandbox of chosen) addDecider(sandbox, session);
    for (const sandbox of chosen) {
      for (const question of [...sandbox.questions]) offer(question, session);
    }
    opened = { sandboxes: chosen.length, backlog: session.queue.size };
    emitDecider(session, true, () => 0);
    return face(session);
  }

  /** Gives a waiting question to a new decider, if it comes before the one that has it. */
  function offer(question: Question, session: Session): void {
    const { decider } = question;
    if (findDecider(question) !== session) return;
    if (decider !== undefined) {
      // What is out stays out, unless the lease is taken over.
      if (question.delivered && session.rank > 0) return;
      unassign(question, "reassigned");
    }
    assign(question);
  }

  function face(session: Session): DeciderSession {
    const { outbox } = session;
    return {
      sessionId: session.sessionId,
      messages: () => outbox.messages(),
      answer(verdicts) {
        const answerer = {
          tenant: session.tenant,
          name: session.options.name,
          mayAllow: session.options.mayAllow,
          session,
        };
        const made: Grant[] = [];
        for (const verdict of verdicts) {
          if (session.state === "closed") return;
          const { outcome, grant } = applyVerdict(answerer, verdict);
          if (grant !== undefined) made.push(grant);
          if (session.options.reportOutcomes === "all" || outcome.problem !== undefined) outbox.outcome(outcome);
        }
        // After all verdicts of the message: a grant never gets ahead of an explicit answer beside it.
        for (const grant of made) applyGrant(grant);
      },
      setWindow(window) {
        session.window = Math.min(window, limits.maxWindow);
        outbox.wake();
      },
      extend: (holdIds, timeLeftMs) => extend(session, holdIds, timeLeftMs),
      drain(close) {
        if (session.state === "open") {
          session.state = "draining";
          handBack(session, "reassigned");
        }
        if (close) closeSession(session);
      },
      report: (found) => outbox.problem(found),
      ready: () => outbox.ready(),
      close: () => closeSession(session),
    };
  }

  function extend(session: Session, holdIds: readonly number[], timeLeftMs: number): void {
    if (!(timeLeftMs > 0)) {
      session.outbox.problem(
        problem("invalid_argument", "INVALID_FIELD", "time_left must be positive", {}, "extension.time_left"),
      );
      return;
    }
    for (const holdId of holdIds) {
      const question = calls.get(holdId);
      if (
        question === undefined ||
        question.decider !== session ||
        !question.delivered ||
        holdIdOf(question) !== holdId
      ) {
        const found = find({ tenant: session.tenant, name: "", mayAllow: false, session }, holdId);
        if ("problem" in found)
          session.outbox.outcome({ holdId, applied: false, problem: found.problem, grantId: undefined });
        continue;
      }
      question.verdictByMs = Math.min(question.holdByMs, sandboxNow(question.sandbox) + timeLeftMs);
      arm(question);
    }
  }

  /** Takes every question from a session and gives it to the next decider, else to the no-decider policy. */
  function handBack(session: Session, withdrawal: WithdrawalReason | undefined): void {
    for (const sandbox of sandboxes.values()) {
      const place = sandbox.deciders.indexOf(session);
      if (place >= 0) sandbox.deciders.splice(place, 1);
    }
    const handed = [...session.inFlight, ...session.queue];
    for (const question of handed) unassign(question, withdrawal);
    for (const question of handed) assign(question);
  }

  function closeSession(session: Session): void {
    if (session.state === "closed") return;
    const leased = new Map<string, number>();
    for (const { sandbox } of session.inFlight) {
      const { sandboxId } = sandbox.subject;
      leased.set(sandboxId, (leased.get(sandboxId) ?? 0) + 1);
    }
    const all = session.inFlight.size;
    session.state = "closed";
    sessions.delete(session);
    handBack(session, undefined);
    session.outbox.end();
    emitDecider(session, false, (sandboxId) => (sandboxId === undefined ? all : (leased.get(sandboxId) ?? 0)));
  }

  /** One event for each sandbox that the decider named; one without a sandbox when it chose by labels. */
  function emitDecider(session: Session, connected: boolean, leased: (sandboxId: string | undefined) => number): void {
    const { name, selector } = session.options;
    const named: (string | undefined)[] = [...selector.sandboxIds];
    for (const sandboxId of named.length > 0 ? named : [undefined]) {
      const subject = sandboxId === undefined ? undefined : sandboxes.get(sandboxId)?.subject;
      events.append({
        timeMs: clock.wall(),
        sandboxId: sandboxId ?? "",
        tenant: session.tenant,
        labels: subject?.tenant === session.tenant ? subject.labels : selector.labels,
        task: undefined,
        body: {
          kind: "decider_changed",
          decider: name,
          connected,
          leased: leased(sandboxId),
          identity: session.identity,
        },
      });
    }
  }

  function competes(other: Session, wanted: DeciderOptions, matchKey: string): boolean {
    return (
      other.state === "open" &&
      wanted.role === "primary" &&
      other.options.role === "primary" &&
      other.matchKey === matchKey &&
      mayOverlap(other.options.selector, wanted.selector)
    );
  }

  /** Primaries before standbys; a take-over before those it took over from; else who came first. */
  function rankOf({ role }: DeciderOptions, takesOver: boolean): number {
    if (role === "standby") return 1e15 + sessionSerial;
    return takesOver ? -sessionSerial : sessionSerial;
  }

  // ------------------------------------------------------------------------------------------- without a stream

  function listHeld(tenant: string, selector: SandboxSelector, after: number, limit: number): readonly DeliveredCall[] {
    const found: Question[] = [];
    for (const { subject, questions } of sandboxes.values()) {
      if (subject.tenant !== tenant || !selects(selector, subject)) continue;
      for (const question of questions) if (holdIdOf(question) > after) found.push(question);
    }
    found.sort((one, other) => holdIdOf(one) - holdIdOf(other));
    return found.slice(0, limit).map(describe);
  }

  function resolve(
    tenant: string,
    identity: string,
    sandboxId: string,
    verdict: Verdict,
    mayAllow: boolean,
  ): VerdictOutcome {
    if (verdict.action.kind === "abstain") {
      throw new SandboxError("invalid_argument", "verdict.abstain: only a decider on a stream can abstain", {
        reason: "INVALID_FIELD",
        field: "verdict.abstain",
      });
    }
    const { holdId } = verdict;
    const question = calls.get(holdId);
    const known = question?.sandbox.subject ?? settled.get(holdId);
    if (known?.tenant !== tenant || known.sandboxId !== sandboxId) {
      throw new SandboxError("not_found", `no call ${holdId} of sandbox "${sandboxId}" is held`, {
        reason: "HOLD_NOT_FOUND",
        metadata: { holdId: String(holdId), sandboxId },
      });
    }
    if (question === undefined) {
      const { code, message, reason, metadata } = absence(tenant, holdId);
      throw new SandboxError(code, message, { reason, metadata });
    }
    const { outcome, grant } = applyVerdict({ tenant, name: identity, mayAllow, session: undefined }, verdict);
    if (grant !== undefined) applyGrant(grant);
    return outcome;
  }

  return {
    sandboxCreated,
    held,
    gone,
    paused,
    sandboxEnded,
    counts(sandboxId) {
      const sandbox = sandboxes.get(sandboxId);
      return {
        held: sandbox?.held ?? 0,
        deciders: sandbox?.deciders.length ?? 0,
        heldTotal: sandbox?.heldTotal ?? 0,
        heldTimeMs: sandbox?.heldTimeMs ?? 0,
      };
    },
    whenDecider,
    openDecider,
    listHeld,
    resolve,
    listGrants: grants.list,
    revokeGrants: grants.revoke,
    grantUsed: grants.used,
    grantEnded: grants.ended,
    dispose() {
      for (const sandbox of [...sandboxes.values()]) sandboxEnded(sandbox.subject.sandboxId);
      for (const session of [...sessions]) closeSession(session);
      deadlines.dispose();
      grants.dispose();
    },
  };
}

/** What a verdict does to its call. With a problem, the call is refused, or killed where the verdict says so. */
function judge(verdict: Verdict, mayAllow: boolean): { readonly settlement: Settlement; readonly problem?: Problem } {
  const { action, narrows } = verdict;
  const unable = narrows ? notImplemented("narrow") : undefined;
  switch (action.kind) {
    case "allow":
      if (unable !== undefined) return { settlement: refusal, problem: unable };
      if (mayAllow) return { settlement: { kind: "allow" } };
      return {
        settlement: refusal,
        problem: problem(
          "permission_denied",
          "CEILING_EXCEEDED",
          "this decider may only refuse",
          { right: "allow" },
          "allow",
        ),
      };
    case "deny": {
      const isErrno = Number.isInteger(action.errno) && action.errno >= 0 && action.errno <= maxErrno;
      if (isErrno) return withProblem({ kind: "deny", errno: action.errno || EPERM }, unable);
      const message = `error_number must be 1 to ${maxErrno}; the call got EPERM`;
      return withProblem(refusal, problem("invalid_argument", "INVALID_FIELD", message, {}, "deny.error_number"));
    }
    case "kill": {
      const { scope, signal } = action;
      const isSignal = Number.isInteger(signal) && signal >= 0 && signal <= maxSignal;
      if (isSignal) return withProblem({ kind: "kill", scope, signal: signal || SIGKILL }, unable);
      const message = `signal must be 1 to ${maxSignal}; the signal was SIGKILL`;
      return withProblem(
        { kind: "kill", scope, signal: SIGKILL },
        problem("invalid_argument", "INVALID_FIELD", message, {}, "kill.signal"),
      );
    }
    case "unsupported":
      return { settlement: refusal, problem: notImplemented(action.field) };
    case "unknown": {
      const message = "the verdict has no action that this server knows; the call got EPERM";
      return { settlement: refusal, problem: problem("invalid_argument", "INVALID_FIELD", message, {}, "action") };
    }
    case "abstain":
      throw new Error("an abstention settles nothing");
  }
}

function withProblem(
  settlement: Settlement,
  found: Problem | undefined,
): { settlement: Settlement; problem?: Problem } {
  return found === undefined ? { settlement } : { settlement, problem: found };
}

function cannotRemember(wish: Remember, call: HeldCall, settlement: Settlement): Problem | undefined {
  if (wish.kind === "invalid") return wish.problem;
  if (wish.scope !== "sandbox") return notImplemented("remember.scope", { scope: wish.scope });
  if (settlement.kind === "allow" && call.integrity === "racy") {
    return problem(
      "failed_precondition",
      "CEILING_EXCEEDED",
      "the program can change this call's arguments after the verdict, so it cannot be remembered as allowed; it was allowed once",
      { integrity: "RACY" },
      "remember",
    );
  }
  if (wish.match === "same_call" && sameCallKey(call) === undefined) {
    return problem(
      "failed_precondition",
      "CEILING_EXCEEDED",
      "the call's arguments are not known in full, so that no other is known to be the same",
      { argv: "cut" },
      "remember.same_call",
    );
  }
  return undefined;
}

function notImplemented(field: string, metadata: Readonly<Record<string, string>> = {}): Problem {
  return problem("unimplemented", "NOT_IMPLEMENTED", `${field} is not implemented in this version`, metadata, field);
}

function problem(
  code: Problem["code"],
  reason: Problem["reason"],
  message: string,
  metadata: Readonly<Record<string, string>>,
  field?: string,
): Problem {
  return { code, reason, message, metadata, field };
}

function settlementOf(fallback: Fallback): Settlement {
  switch (fallback.kind) {
    case "deny":
      return { kind: "deny", errno: fallback.errno || EPERM };
    case "kill":
      return { kind: "kill", scope: fallback.scope, signal: fallback.signal || SIGKILL };
    case "static_policy":
      return { kind: "static" };
  }
}

function holdIdOf(question: Question): number {
  return question.calls[0].call.holdId;
}

/** Takes one call out of a question. */
function without(
  waiting: readonly Waiting[],
  holdId: number,
): readonly [Waiting | undefined, readonly [Waiting, ...Waiting[]] | undefined] {
  const [first, ...others] = waiting.filter(({ call }) => call.holdId !== holdId);
  return [waiting.find(({ call }) => call.holdId === holdId), first === undefined ? undefined : [first, ...others]];
}

function sameAs(call: HeldCall): (other: HeldCall) => boolean {
  const key = sameCallKey(call);
  return (other) => key !== undefined && sameCallKey(other) === key;
}

function ended(sandboxId: string): SandboxError {
  return new SandboxError("failed_precondition", `sandbox "${sandboxId}" ended`, {
    reason: "WRONG_STATE",
    metadata: { sandboxId },
  });
}

/** Whether some sandbox, there or still to come, may be chosen by both. */
function mayOverlap(one: SandboxSelector, other: SandboxSelector): boolean {
  for (const [name, value] of one.labels) {
    const wanted = other.labels.get(name);
    if (wanted !== undefined && wanted !== value) return false;
  }
  if (one.sandboxIds.size === 0 || other.sandboxIds.size === 0) return true;
  for (const sandboxId of one.sandboxIds) if (other.sandboxIds.has(sandboxId)) return true;
  return false;
}

/** About what a call takes in a message. */
function sizeOf({ task, detail }: HeldCall): number {
  const base = 256 + task.executable.length + task.command.length;
  switch (detail.kind) {
    case "file":
      return base + detail.path.length;
    case "exec":
      return detail.argv.reduce((sum, argument) => sum + argument.length + 4, base + detail.program.length);
    case "network":
    case "raw":
      return base;
  }
}
