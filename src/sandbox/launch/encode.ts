/** Encodes launch plans: `struct sg_plan` of native/abi.h and what its spans point to. */

import {
  MESSAGE,
  MESSAGE_TYPE,
  PATH_FLAG,
  PATH_RULE,
  PLAN,
  PLAN_FLAG,
  PLAN_MAGIC,
  PORT_RULE,
  RLIMIT,
  RULESET,
} from "../../native/abi.js";

/** What the sandbox's init looks after; zero: nothing. */
export interface WatchedLimits {
  readonly memoryBytes: bigint;
  readonly cpuTimeMs: number;
  /** Helpers included. */
  readonly maxTasks: number;
  /** The kernel refuses more tasks: it need only be told that there are as many. */
  readonly tasksKept: boolean;
  /** Thousandths of a processor. */
  readonly cpuMillis: number;
}

/** The parts of a plan, each already in its final form. */
export interface PlanParts {
  readonly flags: number;
  readonly uid: number;
  readonly gid: number;
  readonly filterFlags: number;
  readonly watched: WatchedLimits;
  readonly argv: Buffer;
  readonly envp: Buffer;
  readonly search: Buffer;
  readonly cwd: Buffer;
  readonly rlimits: Buffer;
  readonly outer: Buffer;
  readonly inner: Buffer;
  readonly filter: Buffer;
  readonly denied: Buffer;
  readonly mounts: Buffer;
  readonly whole: Buffer;
}

const SPANS = [
  "argv",
  "envp",
  "search",
  "cwd",
  "rlimits",
  "outer",
  "inner",
  "filter",
  "denied",
  "mounts",
  "whole",
] as const;
const ALIGNMENT = 8;

export function encodeParts(
  type: "launch" | "exec",
  parts: PlanParts,
  launchId: bigint,
  sandboxLaunchId: bigint,
): Buffer {
  let size: number = PLAN.bytes;
  for (const span of SPANS) size = align(size) + parts[span].length;
  const bytes = Buffer.alloc(align(size));
  bytes.writeUInt32LE(MESSAGE_TYPE[type], MESSAGE.at.type);
  bytes.writeUInt32LE(bytes.length, MESSAGE.at.size);
  bytes.writeBigUInt64LE(launchId, MESSAGE.at.launch_id);
  bytes.writeBigUInt64LE(sandboxLaunchId, PLAN.at.sandbox_id);
  bytes.writeUInt32LE(PLAN_MAGIC, PLAN.at.magic);
  bytes.writeUInt32LE(parts.flags >>> 0, PLAN.at.flags);
  bytes.writeUInt32LE(parts.uid, PLAN.at.uid);
  bytes.writeUInt32LE(parts.gid, PLAN.at.gid);
  bytes.writeUInt32LE(parts.filterFlags, PLAN.at.filter_flags);
  const { memoryBytes, cpuTimeMs, maxTasks, tasksKept, cpuMillis } = parts.watched;
  bytes.writeBigUInt64LE(memoryBytes, PLAN.at.memory_bytes);
  bytes.writeBigUInt64LE(BigInt(cpuTimeMs) * 1000n, PLAN.at.cpu_time_us);
  bytes.writeUInt32LE(maxTasks, PLAN.at.max_tasks);
  bytes.writeUInt32LE(tasksKept ? 1 : 0, PLAN.at.tasks_kept);
  bytes.writeUInt32LE(cpuMillis, PLAN.at.cpu_millis);
  let at: number = PLAN.bytes;
  for (const span of SPANS) {
    at = align(at);
    bytes.writeUInt32LE(at, PLAN.at[span]);
    bytes.writeUInt32LE(parts[span].length, PLAN.at[span] + 4);
    parts[span].copy(bytes, at);
    at += parts[span].length;
  }
  return bytes;
}

/** The header alone, marked so that the warden reads the plan from the last descriptor. */
export function planHeader(plan: Buffer): Buffer {
  const header = Buffer.from(plan.subarray(0, PLAN.bytes));
  header.writeUInt32LE(PLAN.bytes, MESSAGE.at.size);
  header.writeUInt32LE((header.readUInt32LE(PLAN.at.flags) | PLAN_FLAG.memfd) >>> 0, PLAN.at.flags);
  return header;
}

