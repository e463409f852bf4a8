import type { Clock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { EventSink, Grant, HeldCall } from "../model.js";
import { compileMatch } from "../policy/match.js";
import type { Answers } from "./answers.js";
import {
  type DeciderOptions,
  type DeciderSession,
  type DeliveredCall,
  type SandboxSelector,
  selects,
  type WithdrawalReason,
} from "./decider.js";
import type { Memory } from "./memory.js";
import { createOutbox } from "./outbox.js";
import type { Questions } from "./questions.js";
import { problem } from "./settlement.js";
import { type HeldSandbox, type HoldLimits, holdIdOf, type Question, type Session } from "./state.js";

/** The deciders that are connected. */
export interface Sessions {
  /** Throws `resource_exhausted` for one too many, `failed_precondition` (LEASE_HELD) where another holds the lease. */
  open(tenant: string, identity: string, wanted: DeciderOptions): DeciderSession;
  /** Lets the deciders that chose a new sandbox have its calls. */
  sandboxCreated(sandbox: HeldSandbox): void;
  /** Questions that wait for room in a window, and those that are out; and how many deciders there are. */
  totals(): { readonly queued: number; readonly inFlight: number; readonly deciders: number };
  dispose(): void;
}

export interface SessionsOptions {
  readonly questions: Questions;
  readonly answers: Answers;
  readonly memory: Memory;
  readonly events: EventSink;
  readonly clock: Clock;
  readonly limits: HoldLimits;
}

/** Encoded bytes of calls in one message, about. */
const maxBatchBytes = 256 * 1024;

export function createSessions({ questions, answers, memory, events, clock, limits }: SessionsOptions): Sessions {
  const sessions = new Set<Session>();
  let sessionSerial = 0;

  function open(tenant: string, identity: string, wanted: DeciderOptions): DeciderSession {
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
    const chosen = [...questions.sandboxes.values()].filter((sandbox) => decidesFor(session, sandbox));
    for (const sandbox of chosen) addDecider(sandbox, session);
    for (const sandbox of chosen) {
      for (const question of [...sandbox.questions]) offer(question, session);
    }
    opened = { sandboxes: chosen.length, backlog: session.queue.size };
    emitDecider(session, true, () => 0);
    return face(session);
  }

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

  /** Gives a waiting question to a new decider, if it comes before the one that has it. */
  function offer(question: Question, session: Session): void {
    const { decider } = question;
    if (questions.findDecider(question) !== session) return;
    if (decider !== undefined) {
      // What is out stays out, unless the lease is taken over.
      if (question.delivered && session.rank > 0) return;
      questions.unassign(question, "reassigned");
    }
    questions.assign(question);
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
      const delivered = questions.deliver(question);
      bytes += sizeOf(delivered.call);
      taken.push(delivered);
    }
    return taken;
  }

  function batchOf(session: Session): number {
    const { maxBatch } = session.options;
    return maxBatch > 0 ? Math.min(maxBatch, limits.maxBatch) : limits.maxBatch;
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
          const { outcome, grants } = answers.apply(answerer, verdict);
          made.push(...grants);
          if (session.options.reportOutcomes === "all" || outcome.problem !== undefined) outbox.outcome(outcome);
        }
        // After all verdicts of the message: a grant never gets ahead of an explicit answer beside it.
        for (const grant of made) answers.applyGrant(grant);
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
      const question = questions.of(holdId);
      if (
        question === undefined ||
        question.decider !== session ||
        !question.delivered ||
        holdIdOf(question) !== holdId
      ) {
        const found = answers.find({ tenant: session.tenant, name: "", mayAllow: false, session }, holdId);
        if ("problem" in found)
          session.outbox.outcome({ holdId, applied: false, problem: found.problem, grantId: undefined });
        continue;
      }
      questions.extend(question, timeLeftMs);
    }
  }

  /** Takes every question from a session and gives it to the next decider, else to the no-decider policy. */
  function handBack(session: Session, withdrawal: WithdrawalReason | undefined): void {
    for (const sandbox of questions.sandboxes.values()) {
      const place = sandbox.deciders.indexOf(session);
      if (place >= 0) sandbox.deciders.splice(place, 1);
    }
    const handed = [...session.inFlight, ...session.queue];
    for (const question of handed) questions.unassign(question, withdrawal);
    for (const question of handed) questions.assign(question);
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
    memory.sessionClosed(session);
    handBack(session, undefined);
    session.outbox.end();
    emitDecider(session, false, (sandboxId) => (sandboxId === undefined ? all : (leased.get(sandboxId) ?? 0)));
  }

  /** One event for each sandbox that the decider named; one without a sandbox when it chose by labels. */
  function emitDecider(session: Session, connected: boolean, leased: (sandboxId: string | undefined) => number): void {
    const { name, selector } = session.options;
    const named: (string | undefined)[] = [...selector.sandboxIds];
    for (const sandboxId of named.length > 0 ? named : [undefined]) {
      const subject = sandboxId === undefined ? undefined : questions.sandboxes.get(sandboxId)?.subject;
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

  return {
    open,
    sandboxCreated(sandbox) {
      for (const session of sessions) if (decidesFor(session, sandbox)) addDecider(sandbox, session);
    },
    totals() {
      let queued = 0;
      let inFlight = 0;
      for (const session of sessions) {
        queued += session.queue.size;
        inFlight += session.inFlight.size;
      }
      return { queued, inFlight, deciders: sessions.size };
    },
    dispose() {
      for (const session of [...sessions]) closeSession(session);
    },
  };
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
