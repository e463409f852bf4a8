import { isUtf8 } from "node:buffer";
import type { create, MessageInitShape } from "@bufbuild/protobuf";
import {
  type Duration,
  type DurationSchema,
  durationFromMs,
  type Timestamp,
  timestampFromMs,
} from "@bufbuild/protobuf/wkt";
import { invalidField, SandboxError } from "../../base/errors.js";
import type * as pb from "../../gen/sandgate/v1/common_pb.js";
import { ArgumentIntegrity, CallCategory, Transport } from "../../gen/sandgate/v1/policy_pb.js";
import type * as pbProcess from "../../gen/sandgate/v1/process_pb.js";
import { EndCause, type ExitStatusSchema, type ProcessInfoSchema } from "../../gen/sandgate/v1/process_pb.js";
import { ProtectionState, type SandboxSchema, SandboxState } from "../../gen/sandgate/v1/sandbox_pb.js";
import type { Problem, SandboxSelector } from "../../sandbox/decisions/decider.js";
import type * as model from "../../sandbox/model.js";
import { problemOf } from "../status.js";
import { processToProto, specToProto } from "./spec.js";

/** What `create` takes for a message. */
export type Init<Schema extends Parameters<typeof create>[0]> = MessageInitShape<Schema>;

const maxSelected = 256;

export const categories: Readonly<Record<model.CallCategory, CallCategory>> = {
  file: CallCategory.FILE,
  network: CallCategory.NETWORK,
  process: CallCategory.PROCESS,
  memory: CallCategory.MEMORY,
  ipc: CallCategory.IPC,
};

export const integrities: Readonly<Record<model.ArgumentIntegrity, ArgumentIntegrity>> = {
  registers: ArgumentIntegrity.REGISTERS,
  copied: ArgumentIntegrity.COPIED,
  frozen: ArgumentIntegrity.FROZEN,
  racy: ArgumentIntegrity.RACY,
};

export const transports: Readonly<Record<model.Transport, Transport>> = {
  tcp: Transport.TCP,
  udp: Transport.UDP,
  icmp: Transport.ICMP,
  unix: Transport.UNIX,
};

export const sandboxStates: Readonly<Record<model.SandboxState, SandboxState>> = {
  created: SandboxState.CREATED,
  running: SandboxState.RUNNING,
  paused: SandboxState.PAUSED,
  stopping: SandboxState.STOPPING,
  ended: SandboxState.ENDED,
  lost: SandboxState.LOST,
};

const protectionStates: Readonly<Record<model.ProtectionState, ProtectionState>> = {
  active: ProtectionState.ACTIVE,
  degraded: ProtectionState.DEGRADED,
  disabled: ProtectionState.DISABLED,
};

const endCauses: Readonly<Record<model.EndCause, EndCause>> = {
  self: EndCause.SELF,
  client: EndCause.CLIENT,
  verdict: EndCause.VERDICT,
  limit: EndCause.LIMIT,
  service: EndCause.SERVICE,
};

/** A `Duration`, to the millisecond, as every one of this API is. */
export function durationOf(milliseconds: number): Duration {
  return durationFromMs(Math.max(0, Math.floor(milliseconds)));
}

/** A `Duration`, to the microsecond. */
export function preciseDurationOf(milliseconds: number): Init<typeof DurationSchema> {
  const whole = Math.max(0, Math.round(milliseconds * 1000));
  return { seconds: BigInt(Math.floor(whole / 1_000_000)), nanos: (whole % 1_000_000) * 1000 };
}

/** A `Timestamp`, to the millisecond. */
export function timestampOf(milliseconds: number): Timestamp {
  return timestampFromMs(Math.max(0, Math.floor(milliseconds)));
}

/** Bytes that a program chose. The exact bytes go along only when text cannot carry them. */
export function osStringToProto(bytes: Uint8Array): Init<typeof pb.OsStringSchema> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  return isUtf8(bytes) ? { text } : { text, raw: bytes as Uint8Array<ArrayBuffer> };
}

export function taskToProto(task: model.TaskInfo): Init<typeof pb.TaskInfoSchema> {
  const { sandboxId, processId, pid, tid, ppid, startTicks, executable, command } = task;
  return {
    sandboxId,
    processId,
    pid,
    tid,
    ppid,
    startTicks: BigInt(startTicks),
    executable: osStringToProto(executable),
    command: osStringToProto(command),
  };
}

export function exitStatusToProto(exit: model.ExitStatus): Init<typeof ExitStatusSchema> {
  return {
    result: resultToProto(exit.result),
    cause: endCauses[exit.cause],
    endTime: timestampOf(exit.endTimeMs),
    usage: { cpuTime: durationOf(exit.cpuTimeMs), peakMemoryBytes: BigInt(exit.peakMemoryBytes) },
  };
}