/** Strings packed with their NULs. None may contain one. */
export function packStrings(strings: readonly string[]): Buffer {
  return strings.length === 0 ? NOTHING : Buffer.from(`${strings.join("\0")}\0`);
}

export const NOTHING = Buffer.alloc(0);

export interface ResourceLimit {
  readonly resource: number;
  readonly soft: bigint;
  readonly hard: bigint;
}

export function encodeLimits(limits: readonly ResourceLimit[]): Buffer {
  const bytes = Buffer.alloc(limits.length * RLIMIT.bytes);
  limits.forEach(({ resource, soft, hard }, index) => {
    const at = index * RLIMIT.bytes;
    bytes.writeUInt32LE(resource, at + RLIMIT.at.resource);
    bytes.writeBigUInt64LE(soft, at + RLIMIT.at.soft);
    bytes.writeBigUInt64LE(hard, at + RLIMIT.at.hard);
  });
  return bytes;
}

/** Path rules ready for any number of rulesets that handle the same rights. */
export interface EncodedRules {
  readonly count: number;
  readonly bytes: Buffer;
}

/** What statx(2) identifies a file by. */
export interface FileIdentity {
  readonly inode: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

/** Rights beneath a path. */
export interface PathRule {
  readonly path: string | Buffer;
  readonly access: number;
  /** A path that is missing grants nothing and is no error. */
  readonly optional: boolean;
  /** The path leads through no link in its last component, and to nothing but this: else it is as though missing. */
  readonly identity?: FileIdentity;
}

export function encodePathRule({ path, access, optional, identity }: PathRule): Buffer {
  const name = Buffer.from(path as string);
  const rule = Buffer.alloc(PATH_RULE.bytes + align(name.length));
  rule.writeBigUInt64LE(BigInt(access), PATH_RULE.at.access);
  rule.writeUInt32LE(
    (optional ? PATH_FLAG.optional : 0) | (identity === undefined ? 0 : PATH_FLAG.exact),
    PATH_RULE.at.flags,
  );
  if (identity !== undefined) {
    rule.writeBigUInt64LE(identity.inode, PATH_RULE.at.inode);
    rule.writeUInt32LE(identity.deviceMajor, PATH_RULE.at.device_major);
    rule.writeUInt32LE(identity.deviceMinor, PATH_RULE.at.device_minor);
  }
  rule.writeUInt32LE(name.length, PATH_RULE.at.length);
  name.copy(rule, PATH_RULE.bytes);
  return rule;
}

/** Rights that are not handled are left out; the kernel refuses a rule with others, or with none. */
export function encodePathRules(rules: readonly PathRule[], handled: number): EncodedRules {
  const parts = rules
    .filter(({ access }) => (access & handled) !== 0)
    .map((rule) => encodePathRule({ ...rule, access: rule.access & handled }));
  return { count: parts.length, bytes: Buffer.concat(parts) };
}

export interface PortRule {
  readonly access: number;
  readonly port: number;
}

export interface Ruleset {
  readonly handledFs: number;
  readonly handledNet: number;
  readonly scoped: number;
  readonly paths: readonly EncodedRules[];
  readonly ports: readonly PortRule[];
}

export function encodeRuleset({ handledFs, handledNet, scoped, paths, ports }: Ruleset): Buffer {
  const head = Buffer.alloc(RULESET.bytes);
  head.writeBigUInt64LE(BigInt(handledFs), RULESET.at.handled_fs);
  head.writeBigUInt64LE(BigInt(handledNet), RULESET.at.handled_net);
  head.writeBigUInt64LE(BigInt(scoped), RULESET.at.scoped);
  head.writeUInt32LE(
    paths.reduce((sum, { count }) => sum + count, 0),
    RULESET.at.path_count,
  );
  head.writeUInt32LE(ports.length, RULESET.at.port_count);
  const tail = Buffer.alloc(ports.length * PORT_RULE.bytes);
  ports.forEach(({ access, port }, index) => {
    tail.writeBigUInt64LE(BigInt(access), index * PORT_RULE.bytes + PORT_RULE.at.access);
    tail.writeBigUInt64LE(BigInt(port), index * PORT_RULE.bytes + PORT_RULE.at.port);
  });
  return Buffer.concat([head, ...paths.map(({ bytes }) => bytes), tail]);
}

function align(size: number): number {
  return (size + ALIGNMENT - 1) & -ALIGNMENT;
}
