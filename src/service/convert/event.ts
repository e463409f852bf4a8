import { create } from "@bufbuild/protobuf";
import { invalidField } from "../../base/errors.js";
import { SandboxState } from "../../gen/sandgate/v1/sandbox_pb.js";
import * as pb from "../../gen/sandgate/v1/watch_pb.js";
import type { JournalEntry } from "../../sandbox/journal/entry.js";
import type { EventFilter } from "../../sandbox/journal/filter.js";
import type {
  Aggregation,
  EventKind,
  Gap,
  GapCause,
  WatchBatch,
  WatchOptions,
  WatchStart,
} from "../../sandbox/journal/watch.js";
import type * as model from "../../sandbox/model.js";
import {
  exitStatusToProto,
  type Init,
  osStringToProto,
  preciseDurationOf,
  sandboxStates,
  sandboxToProto,
  selectorFromProto,
  taskToProto,
  timestampOf,
} from "./common.js";
import { callToProto, grantToProto, verdictOf } from "./decision.js";
import { matchFromProto, millisecondsOf } from "./spec.js";

const defaultProgressMs = 15_000;
const minProgressMs = 100;
const defaultDelayMs = 5;
const maxDelayMs = 60_000;
const maxFilters = 64;
const maxWindowMs = 60 * 60_000;

const kinds: Readonly<Record<EventKind, pb.EventKind>> = {
  sandbox_changed: pb.EventKind.SANDBOX_CHANGED,
  process_started: pb.EventKind.PROCESS_STARTED,
  process_ended: pb.EventKind.PROCESS_ENDED,
  call_held: pb.EventKind.CALL_HELD,
  call_settled: pb.EventKind.CALL_SETTLED,
  limit_reached: pb.EventKind.LIMIT_REACHED,
  decider_changed: pb.EventKind.DECIDER_CHANGED,
  grant_changed: pb.EventKind.GRANT_CHANGED,
};

const gapCauses: Readonly<Record<GapCause, pb.GapCause>> = {
  reader: pb.GapCause.READER,
  journal: pb.GapCause.JOURNAL,
};

export const sources: Readonly<Record<model.VerdictSource, pb.VerdictSource>> = {
  decider: pb.VerdictSource.DECIDER,
  grant: pb.VerdictSource.GRANT,
  rule: pb.VerdictSource.RULE,
  static: pb.VerdictSource.STATIC,
  timeout: pb.VerdictSource.TIMEOUT,
  no_decider: pb.VerdictSource.NO_DECIDER,
  target_gone: pb.VerdictSource.TARGET_GONE,
};

// ---------------------------------------------------------------------------------------- from the API

/** Throws `SandboxError` naming the field at fault. */
export function watchFromProto(request: pb.WatchRequest): WatchOptions {
  return {
    selector: selectorFromProto(request.selector, "selector"),
    start: startFromProto(request.start),
    include: filtersFromProto(request.include, "include"),
    exclude: filtersFromProto(request.exclude, "exclude"),
    progressIntervalMs: Math.max(
      minProgressMs,
      millisecondsOf(request.progressInterval, defaultProgressMs, "progress_interval"),
    ),
    maxDelayMs: Math.min(maxDelayMs, millisecondsOf(request.maxDelay, defaultDelayMs, "max_delay")),
    maxBatch: request.maxBatch,
    buffer: request.buffer,
    overflow: overflowFromProto(request.overflow),
    aggregation: request.aggregation === undefined ? undefined : aggregationFromProto(request.aggregation),
  };
}

function startFromProto(start: pb.WatchRequest["start"]): WatchStart {
  switch (start.case) {
    case "after": {
      const { epoch, sequence } = start.value;
      return { kind: "after", cursor: { epoch, sequence: Number(sequence) } };
    }
    case "fromOldest":
      return { kind: "oldest" };
    case "fromSnapshot":
      return { kind: "snapshot" };
    case undefined:
      return { kind: "now" };
  }
}

function overflowFromProto(policy: pb.OverflowPolicy): WatchOptions["overflow"] {
  switch (policy) {
    case pb.OverflowPolicy.UNSPECIFIED:
    case pb.OverflowPolicy.REPORT_GAP:
      return "report_gap";
    case pb.OverflowPolicy.DISCONNECT:
      return "disconnect";
    default:
      throw invalidField("overflow", `unknown value ${policy}`);
  }
}

/**
 * Kinds and sources of a later version match nothing yet, so a filter that names only those picks no event. It must
 * not become one that names none, which would pick all.
 */
