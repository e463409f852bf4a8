import type { Grant } from "../model.js";
import { type Problem, selects, type Verdict, type VerdictOutcome } from "./decider.js";
import { compileGrant } from "./grant-match.js";
import type { GrantStore } from "./grants.js";
import type { Memory } from "./memory.js";
import type { Questions } from "./questions.js";
import { judge, problem } from "./settlement.js";
import { holdIdOf, type Question, type Session } from "./state.js";

/** Who gives a verdict. */
export interface Answerer {
  readonly tenant: string;
  readonly name: string;
  readonly mayAllow: boolean;
  /** Only calls leased to it are its to answer. Undefined: any of the tenant's. */
  readonly session: Session | undefined;
}

export interface Answered {
  readonly outcome: VerdictOutcome;
  /** Calls that nobody has been asked about yet may be settled by them. */
  readonly grants: readonly Grant[];
}

/** Applies verdicts to questions, and remembers those that ask for it. */
export interface Answers {
  apply(answerer: Answerer, verdict: Verdict): Answered;
  /** Settles with a new grant what nobody was asked about yet. What is out with a decider stays that decider's. */
  applyGrant(grant: Grant): void;
  /** The question that a verdict names, or why it cannot be answered. */
  find(answerer: Answerer, holdId: number): { readonly question: Question } | { readonly problem: Problem };
  /** Why a call is not held, as far as the tenant may know. */
  absence(tenant: string, holdId: number): Problem;
}

export interface AnswersOptions {
  readonly questions: Questions;
  readonly grants: GrantStore;
  readonly memory: Memory;
}

export function createAnswers({ questions, grants, memory }: AnswersOptions): Answers {
  function apply(answerer: Answerer, verdict: Verdict): Answered {
    const { holdId, action } = verdict;
    const found = find(answerer, holdId);
    if ("problem" in found) return failed(holdId, found.problem);
    const { question } = found;
    if (action.kind === "abstain") {
      abstain(question, answerer);
      return { outcome: { holdId, applied: true, problem: undefined, grantId: undefined }, grants: [] };
    }
    const { settlement, problem } = judge(verdict, answerer.mayAllow);
    const [{ call }] = question.calls;
    const { name: decider, session } = answerer;
    const remembered =
      problem === undefined
        ? memory.remember(question.sandbox, { call, verdict, settlement, decider, session })
        : undefined;
    questions.settle(question, settlement, "decider", {
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
        problem: problem ?? remembered?.problem,
        grantId: remembered?.grants[0]?.grantId,
      },
      grants: remembered?.grants ?? [],
    };
  }

  function failed(holdId: number, problem: Problem): Answered {
    return { outcome: { holdId, applied: false, problem, grantId: undefined }, grants: [] };
  }

  function find(answerer: Answerer, holdId: number): { readonly question: Question } | { readonly problem: Problem } {
    const question = questions.of(holdId);
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
    const end = questions.endOf(holdId);
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
    questions.unassign(question, undefined);
    questions.assign(question);
  }

  function applyGrant(grant: Grant): void {
    const sandbox = questions.sandboxes.get(grant.sandboxId);
    if (sandbox === undefined || grant.maxUses > 0) return;
    const { settlement } = grant;
    const matches = compileGrant(grant);
    for (const question of [...sandbox.questions]) {
      const [{ call }] = question.calls;
      if (question.delivered || (settlement.kind === "allow" && call.integrity === "racy") || !matches(call)) continue;
      grants.used(grant.grantId, question.calls.length);
      questions.settle(question, settlement, "grant", { as: "answered", sourceName: grant.grantId });
    }
  }

  return { apply, applyGrant, find, absence };
}
