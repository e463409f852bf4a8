/** What deciders and the hold registry say to each other. */
import type { ErrorCode, ErrorReason } from "../../base/errors.js";
import type { CallMatch, Fallback, Grant, HeldCall, SignalScope } from "../model.js";

/** Picks sandboxes of one tenant. All given parts must hold; an empty selector picks all. */
export interface SandboxSelector {
  readonly sandboxIds: ReadonlySet<string>;
  readonly labels: ReadonlyMap<string, string>;
}

export interface DeciderOptions {
  readonly name: string;
  readonly selector: SandboxSelector;
  /** Undefined: every call that the sandboxes hold. */
  readonly match: CallMatch | undefined;
  /** Unanswered calls that may be out at a time. Zero: paused. */
  readonly window: number;
  readonly role: "primary" | "standby";
  /** Go before a connected primary that wants the same calls, instead of being refused. */
  readonly takeOver: boolean;
  readonly reportOutcomes: "failures" | "all";
  /** Calls in one message. Zero: the registry's choice. */
  readonly maxBatch: number;
  /** Whether verdicts of this caller may release a call. */
  readonly mayAllow: boolean;
}

export interface Verdict {
  readonly holdId: number;
  readonly action: VerdictAction;
  readonly remember: Remember | undefined;
  /** Asked to narrow the sandbox's rules first, which this version cannot do. */
  readonly narrows: boolean;
  readonly reason: string;
  readonly labels: ReadonlyMap<string, string>;
}

export type VerdictAction =
  | { readonly kind: "allow" }
  /** Zero: EPERM. */
  | { readonly kind: "deny"; readonly errno: number }
  | { readonly kind: "abstain" }
  /** Zero: SIGKILL. */
  | { readonly kind: "kill"; readonly scope: SignalScope; readonly signal: number }
  /** Known to the API, but not to this version. */
  | { readonly kind: "unsupported"; readonly field: string }
  /** Not set, or of a later version of the API. */
  | { readonly kind: "unknown" };

export type GrantScope = "process" | "process_tree" | "executable" | "sandbox" | "selector";

/** A wish to use a verdict again. `invalid` carries what was wrong with it: the verdict then holds once. */
export type Remember =
  | {
      readonly kind: "grant";
      readonly scope: GrantScope;
      readonly match: CallMatch | "same_call";
      /** Undefined: as long as the scope lives. */
      readonly ttlMs: number | undefined;
      /** Zero: no limit. */
      readonly maxUses: number;
    }
  | { readonly kind: "invalid"; readonly problem: Problem };

/** A failure that is told on the stream, or beside other outcomes. `SandboxError` is one too. */
export interface Problem {
  readonly code: ErrorCode;
  readonly reason: ErrorReason;
  readonly message: string;
  readonly field: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface VerdictOutcome {
  readonly holdId: number;
  /** Whether the call got what the verdict says. */
  readonly applied: boolean;
  readonly problem: Problem | undefined;
  readonly grantId: string | undefined;
}

export type WithdrawalReason = "timeout" | "target_gone" | "answered" | "reassigned" | "sandbox_ended";

/** One question: a held call as a decider is shown it. */
export interface DeliveredCall {
  readonly call: HeldCall;
  readonly timeLeftMs: number;
  /** Calls that wait for this answer, this one included. */
  readonly waiting: number;
  /** Deliveries so far, this one included; zero when it was never delivered. */
  readonly attempt: number;
  /** What it gets if nobody answers. */
  readonly fallback: Fallback;
}

export type DeciderMessage =
  | {
      readonly kind: "opened";
      readonly sessionId: string;
      readonly sandboxes: number;
      readonly heartbeatIntervalMs: number;
      readonly mayAllow: boolean;
      readonly backlog: number;
    }
  | { readonly kind: "calls"; readonly calls: readonly DeliveredCall[] }
  | { readonly kind: "withdrawal"; readonly holdIds: readonly number[]; readonly reason: WithdrawalReason }
  | { readonly kind: "outcomes"; readonly outcomes: readonly VerdictOutcome[] }
  | { readonly kind: "problem"; readonly problem: Problem }
  | { readonly kind: "heartbeat"; readonly inFlight: number; readonly queued: number };

/** One connected decider. Everything but `messages` returns at once. */
export interface DeciderSession {
  readonly sessionId: string;
  /**
   * What to send, `opened` first. For one reader; a call's time to be judged begins when its message is taken.
   * Ends once the session is closed and all it had to say was taken. Leaving the loop closes the session.
   */
  messages(): AsyncIterableIterator<DeciderMessage>;
  /** Applies verdicts in their order. */
  answer(verdicts: readonly Verdict[]): void;
  setWindow(window: number): void;
  extend(holdIds: readonly number[], timeLeftMs: number): void;
  /** Hands every leased call back and takes no more. */
  drain(close: boolean): void;
  report(problem: Problem): void;
  /**
   * Resolves when little enough waits to be taken that more of the client's messages may be read. This bounds
   * what a client costs that sends and never reads. Resolves too when the session is closed.
   */
  ready(): Promise<void>;
  /** Hands every leased call back. Nothing is allowed by this. Idempotent. */
  close(): void;
}

export interface GrantRecord {
  readonly grant: Grant;
  readonly verdict: Verdict;
  readonly origin: HeldCall;
  /** Who gave it: a decider's name, or the caller's identity. */
  readonly decider: string;
  readonly createTimeMs: number;
  readonly uses: number;
}

/** What the decision service calls. Everything is answered for one tenant. */
export interface DecisionApi {
  /** Throws `resource_exhausted`, or `failed_precondition` with LEASE_HELD. */
  openDecider(tenant: string, identity: string, options: DeciderOptions): DeciderSession;
  /** Questions with a hold id above `after`, oldest first. */
  listHeld(tenant: string, selector: SandboxSelector, after: number, limit: number): readonly DeliveredCall[];
  /**
   * Answers a call that may also be out with a decider. Throws `not_found`, `failed_precondition` when it is
   * settled already, and `invalid_argument` for an abstention.
   */
  resolve(tenant: string, identity: string, sandboxId: string, verdict: Verdict, mayAllow: boolean): VerdictOutcome;
  /** Grants whose number is above `after`, in the order in which they were made. */
  listGrants(tenant: string, selector: SandboxSelector, after: string, limit: number): readonly GrantRecord[];
  /** Forgets these; with none named, all of the selected sandboxes. Returns how many. */
  revokeGrants(tenant: string, grantIds: readonly string[], selector: SandboxSelector): number;
}

export function selects(
  selector: SandboxSelector,
  sandbox: { readonly sandboxId: string; readonly labels: ReadonlyMap<string, string> },
): boolean {
  if (selector.sandboxIds.size > 0 && !selector.sandboxIds.has(sandbox.sandboxId)) return false;
  for (const [name, value] of selector.labels) if (sandbox.labels.get(name) !== value) return false;
  return true;
}