function filtersFromProto(filters: readonly pb.EventFilter[], field: string): EventFilter[] {
  if (filters.length > maxFilters) throw invalidField(field, `at most ${maxFilters} filters`);
  return filters.flatMap((filter, index) => {
    const wantedKinds = namesOf(kinds, filter.kinds);
    const wantedSources = namesOf(sources, filter.sources);
    const match = filter.match === undefined ? undefined : matchFromProto(filter.match, `${field}[${index}].match`);
    if (filter.kinds.length > 0 && wantedKinds.length === 0 && field === "exclude") return [];
    if (filter.sources.length > 0 && wantedSources.length === 0 && field === "exclude") return [];
    if (filter.kinds.length > 0 && wantedKinds.length === 0)
      throw invalidField(`${field}[${index}].kinds`, "no such event");
    if (filter.sources.length > 0 && wantedSources.length === 0)
      throw invalidField(`${field}[${index}].sources`, "no such source");
    return [{ kinds: wantedKinds, match, sources: wantedSources, refusalsOnly: filter.refusalsOnly }];
  });
}

function namesOf<Name extends string>(table: Readonly<Record<Name, number>>, numbers: readonly number[]): Name[] {
  const wanted = new Set(numbers);
  return (Object.keys(table) as Name[]).filter((name) => wanted.has(table[name]));
}

function aggregationFromProto({ window, kinds: numbers }: pb.Aggregation): Aggregation {
  const windowMs = millisecondsOf(window, 0, "aggregation.window");
  if (windowMs < 1 || windowMs > maxWindowMs) {
    throw invalidField("aggregation.window", `must be 1 millisecond to ${maxWindowMs / 60_000} minutes`);
  }
  const folded = namesOf(kinds, numbers);
  if (numbers.length > 0 && folded.length === 0) throw invalidField("aggregation.kinds", "no such event");
  return { windowMs, kinds: new Set(numbers.length === 0 ? ["call_settled"] : folded) };
}

// ------------------------------------------------------------------------------------------- to the API

/** A batch without its events. */
export function batchToProto({
  gaps,
  cursor,
  caughtUp,
  pending,
}: Omit<WatchBatch, "events" | "counts">): Init<typeof pb.WatchResponseSchema> {
  return {
    gaps: gaps.map(gapToProto),
    cursor: { epoch: cursor.epoch, sequence: BigInt(cursor.sequence) },
    caughtUp,
    pending,
  };
}

export function gapToProto({ first, last, lost, lostByKind, cause }: Gap): Init<typeof pb.GapSchema> {
  return {
    first: BigInt(first),
    last: BigInt(last),
    lost: BigInt(lost),
    lostByKind: Object.fromEntries([...lostByKind].map(([kind, count]) => [kinds[kind], BigInt(count)])),
    cause: gapCauses[cause],
  };
}

export function eventToProto({ sequence, event }: JournalEntry): pb.Event {
  const { timeMs, sandboxId, task, traceparent = "", body } = event;
  return create(pb.EventSchema, {
    sequence: BigInt(sequence),
    time: timestampOf(timeMs),
    sandboxId,
    ...(task !== undefined && { task: taskToProto(task) }),
    traceparent,
    event: bodyToProto(body),
  });
}

function bodyToProto(body: model.EventBody): NonNullable<Init<typeof pb.EventSchema>["event"]> {
  switch (body.kind) {
    case "sandbox_changed": {
      const { sandbox, previous } = body;
      const value = {
        sandbox: sandboxToProto(sandbox, previous === undefined ? [] : ["-spec", "-plan"]),
        previousState: previous === undefined ? SandboxState.UNSPECIFIED : sandboxStates[previous],
      };
      return { case: "sandboxChanged", value };
    }
    case "process_started": {
      const { program, argv } = body;
      return { case: "processStarted", value: { program: osStringToProto(program), argv: argv.map(osStringToProto) } };
    }
    case "process_ended":
      return { case: "processEnded", value: { exit: exitStatusToProto(body.exit), managed: body.managed } };
    case "call_held":
      return { case: "callHeld", value: { call: callToProto(body.call) } };
    case "call_settled":
      return { case: "callSettled", value: settledToProto(body) };
    case "grant_changed":
      return { case: "grantChanged", value: { grant: grantToProto(body.record), active: body.active } };
    case "limit_reached":
      return { case: "limitReached", value: { limit: body.limit, action: body.action } };
    case "decider_changed": {
      const { decider, connected, leased, identity } = body;
      return { case: "deciderChanged", value: { decider, connected, leased, identity } };
    }
  }
}

function settledToProto(body: model.EventBody & { kind: "call_settled" }): Init<typeof pb.CallSettledSchema> {
  const verdict = verdictOf(body);
  return {
    call: callToProto(body.call),
    ...(verdict !== undefined && { verdict }),
    source: sources[body.source],
    sourceName: body.sourceName,
    held: preciseDurationOf(body.heldMs),
  };
}