function resultToProto(result: model.ExitStatus["result"]): NonNullable<Init<typeof ExitStatusSchema>["result"]> {
  switch (result.kind) {
    case "code":
      return { case: "code", value: result.code };
    case "signal":
      return { case: "signal", value: result.signal };
    case "not_started":
      return { case: "notStarted", value: problemToProto(result.error) };
  }
}

/** A failure inside a stream or a batch. */
export function problemToProto(problem: Problem): Init<typeof pb.ProblemSchema> {
  if (problem instanceof SandboxError) return problemOf(problem);
  const { code, message, reason, metadata, field } = problem;
  return problemOf(new SandboxError(code, message, { reason, metadata, ...(field !== undefined && { field }) }));
}

export function processInfoToProto(process: model.ProcessInfo): Init<typeof ProcessInfoSchema> {
  const { processId, pid, spec, startTimeMs, exit } = process;
  return {
    processId,
    pid,
    spec: processToProto(spec),
    startTime: timestampOf(startTimeMs),
    ...(exit !== undefined && { exit: exitStatusToProto(exit) }),
  };
}

export function usageToProto(usage: model.ResourceUsage): Init<typeof pbProcess.ResourceUsageSchema> {
  return {
    cpuTime: durationOf(usage.cpuTimeMs),
    peakMemoryBytes: BigInt(usage.peakMemoryBytes),
    processes: usage.processes,
    heldCalls: BigInt(usage.heldCalls),
    heldTime: durationOf(usage.heldTimeMs),
  };
}

/**
 * A sandbox as the API shows it. `paths` names the fields wanted, or with a leading `-` those to leave out;
 * undefined or empty means all. Throws `invalid_argument` for a field that there is not.
 */
export function sandboxToProto(info: model.SandboxInfo, paths?: readonly string[]): Init<typeof SandboxSchema> {
  const wants = fieldFilter(paths);
  return {
    ...(wants("sandbox_id") && { sandboxId: info.sandboxId }),
    ...(wants("state") && { state: sandboxStates[info.state] }),
    ...(wants("spec") && { spec: specToProto(info.spec) }),
    ...(wants("etag") && { etag: info.etag }),
    ...(wants("create_time") && { createTime: timestampOf(info.createTimeMs) }),
    ...(wants("end_time") && info.endTimeMs !== undefined && { endTime: timestampOf(info.endTimeMs) }),
    ...(wants("processes") && { processes: info.processes.map(processInfoToProto) }),
    ...(wants("protections") && {
      protections: Object.fromEntries([...info.protections].map(([name, state]) => [name, protectionStates[state]])),
    }),
    ...(wants("held_calls") && { heldCalls: info.heldCalls }),
    ...(wants("deciders") && { deciders: info.deciders }),
    ...(wants("usage") && { usage: usageToProto(info.usage) }),
    ...(wants("owner") && { owner: info.owner }),
    ...(wants("plan") && {
      plan: {
        notifiedSyscalls: [...info.plan.notifiedSyscalls],
        mechanisms: Object.fromEntries(info.plan.mechanisms),
        stages: info.plan.stages.map(({ stage, offsetNs }) => ({
          stage,
          offset: { seconds: BigInt(Math.floor(offsetNs / 1e9)), nanos: Math.floor(offsetNs % 1e9) },
        })),
      },
    }),
  };
}

const sandboxFields: ReadonlySet<string> = new Set([
  "sandbox_id",
  "state",
  "spec",
  "etag",
  "create_time",
  "end_time",
  "processes",
  "protections",
  "held_calls",
  "deciders",
  "usage",
  "owner",
  "restored_from",
  "plan",
]);

function fieldFilter(paths: readonly string[] | undefined): (field: string) => boolean {
  if (paths === undefined || paths.length === 0) return () => true;
  const wanted = new Set<string>();
  const unwanted = new Set<string>();
  for (const path of paths) {
    const field = path.startsWith("-") ? path.slice(1) : path;
    if (field !== "*" && !sandboxFields.has(field))
      throw invalidField("read_mask", `there is no field ${JSON.stringify(field)}`);
    (path.startsWith("-") ? unwanted : wanted).add(field);
  }
  return (field) => !unwanted.has(field) && (wanted.size === 0 || wanted.has("*") || wanted.has(field));
}

/** Throws `invalid_argument` when it names too many. */
export function selectorFromProto(selector: pb.SandboxSelector | undefined, field: string): SandboxSelector {
  const sandboxIds = new Set(selector?.sandboxIds ?? []);
  const labels = new Map(Object.entries(selector?.labels ?? {}));
  if (sandboxIds.size > maxSelected) throw invalidField(`${field}.sandbox_ids`, `at most ${maxSelected}`);
  if (labels.size > maxSelected) throw invalidField(`${field}.labels`, `at most ${maxSelected}`);
  return { sandboxIds, labels };
}

/** Ids of this API that are numbers of this run: exact up to 2^53, and no run reaches that. */
export function numberFromProto(id: bigint): number {
  return id <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(id) : -1;
}
