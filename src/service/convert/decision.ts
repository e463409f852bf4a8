import { invalidField, SandboxError } from "../../base/errors.js";
import * as pb from "../../gen/sandgate/v1/decision_pb.js";
import { type Kill, SignalScope as ProtoScope } from "../../gen/sandgate/v1/policy_pb.js";
import type {
  DeciderMessage,
  DeciderOptions,
  DeliveredCall,
  GrantRecord,
  GrantScope,
  Remember,
  Verdict,
  VerdictAction,
  VerdictOutcome,
  WithdrawalReason,
} from "../../sandbox/decisions/decider.js";
import type * as model from "../../sandbox/model.js";
import {
  categories,
  durationOf,
  type Init,
  integrities,
  numberFromProto,
  osStringToProto,
  problemToProto,
  selectorFromProto,
  taskToProto,
  timestampOf,
  transports,
} from "./common.js";
import { fallbackToProto, matchFromProto, matchToProto, millisecondsOf } from "./spec.js";

const maxReasonLength = 1024;
const maxVerdictLabels = 32;
const maxLabelLength = 256;

export const fileOperations: Readonly<Record<model.FileOperation, pb.FileOperation>> = {
  read: pb.FileOperation.READ,
  write: pb.FileOperation.WRITE,
  create: pb.FileOperation.CREATE,
  remove: pb.FileOperation.REMOVE,
  rename: pb.FileOperation.RENAME,
  link: pb.FileOperation.LINK,
  metadata: pb.FileOperation.METADATA,
  stat: pb.FileOperation.STAT,
};

export const networkOperations: Readonly<Record<model.NetworkOperation, pb.NetworkOperation>> = {
  connect: pb.NetworkOperation.CONNECT,
  send: pb.NetworkOperation.SEND,
  bind: pb.NetworkOperation.BIND,
  listen: pb.NetworkOperation.LISTEN,
  socket: pb.NetworkOperation.SOCKET,
};

const withdrawalReasons: Readonly<Record<WithdrawalReason, pb.WithdrawalReason>> = {
  timeout: pb.WithdrawalReason.TIMEOUT,
  target_gone: pb.WithdrawalReason.TARGET_GONE,
  answered: pb.WithdrawalReason.ANSWERED,
  reassigned: pb.WithdrawalReason.REASSIGNED,
  sandbox_ended: pb.WithdrawalReason.SANDBOX_ENDED,
};

const scopes: Readonly<Record<model.SignalScope, ProtoScope>> = {
  process: ProtoScope.PROCESS,
  group: ProtoScope.GROUP,
  sandbox: ProtoScope.SANDBOX,
};

const grantScopes: Readonly<Record<pb.GrantScope, GrantScope>> = {
  [pb.GrantScope.UNSPECIFIED]: "process",
  [pb.GrantScope.PROCESS]: "process",
  [pb.GrantScope.PROCESS_TREE]: "process_tree",
  [pb.GrantScope.EXECUTABLE]: "executable",
  [pb.GrantScope.SANDBOX]: "sandbox",
  [pb.GrantScope.SELECTOR]: "selector",
};

const protoGrantScopes: Readonly<Record<GrantScope, pb.GrantScope>> = {
  process: pb.GrantScope.PROCESS,
  process_tree: pb.GrantScope.PROCESS_TREE,
  executable: pb.GrantScope.EXECUTABLE,
  sandbox: pb.GrantScope.SANDBOX,
  selector: pb.GrantScope.SELECTOR,
};

// ---------------------------------------------------------------------------------------- from the API

/** What `DecideOpen.extra_fields` may ask for in this version. */
export interface ExtraFields {
  readonly args: boolean;
}

/** Throws `SandboxError` naming the field at fault. */
export function openFromProto(
  open: pb.DecideOpen,
  mayAllow: boolean,
): { readonly options: DeciderOptions; readonly extra: ExtraFields } {
  if (open.decider.length > 64) throw invalidField("open.decider", "at most 64 characters");
  const paths = open.extraFields?.paths ?? [];
  for (const path of paths) {
    if (path === "args") continue;
    throw new SandboxError(
      "unimplemented",
      `open.extra_fields: ${JSON.stringify(path)} is not filled in this version`,
      {
        reason: "NOT_IMPLEMENTED",
        field: "open.extra_fields",
        metadata: { path },
      },
    );
  }
  return {
    options: {
      name: open.decider,
      selector: selectorFromProto(open.selector, "open.selector"),
      match: open.match === undefined ? undefined : matchFromProto(open.match, "open.match"),
      window: open.window,
      role: roleFromProto(open.role),
      takeOver: open.takeOver,
      reportOutcomes: open.outcomes === pb.OutcomeReporting.ALL ? "all" : "failures",
      maxBatch: open.maxBatch,
      mayAllow,
    },
    extra: { args: paths.includes("args") },
  };
}

