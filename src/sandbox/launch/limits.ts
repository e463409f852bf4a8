/** Which mechanism takes each limit. */
import { readFileSync, realpathSync } from "node:fs";
import { SandboxError } from "../../base/errors.js";
import { PLAN_FLAG } from "../../native/abi.js";
import type { HostFeatures } from "../host.js";
import type { SandboxSpec } from "../model.js";
import { beneath, byteString } from "../policy/byte-paths.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import type { ResourceLimit, WatchedLimits } from "./encode.js";
import { cannotEnforce } from "./refusals.js";

/** How limits of the sandbox as a whole are kept. */
export interface LimitPlan {
  /** PLAN_FLAGs. */
  readonly flags: number;
  readonly watchesMemory: boolean;
  /** What the init above all of the sandbox's processes looks after. */
  readonly watched: WatchedLimits;
  /** RLIMIT_NPROC, or zero for none. */
  readonly kernelTasks: number;
  /** By the name of the field. */
  readonly mechanisms: ReadonlyMap<string, string>;
}

export const NOTHING_WATCHED: WatchedLimits = {
  memoryBytes: 0n,
  cpuTimeMs: 0,
  maxTasks: 0,
  tasksKept: false,
  cpuMillis: 0,
};

/** Throws PROTECTION_UNAVAILABLE for what cannot be kept. */
export function planLimits(
  spec: SandboxSpec,
  host: HostFeatures,
  ledger: ProtectionLedger,
  nursery: boolean,
): LimitPlan {
  const { memoryBytes, processes, cpuMillis, cpuTimeMs } = spec.limits;
  const mechanisms = new Map<string, string>();
  const watchesMemory = memoryBytes > 0n && ledger.need("memory_limit");
  if (watchesMemory) {
    mechanisms.set("memory_bytes", "watched by the sandbox's init; killed beyond it");
    refuseUncountedTrees(spec);
  }
  const keepsShare = cpuMillis > 0 && ledger.need("cpu_limit");
  if (keepsShare && !ledger.need("landlock_scope"))
    throw cannotEnforce("spec.limits.cpu_millis", "without landlock_scope, this");
  if (keepsShare)
    mechanisms.set("cpu_millis", "watched by the sandbox's init; stopped by the keeper while it is ahead");
  if (cpuTimeMs > 0) mechanisms.set("cpu_time", "watched by the sandbox's init; killed beyond it");
  const keepsTasks = processes > 0 && ledger.need("process_limit");
  // The kernel counts by user and namespace, and exempts root: a namespace of its own holds nobody else's processes.
  const tasksKept = keepsTasks && host.uid !== 0 && host.userNamespaces;
  if (keepsTasks)
    mechanisms.set("processes", tasksKept ? "rlimit in a user namespace; EAGAIN beyond it" : WATCHED_TASKS);
  const initInside = tasksKept && (spec.checkpointable || spec.filesystem.privateProc);
  const helpers = 1 + (nursery ? 1 : 0);
  const watches = watchesMemory || keepsTasks || keepsShare || cpuTimeMs > 0;
  return {
    flags: (watches ? PLAN_FLAG.init : 0) | (tasksKept ? PLAN_FLAG.newUserNamespace : 0),
    watchesMemory,
    watched: {
      memoryBytes: watchesMemory ? memoryBytes : 0n,
      cpuTimeMs,
      maxTasks: keepsTasks ? processes + helpers : 0,
      tasksKept,
      cpuMillis: keepsShare ? cpuMillis : 0,
    },
    kernelTasks: tasksKept ? processes + helpers + (initInside ? 1 : 0) : 0,
    mechanisms,
  };
}

const WATCHED_TASKS = "watched by the sandbox's init; killed beyond it";

function refuseUncountedTrees({ filesystem }: SandboxSpec): void {
  const { writable, grantableWritable, mappings } = filesystem;
  refuseUncountedMemory(writable, "spec.filesystem.writable");
  refuseUncountedMemory(grantableWritable, "spec.filesystem.grantable_writable");
  const hosts = mappings.filter(({ readOnly }) => !readOnly).map(({ host }) => host);
  refuseUncountedMemory(hosts, "spec.filesystem.mappings");
}

const IN_MEMORY = new Set(["tmpfs", "ramfs", "hugetlbfs"]);

/** What is written to a file system in memory belongs to no process, so that nobody could say whose it is. */
function refuseUncountedMemory(trees: readonly string[], field: string): void {
  if (trees.length === 0) return;
  const mounts = readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .map((line) => ({ point: line.split(" ")[4] ?? "", type: line.split(" - ")[1]?.split(" ")[0] ?? "" }))
    .filter(({ point }) => point !== "");
  for (const tree of trees) {
    const path = byteString(realPath(tree));
    const own = mounts.filter(({ point }) => beneath(path, point)).reduce(longer, { point: "", type: "" });
    const memory = [own, ...mounts.filter(({ point }) => beneath(point, path))].find(({ type }) => IN_MEMORY.has(type));
    if (memory === undefined) continue;
    throw new SandboxError(
      "failed_precondition",
      `${field}: ${tree} lies in memory or contains what does (${memory.type} at ${memory.point}), and what is written there cannot be counted against limits.memory_bytes; grant a directory on a disk, or a private /tmp, which has a size of its own`,
      { reason: "PROTECTION_UNAVAILABLE", field, metadata: { protection: "memory_limit", path: tree } },
    );
  }
}

function longer<T extends { readonly point: string }>(one: T, other: T): T {
  return other.point.length >= one.point.length ? other : one;
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // the launch says what is wrong with it
  }
}

const RLIMIT_CPU = 0;
const RLIMIT_CORE = 4;
const RLIMIT_NPROC = 6;
const RLIMIT_NOFILE = 7;
/** What programs that use select(2), or close every possible descriptor, expect. */
const DEFAULT_OPEN_FILES = 1024;
/** Whoever watches the sandbox as a whole should be first. */
const CPU_SLACK_SECONDS = 2n;

export function resourceLimits({ limits }: SandboxSpec, host: HostFeatures, plan: LimitPlan): ResourceLimit[] {
  const hardFiles = limits.openFiles === 0 ? host.maxOpenFiles : Math.min(limits.openFiles, host.maxOpenFiles);
  const softFiles = limits.openFiles === 0 ? Math.min(DEFAULT_OPEN_FILES, hardFiles) : hardFiles;
  const all: ResourceLimit[] = [
    { resource: RLIMIT_CORE, soft: 0n, hard: 0n },
    { resource: RLIMIT_NOFILE, soft: BigInt(softFiles), hard: BigInt(hardFiles) },
  ];
  if (plan.kernelTasks > 0) {
    const tasks = BigInt(plan.kernelTasks);
    all.push({ resource: RLIMIT_NPROC, soft: tasks, hard: tasks });
  }
  if (limits.cpuTimeMs > 0) {
    const seconds = BigInt(Math.ceil(limits.cpuTimeMs / 1000)) + CPU_SLACK_SECONDS;
    all.push({ resource: RLIMIT_CPU, soft: seconds, hard: seconds });
  }
  return all;
}
