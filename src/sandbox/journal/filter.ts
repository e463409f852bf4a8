import type { CallMatch, DomainEvent, EventBody, HeldCall, VerdictSource } from "../model.js";
import { compileMatch } from "../policy/match.js";

/** Every given part must hold; in a list, any entry. A part about calls or verdicts holds for no other event. */
export interface EventFilter {
  /** Empty: all. */
  readonly kinds: readonly EventBody["kind"][];
  /** For events about a call. */
  readonly match: CallMatch | undefined;
  /** For verdict events. Empty: all. */
  readonly sources: readonly VerdictSource[];
  /** For verdict events: only refusals and kills. */
  readonly refusalsOnly: boolean;
}

export type EventPredicate = (event: DomainEvent) => boolean;

/** Holds when any of the filters does. */
export function compileFilters(filters: readonly EventFilter[]): EventPredicate {
  const compiled = filters.map(compileFilter);
  return (event) => compiled.some((holds) => holds(event));
}

/** Whether it looks at nothing but the kind. */
export function isOfKindsOnly({ match, sources, refusalsOnly }: EventFilter): boolean {
  return match === undefined && sources.length === 0 && !refusalsOnly;
}

function compileFilter(filter: EventFilter): EventPredicate {
  const kinds = new Set(filter.kinds);
  const sources = new Set(filter.sources);
  const matches = filter.match === undefined ? undefined : compileMatch(filter.match);
  return ({ body }) => {
    if (kinds.size > 0 && !kinds.has(body.kind)) return false;
    if (sources.size > 0 && !(body.kind === "call_settled" && sources.has(body.source))) return false;
    if (filter.refusalsOnly && !isRefusal(body)) return false;
    if (matches === undefined) return true;
    const call = callOf(body);
    return call !== undefined && matches(call);
  };
}

function isRefusal(body: EventBody): boolean {
  return body.kind === "call_settled" && (body.settlement.kind === "deny" || body.settlement.kind === "kill");
}

function callOf(body: EventBody): HeldCall | undefined {
  return body.kind === "call_held" || body.kind === "call_settled" ? body.call : undefined;
}