function roleFromProto(role: pb.DeciderRole): DeciderOptions["role"] {
  switch (role) {
    case pb.DeciderRole.UNSPECIFIED:
    case pb.DeciderRole.PRIMARY:
      return "primary";
    case pb.DeciderRole.STANDBY:
      return "standby";
    default:
      throw invalidField("open.role", `unknown value ${role}`);
  }
}

/** Never throws: whatever cannot be understood becomes a verdict that refuses, or one that is not remembered. */
export function verdictFromProto(verdict: pb.Verdict): Verdict {
  return {
    holdId: numberFromProto(verdict.holdId),
    action: actionFromProto(verdict.action),
    remember: verdict.remember === undefined ? undefined : rememberFromProto(verdict.remember),
    narrows: verdict.narrow.length > 0,
    reason: verdict.reason.slice(0, maxReasonLength),
    labels: new Map(
      Object.entries(verdict.labels)
        .slice(0, maxVerdictLabels)
        .map(([name, value]) => [name.slice(0, maxLabelLength), value.slice(0, maxLabelLength)]),
    ),
  };
}

function actionFromProto(action: pb.Verdict["action"]): VerdictAction {
  switch (action.case) {
    case "allow":
      return { kind: "allow" };
    case "deny":
      return { kind: "deny", errno: action.value.errorNumber };
    case "abstain":
      return { kind: "abstain" };
    case "kill":
      return killFromProto(action.value);
    case "returnValue":
      return { kind: "unsupported", field: "return_value" };
    case "substitute":
      return { kind: "unsupported", field: "substitute" };
    case "provideFile":
      return { kind: "unsupported", field: "provide_file" };
    case undefined:
      return { kind: "unknown" };
  }
}

function killFromProto({ scope, signal }: Kill): VerdictAction {
  switch (scope) {
    case ProtoScope.UNSPECIFIED:
    case ProtoScope.PROCESS:
      return { kind: "kill", scope: "process", signal };
    case ProtoScope.GROUP:
      return { kind: "kill", scope: "group", signal };
    case ProtoScope.SANDBOX:
      return { kind: "kill", scope: "sandbox", signal };
    default:
      return { kind: "unknown" };
  }
}

function rememberFromProto(remember: pb.Remember): Remember {
  try {
    const { match } = remember;
    const scope = grantScopes[remember.scope] as GrantScope | undefined;
    if (scope === undefined) throw invalidField("remember.scope", `unknown value ${remember.scope}`);
    const ttlMs = remember.ttl === undefined ? undefined : millisecondsOf(remember.ttl, 0, "remember.ttl");
    return {
      kind: "grant",
      scope,
      // Not set: the narrowest.
      match: match.case === "callMatch" ? matchFromProto(match.value, "remember.call_match") : "same_call",
      ttlMs,
      maxUses: remember.maxUses,
    };
  } catch (error) {
    if (error instanceof SandboxError) return { kind: "invalid", problem: error };
    throw error;
  }
}

// ------------------------------------------------------------------------------------------- to the API

export function addressToProto(address: model.SocketAddress): Init<typeof pb.SocketAddressSchema> {
  switch (address.kind) {
    case "ip":
      return { address: { case: "ip", value: address.ip as Uint8Array<ArrayBuffer> }, port: address.port };
    case "unix":
      return { address: { case: "unixPath", value: address.path as Uint8Array<ArrayBuffer> } };
    case "unspecified":
      return {};
  }
}

function detailToProto(detail: model.CallDetail): NonNullable<Init<typeof pb.HeldCallSchema>["detail"]> {
  switch (detail.kind) {
    case "file":
      return {
        case: "file",
        value: {
          path: osStringToProto(detail.path),
          operation: fileOperations[detail.operation],
          flags: detail.flags >>> 0,
          mode: detail.mode >>> 0,
          exists: detail.exists,
        },
      };
    case "exec":
      return {
        case: "exec",
        value: {
          program: osStringToProto(detail.program),
          argv: detail.argv.map(osStringToProto),
          argvCut: detail.argvCut,
          interpreters: detail.interpreters.map(osStringToProto),
        },
      };
    case "network":
      return {
        case: "network",
        value: {
          operation: networkOperations[detail.operation],
          transport: transports[detail.transport],
          address: addressToProto(detail.address),
          size: BigInt(detail.size),
        },
      };
    case "raw":
      return { case: undefined };
  }
}

