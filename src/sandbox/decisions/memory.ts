import type { Clock } from "../../base/clock.js";
import { SandboxError } from "../../base/errors.js";
import type { Grant, HeldCall, Settlement } from "../model.js";
import type { HoldEngine } from "../ports.js";
import { type Problem, type Remember, selects, type Verdict } from "./decider.js";
import type { GrantStore } from "./grants.js";
import type { Questions } from "./questions.js";
import { cannotRemember, problem } from "./settlement.js";
import type { HeldSandbox, Session } from "./state.js";

/** What is made of a verdict to remember. */
export interface Remembered {
  /** New grants, the one for the call's own sandbox first; each may settle calls that wait. */
  readonly grants: readonly Grant[];
  readonly problem?: Problem;
}

/** A verdict that was given. */
export interface GivenVerdict {
  readonly call: HeldCall;
  readonly verdict: Verdict;
  readonly settlement: Settlement;
  /** A decider's name, or the caller's identity. */
  readonly decider: string;
  /** Undefined when it was given without a stream. */
  readonly session: Session | undefined;
}

/** Makes grants of verdicts that ask to be remembered. */
export interface Memory {
  /** Undefined when the verdict does not ask for it. A failure to remember leaves the verdict as it is. */
  remember(sandbox: HeldSandbox, given: GivenVerdict): Remembered | undefined;
  /** A new sandbox gets what open sessions remembered for all that they select. */
  sandboxCreated(sandbox: HeldSandbox): void;
  sandboxEnded(sandboxId: string): void;
  /** What a session remembered for its selector ends with it. */
  sessionClosed(session: Session): void;
  /** What a session remembered for its selector ends everywhere when one of its grants is revoked. */
  revoked(grantIds: readonly string[]): void;
}

export interface MemoryOptions {
  readonly questions: Questions;
  readonly grants: GrantStore;
  readonly engine: HoldEngine;
  readonly clock: Clock;
}

type Wish = Extract<Remember, { readonly kind: "grant" }>;

/** One verdict that holds for every sandbox of a session's selector, there or still to come. */
interface Standing {
  readonly given: GivenVerdict;
  readonly wish: Wish;
  readonly expireTimeMs: number | undefined;
  /** By sandbox. */
  readonly grantIds: Map<string, string>;
}

export function createMemory({ questions, grants, engine, clock }: MemoryOptions): Memory {
  const standing = new Map<Session, Standing[]>();

  /** Throws `resource_exhausted` when the sandbox has its share of grants. */
  function addGrant(
    { subject }: HeldSandbox,
    { call, verdict, settlement, decider }: GivenVerdict,
    wish: Wish,
    expireTimeMs: number | undefined,
  ): Grant {
    const { grant } = grants.add(subject, (grantId) => ({
      grant: {
        grantId,
        sandboxId: subject.sandboxId,
        executable: wish.scope === "executable" ? call.task.executable : undefined,
        match: wish.match === "same_call" ? { sameCall: call } : wish.match,
        settlement,
        expireTimeMs,
        maxUses: wish.maxUses,
      },
      verdict,
      origin: call,
      decider,
      createTimeMs: clock.wall(),
      uses: 0,
    }));
    engine.addGrant(grant);
    return grant;
  }

  /** A sandbox that has no room for one more asks again instead. */
  function extendTo(sandbox: HeldSandbox, { given, wish, expireTimeMs, grantIds }: Standing): Grant | undefined {
    try {
      const grant = addGrant(sandbox, given, wish, expireTimeMs);
      grantIds.set(grant.sandboxId, grant.grantId);
      return grant;
    } catch (error) {
      if (error instanceof SandboxError) return undefined;
      throw error;
    }
  }

  function rememberForAll(own: HeldSandbox, first: Grant, session: Session, rule: Standing): readonly Grant[] {
    standing.set(session, [...(standing.get(session) ?? []), rule]);
    rule.grantIds.set(first.sandboxId, first.grantId);
    const others = [...questions.sandboxes.values()].filter((other) => other !== own && chosenBy(session, other));
    return [first, ...others.map((other) => extendTo(other, rule)).filter((grant) => grant !== undefined)];
  }

  function end({ grantIds }: Standing): void {
    for (const grantId of grantIds.values()) grants.ended(grantId);
  }

  return {
    remember(sandbox, given) {
      const { verdict, call, settlement, session } = given;
      const wish = verdict.remember;
      if (wish === undefined) return undefined;
      const obstacle =
        cannotRemember(wish, call, settlement) ??
        (wish.kind === "grant" && wish.scope === "selector" && session === undefined ? withoutSelector() : undefined);
      if (obstacle !== undefined) return { grants: [], problem: obstacle };
      if (wish.kind === "invalid") return undefined;
      const expireTimeMs = wish.ttlMs === undefined ? undefined : clock.wall() + wish.ttlMs;
      try {
        const grant = addGrant(sandbox, given, wish, expireTimeMs);
        if (wish.scope !== "selector" || session === undefined) return { grants: [grant] };
        return { grants: rememberForAll(sandbox, grant, session, { given, wish, expireTimeMs, grantIds: new Map() }) };
      } catch (error) {
        if (error instanceof SandboxError) return { grants: [], problem: error };
        throw error;
      }
    },

    sandboxCreated(sandbox) {
      for (const [session, rules] of standing) {
        if (!chosenBy(session, sandbox)) continue;
        for (const rule of rules) {
          if (rule.expireTimeMs === undefined || rule.expireTimeMs > clock.wall()) extendTo(sandbox, rule);
        }
      }
    },

    sandboxEnded(sandboxId) {
      for (const rules of standing.values()) for (const { grantIds } of rules) grantIds.delete(sandboxId);
    },

    sessionClosed(session) {
      for (const rule of standing.get(session) ?? []) end(rule);
      standing.delete(session);
    },

    revoked(grantIds) {
      const ids = new Set(grantIds);
      for (const [session, rules] of standing) {
        const isOver = (rule: Standing) => [...rule.grantIds.values()].some((grantId) => ids.has(grantId));
        for (const rule of rules.filter(isOver)) end(rule);
        standing.set(
          session,
          rules.filter((rule) => !isOver(rule)),
        );
      }
    },
  };
}

function chosenBy(session: Session, { subject }: HeldSandbox): boolean {
  return session.tenant === subject.tenant && selects(session.options.selector, subject);
}

function withoutSelector(): Problem {
  return problem(
    "failed_precondition",
    "CEILING_EXCEEDED",
    "only a decider on a stream has a selector to remember for",
    { scope: "selector" },
    "remember.scope",
  );
}
