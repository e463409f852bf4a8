import { type Clock, systemClock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { EventSink } from "../model.js";
import type { HoldEngine, HoldIntake } from "../ports.js";
import { createAnswers } from "./answers.js";
import {
  type DecisionApi,
  type DeliveredCall,
  type SandboxSelector,
  selects,
  type Verdict,
  type VerdictOutcome,
} from "./decider.js";
import { createGrantStore } from "./grants.js";
import { createMemory } from "./memory.js";
import { createQuestions } from "./questions.js";
import { createSessions } from "./sessions.js";
import { type HoldLimits, holdIdOf, type Question } from "./state.js";

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
  totals(): HoldTotals;
  /** Stops the timers. Whatever still waits is refused. */
  dispose(): void;
}

/** Over all sandboxes. */
export interface HoldTotals {
  /** Calls that wait. */
  readonly held: number;
  /** Questions that wait for room in a decider's window, and those that are out with one. */
  readonly queued: number;
  readonly inFlight: number;
  readonly deciders: number;
  readonly grants: number;
}

export interface HoldRegistryOptions {
  readonly engine: HoldEngine;
  readonly events: EventSink;
  readonly clock?: Clock;
  readonly limits?: Partial<HoldLimits>;
}

/**
 * Every held call waits here until a decider answers, its time is over, or it vanishes, and is settled exactly once.
 * Only an allowing verdict, or a fallback that was set to the static policy, releases a call; whatever else happens
 * refuses it.
 */
export function createHoldRegistry(options: HoldRegistryOptions): HoldRegistry {
  const { engine, events } = options;
  const clock = options.clock ?? systemClock;
  const limits = { ...defaultHoldLimits, ...options.limits };
  const grants = createGrantStore({
    clock,
    events,
    maxPerSandbox: limits.maxGrantsPerSandbox,
    removeFromEngine: (sandboxId, grantId) => engine.removeGrant(sandboxId, grantId),
  });
  const questions = createQuestions({ engine, events, clock, limits });
  const memory = createMemory({ questions, grants, engine, clock });
  const answers = createAnswers({ questions, grants, memory });
  const sessions = createSessions({ questions, answers, memory, events, clock, limits });

  function whenDecider(sandboxId: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sandbox = questions.sandboxes.get(sandboxId);
      function look(): void {
        if (sandbox === undefined || questions.sandboxes.get(sandboxId) !== sandbox)
          finish(() => reject(ended(sandboxId)));
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

  function listHeld(tenant: string, selector: SandboxSelector, after: number, limit: number): readonly DeliveredCall[] {
    const found: Question[] = [];
    for (const { subject, questions: waiting } of questions.sandboxes.values()) {
      if (subject.tenant !== tenant || !selects(selector, subject)) continue;
      for (const question of waiting) if (holdIdOf(question) > after) found.push(question);
    }
    found.sort((one, other) => holdIdOf(one) - holdIdOf(other));
    return found.slice(0, limit).map(questions.describe);
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
    const question = questions.of(holdId);
    const known = question?.sandbox.subject ?? questions.endOf(holdId);
    if (known?.tenant !== tenant || known.sandboxId !== sandboxId) {
      throw new SandboxError("not_found", `no call ${holdId} of sandbox "${sandboxId}" is held`, {
        reason: "HOLD_NOT_FOUND",
        metadata: { holdId: String(holdId), sandboxId },
      });
    }
    if (question === undefined) {
      const { code, message, reason, metadata } = answers.absence(tenant, holdId);
      throw new SandboxError(code, message, { reason, metadata });
    }
    const { outcome, grants: made } = answers.apply({ tenant, name: identity, mayAllow, session: undefined }, verdict);
    for (const grant of made) answers.applyGrant(grant);
    return outcome;
  }

  function sandboxEnded(sandboxId: string): void {
    if (!questions.sandboxEnded(sandboxId)) return;
    grants.sandboxEnded(sandboxId);
    memory.sandboxEnded(sandboxId);
  }

  return {
    sandboxCreated(subject) {
      const sandbox = questions.sandboxCreated(subject);
      sessions.sandboxCreated(sandbox);
      memory.sandboxCreated(sandbox);
    },
    held: questions.held,
    gone: questions.gone,
    paused: questions.paused,
    sandboxEnded,
    counts(sandboxId) {
      const sandbox = questions.sandboxes.get(sandboxId);
      return {
        held: sandbox?.held ?? 0,
        deciders: sandbox?.deciders.length ?? 0,
        heldTotal: sandbox?.heldTotal ?? 0,
        heldTimeMs: sandbox?.heldTimeMs ?? 0,
      };
    },
    whenDecider,
    openDecider: sessions.open,
    listHeld,
    resolve,
    listGrants: grants.list,
    revokeGrants(tenant, grantIds, selector) {
      const revoked = grants.revoke(tenant, grantIds, selector);
      memory.revoked(revoked);
      return revoked.length;
    },
    grantUsed: grants.used,
    grantEnded: grants.ended,
    totals() {
      let held = 0;
      for (const sandbox of questions.sandboxes.values()) held += sandbox.held;
      return { held, ...sessions.totals(), grants: grants.size };
    },
    dispose() {
      for (const { subject } of [...questions.sandboxes.values()]) sandboxEnded(subject.sandboxId);
      sessions.dispose();
      questions.dispose();
      grants.dispose();
    },
  };
}

function ended(sandboxId: string): SandboxError {
  return new SandboxError("failed_precondition", `sandbox "${sandboxId}" ended`, {
    reason: "WRONG_STATE",
    metadata: { sandboxId },
  });
}