/** The call itself, as events show it: without what belongs to one delivery. */
export function callToProto(call: model.HeldCall, extra: ExtraFields = { args: false }) {
  return {
    holdId: BigInt(call.holdId),
    task: taskToProto(call.task),
    syscall: call.syscall,
    category: categories[call.category],
    integrity: integrities[call.integrity],
    detail: detailToProto(call.detail),
    ...((extra.args || call.detail.kind === "raw") && { args: [...call.args] }),
    number: call.number,
    arch: call.arch,
    time: timestampOf(call.timeMs),
    rule: call.rule,
  } satisfies Init<typeof pb.HeldCallSchema>;
}

export function deliveredToProto(delivered: DeliveredCall, extra?: ExtraFields): Init<typeof pb.HeldCallSchema> {
  return {
    ...callToProto(delivered.call, extra),
    timeLeft: durationOf(delivered.timeLeftMs),
    waiting: delivered.waiting,
    attempt: delivered.attempt,
    fallback: fallbackToProto(delivered.fallback),
  };
}

export function outcomeToProto(outcome: VerdictOutcome): Init<typeof pb.VerdictOutcomeSchema> {
  const { holdId, applied, problem, grantId } = outcome;
  return {
    holdId: BigInt(Math.max(0, holdId)),
    applied,
    ...(problem !== undefined && { problem: problemToProto(problem) }),
    grantId: grantId ?? "",
  };
}

export function messageToProto(message: DeciderMessage, extra?: ExtraFields): Init<typeof pb.DecideResponseSchema> {
  switch (message.kind) {
    case "opened": {
      const { sessionId, sandboxes, heartbeatIntervalMs, mayAllow, backlog } = message;
      const heartbeatInterval = durationOf(heartbeatIntervalMs);
      return { message: { case: "opened", value: { sessionId, sandboxes, heartbeatInterval, mayAllow, backlog } } };
    }
    case "calls":
      return {
        message: { case: "calls", value: { calls: message.calls.map((call) => deliveredToProto(call, extra)) } },
      };
    case "withdrawal":
      return {
        message: {
          case: "withdrawal",
          value: { holdIds: message.holdIds.map(BigInt), reason: withdrawalReasons[message.reason] },
        },
      };
    case "outcomes":
      return { message: { case: "outcomes", value: { outcomes: message.outcomes.map(outcomeToProto) } } };
    case "problem":
      return { message: { case: "problem", value: problemToProto(message.problem) } };
    case "heartbeat": {
      const { inFlight, queued } = message;
      return { message: { case: "heartbeat", value: { inFlight, queued } } };
    }
  }
}

/** What a call got, as a verdict. A call that vanished or was left to the static policy got none. */
export function verdictOf(
  settled: model.EventBody & { readonly kind: "call_settled" },
): Init<typeof pb.VerdictSchema> | undefined {
  const { call, settlement, source, reason, verdictLabels } = settled;
  if (source === "target_gone" || settlement.kind === "static") return undefined;
  return {
    holdId: BigInt(call.holdId),
    action: settlementToProto(settlement),
    reason,
    labels: Object.fromEntries(verdictLabels ?? []),
  };
}

/** The static policy has no action. */
function settlementToProto(settlement: model.Settlement): NonNullable<Init<typeof pb.VerdictSchema>["action"]> {
  switch (settlement.kind) {
    case "allow":
      return { case: "allow", value: {} };
    case "static":
      return { case: undefined };
    case "deny":
      return { case: "deny", value: { errorNumber: settlement.errno } };
    case "kill":
      return { case: "kill", value: { scope: scopes[settlement.scope], signal: settlement.signal } };
  }
}

export function grantToProto(record: GrantRecord): Init<typeof pb.GrantSchema> {
  const { grant, verdict, origin, decider, createTimeMs, uses } = record;
  const { remember } = verdict;
  return {
    grantId: grant.grantId,
    sandboxId: grant.sandboxId,
    verdict: {
      holdId: BigInt(verdict.holdId),
      action: settlementToProto(grant.settlement),
      remember: {
        scope: remember?.kind === "grant" ? protoGrantScopes[remember.scope] : pb.GrantScope.UNSPECIFIED,
        match:
          "sameCall" in grant.match
            ? { case: "sameCall", value: {} }
            : { case: "callMatch", value: matchToProto(grant.match) },
        ...(remember?.kind === "grant" && remember.ttlMs !== undefined && { ttl: durationOf(remember.ttlMs) }),
        maxUses: grant.maxUses,
      },
      reason: verdict.reason,
      labels: Object.fromEntries(verdict.labels),
    },
    origin: callToProto(origin),
    decider,
    createTime: timestampOf(createTimeMs),
    ...(grant.expireTimeMs !== undefined && { expireTime: timestampOf(grant.expireTimeMs) }),
    uses: BigInt(uses),
  };
}
