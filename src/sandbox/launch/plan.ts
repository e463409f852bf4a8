/**
 * The launch plan: which mechanism enforces each part of a spec, as data for the warden, the filter, and the engine.
 * Pure but for looking up the program that is started.
 */
import { realpathSync } from "node:fs";
import { SandboxError } from "../../base/errors.js";
import { buildFilter, EXEC_CALLS, type Filter, type FilterPolicy, INJECTABLE } from "../../engine/bpf/filter.js";
import {
  FS,
  type HandledRights,
  handledRights,
  NET,
  NEWEST_ABI,
  READ_TREE,
  WRITE_TREE,
} from "../../engine/landlock/rights.js";
import { syscallNumber } from "../../engine/syscalls/table.js";
import { PLAN_FLAG } from "../../native/abi.js";
import { FILTER_FLAG, type HostFeatures } from "../host.js";
import type { NetworkRule, PlanSummary, ProcessSpec, ProtectionState, Rule, SandboxSpec } from "../model.js";
import { BASELINE_RULE, type EnginePolicy } from "../policy/engine-policy.js";
import { type Mediation, mediationOf } from "../policy/mediation.js";
import { connectPorts, formatBlock, isAnyHost, listPorts, parseBlock, ruleCovers } from "../policy/network.js";
import { createProtectionLedger, type ProtectionLedger } from "../policy/protection-states.js";
import { baselineTrees, HARMLESS_FILES, programTrees, type TreeRule } from "../policy/sane.js";
import { validateProcess, validateSpec } from "../policy/validate.js";
import {
  type EncodedRules,
  encodeLimits,
  encodeParts,
  encodePathRules,
  encodeRuleset,
  NOTHING,
  type PlanParts,
  type PortRule,
  packStrings,
  type ResourceLimit,
} from "./encode.js";

export { planHeader } from "./encode.js";

export interface LaunchOptions {
  /** Keep a process inside that starts more of them. */
  readonly nursery: boolean;
  /** Run as these instead of the service's own. Needs the capabilities to change them. */
  readonly ids?: { readonly uid: number; readonly gid: number };
}

export interface CompiledLaunch {
  readonly plan: PlanParts;
  /** Stages are empty: they are known once it ran. */
  readonly summary: PlanSummary;
  readonly protections: ReadonlyMap<string, ProtectionState>;
  /** What was accepted but is worth knowing. */
  readonly warnings: readonly SandboxError[];
  readonly engine: EnginePolicy;
}

export interface PlanCompiler {
  /** Throws `SandboxError`: INVALID_FIELD, POLICY_CONTRADICTION or PROTECTION_UNAVAILABLE, naming the field. */
  compileLaunch(spec: SandboxSpec, process: ProcessSpec, options: LaunchOptions): CompiledLaunch;
  /** Bytes of `struct sg_plan` for LAUNCH. Ids are never used twice. */
  encodePlan(compiled: CompiledLaunch, launchId: bigint, sandboxLaunchId: bigint): Buffer;
  /** Bytes of `struct sg_plan` for EXEC. Throws INVALID_FIELD. */
  encodeExec(process: ProcessSpec, launchId: bigint, sandboxLaunchId: bigint): Buffer;
}

/** One per service: it keeps what launches share. `ownPorts` are the TCP ports that the service itself listens on. */
export function createPlanCompiler(host: HostFeatures, ownPorts: () => readonly number[] = () => []): PlanCompiler {
  const baseline = createBaseline();
  const filters = createFilterCache();

  return {
    compileLaunch(asked, process, options) {
      validateProcess(process);
      const spec = withoutOwnPorts(asked, ownPorts());
      const mediation = mediationOf(spec);
      validateSpec(asked, mediation);
      const ledger = createProtectionLedger(spec.protections, host);
      const network = planNetwork(spec, mediation, ledger);
      const handled = planHandled(network, host, ledger);
      const trees = planTrees(spec, process);
      const namespaces = planNamespaces(spec, host, ledger);
      const filterFlags = planFilterFlags(mediation, network, ledger);
      if (network.mediateConnect && !ledger.need("pidfd_getfd")) refuseUnjudgedConnects();
      planUnboundedLimits(spec, ledger);
      const hasBounding = planBounding(spec, host, ledger);
      const filter = filters.get(filterPolicyOf(spec, mediation, network, host));
      const layers = encodeLayers(spec, baseline, trees, handled, network);
      const ids = options.ids ?? { uid: 0, gid: 0 };
      return {
        plan: {
          ...processParts(process),
          flags:
            namespaces |
            (process.terminal === undefined ? 0 : PLAN_FLAG.terminal) |
            (options.nursery ? PLAN_FLAG.nursery : 0) |
            (options.ids === undefined ? 0 : PLAN_FLAG.setIds) |
            (handled.fs === 0 && handled.net === 0 && handled.scoped === 0 ? PLAN_FLAG.noLandlock : 0) |
            (hasBounding ? 0 : PLAN_FLAG.noBounding),
          uid: ids.uid,
          gid: ids.gid,
          filterFlags,
          rlimits: encodeLimits(resourceLimits(spec, host)),
          outer: layers.outer,
          inner: layers.inner,
          filter: filter.program,
        },
        summary: { notifiedSyscalls: filter.notified, mechanisms: mechanismsOf(spec, mediation, network), stages: [] },
        protections: ledger.states,
        warnings: [...ledger.warnings, ...network.warnings],
        engine: enginePolicyOf(spec, mediation, network, trees, baseline, host),
      };
    },
    encodePlan: (compiled, launchId, sandboxLaunchId) =>
      encodeParts("launch", compiled.plan, launchId, sandboxLaunchId),
    encodeExec(process, launchId, sandboxLaunchId) {
      validateProcess(process);
      const parts: PlanParts = {
        ...processParts(process),
        flags: process.terminal === undefined ? 0 : PLAN_FLAG.terminal,
        uid: 0,
        gid: 0,
        filterFlags: 0,
        rlimits: NOTHING,
        outer: NOTHING,
        inner: NOTHING,
        filter: NOTHING,
      };
      return encodeParts("exec", parts, launchId, sandboxLaunchId);
    },
  };
}

// ------------------------------------------------------------------------------------------- process

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_ENV: Readonly<Record<string, string>> = { PATH: DEFAULT_PATH, HOME: "/", LANG: "C.UTF-8" };
const DEFAULT_TERM = "xterm-256color";

function processParts(process: ProcessSpec): Pick<PlanParts, "argv" | "envp" | "search" | "cwd"> {
  return {
    argv: packStrings(process.argv),
    envp: packStrings(environmentOf(process)),
    search: Buffer.from(searchPathOf(process)),
    cwd: Buffer.from(process.cwd === "" ? "/" : process.cwd),
  };
}

function environmentOf({ env, clearEnv, terminal }: ProcessSpec): string[] {
  const merged = new Map(clearEnv ? [] : Object.entries(DEFAULT_ENV));
  if (!clearEnv && terminal !== undefined) merged.set("TERM", DEFAULT_TERM);
  for (const [name, value] of env) merged.set(name, value);
  return [...merged].map(([name, value]) => `${name}=${value}`);
}

function searchPathOf({ env }: ProcessSpec): string {
  return env.get("PATH") ?? DEFAULT_PATH;
}

// ------------------------------------------------------------------------------------------- network

interface NetworkPlan {
  /** Internet sockets can be made. */
  readonly tcp: boolean;
  readonly udp: boolean;
  readonly unix: boolean;
  readonly mediateConnect: boolean;
  /** What Landlock grants by port: to the program, and to what acts for it. */
  readonly innerPorts: readonly number[] | "all";
  readonly outerPorts: readonly number[] | "all";
  readonly bindPorts: readonly number[] | "all";
  readonly warnings: readonly SandboxError[];
}

/** No rule reaches the service itself: what a sandbox could ask of it is what a sandbox is kept from. */
function withoutOwnPorts(spec: SandboxSpec, ports: readonly number[]): SandboxSpec {
  const { allow, deny, grantable } = spec.network;
  const reachable = ports.filter((port) =>
    [...allow, ...grantable].some(
      (rule) =>
        ruleCovers(rule, "tcp") &&
        (rule.ports.length === 0 || rule.ports.some(({ first, last }) => first <= port && port <= last)),
    ),
  );
  if (reachable.length === 0) return spec;
  const own = reachable.flatMap((port) =>
    LOOPBACK.map((host) => ({ transport: "tcp" as const, host, ports: [{ first: port, last: port }] })),
  );
  return { ...spec, network: { ...spec.network, deny: [...deny, ...own] } };
}

const LOOPBACK = ["127.0.0.0/8", "::1"];

function planNetwork({ network }: SandboxSpec, mediation: Mediation, ledger: ProtectionLedger): NetworkPlan {
  const udp = planUdp(network.allow, "spec.network.allow");
  const warnings = [...udp.warnings];
  refuseTransport(network.allow, ["icmp"], "spec.network.allow");
  refuseTransport(network.grantable, ["icmp", "udp", "unix"], "spec.network.grantable");
  if (udp.granted) {
    network.deny.forEach((rule, index) => {
      if (ruleCovers(rule, "udp")) throw cannotEnforce(`spec.network.deny[${index}]`, "UDP by destination");
    });
  }
  const isUnix = (rule: NetworkRule) => rule.transport === "unix";
  network.allow.forEach((rule, index) => {
    if (isUnix(rule))
      warnings.push(noted(`spec.network.allow[${index}]`, "reaches every Unix socket that the program's user may"));
  });
  const allowed = network.allow.filter((rule) => ruleCovers(rule, "tcp"));
  const grantable = network.grantable.filter((rule) => ruleCovers(rule, "tcp"));
  const bindPorts = named(listPorts(network.bind));
  const tcp = allowed.length > 0 || grantable.length > 0 || network.bind.length > 0 || mediation.holdConnect;
  const allowedPorts = connectPorts(allowed);
  const restricts = tcp && (mediation.mediateConnect || allowedPorts !== "all" || bindPorts !== "all");
  // Without Landlock's port rules the engine can still judge every connect.
  const mediateConnect =
    mediation.mediateConnect || (restricts && !ledger.need("landlock_net") && allowedPorts !== "all");
  return {
    tcp,
    udp: udp.granted,
    unix: network.allow.some(isUnix) && !network.deny.some(isUnix),
    mediateConnect,
    innerPorts: mediateConnect ? [] : named(allowedPorts),
    outerPorts: mediateConnect ? named(connectPorts([...allowed, ...grantable])) : named(allowedPorts),
    bindPorts,
    warnings,
  };
}

/** Where there are too many ports to name, the engine's judgement is the only one. */
function named(ports: readonly number[] | "all" | "many"): readonly number[] | "all" {
  return ports === "many" ? "all" : ports;
}

function planUdp(rules: readonly NetworkRule[], field: string): { granted: boolean; warnings: SandboxError[] } {
  let granted = false;
  const narrow: string[] = [];
  rules.forEach((rule, index) => {
    if (!ruleCovers(rule, "udp")) return;
    if (isAnyHost(rule.host) && listPorts(rule.ports.length === 0 ? ALL_PORTS : rule.ports) === "all") granted = true;
    else if (rule.transport === "udp") throw cannotEnforce(`${field}[${index}]`, "UDP by destination");
    else narrow.push(`${field}[${index}]`);
  });
  const warnings = granted
    ? []
    : narrow.map((at) => noted(at, "grants TCP only; UDP by destination comes with a later version"));
  return { granted, warnings };
}

const ALL_PORTS = [{ first: 1, last: 65535 }];

const TRANSPORT_NAMES = { icmp: "ICMP", udp: "verdicts on UDP", unix: "verdicts on Unix sockets" } as const;

function refuseTransport(
  rules: readonly NetworkRule[],
  transports: readonly (keyof typeof TRANSPORT_NAMES)[],
  field: string,
): void {
  rules.forEach(({ transport }, index) => {
    const refused = transports.find((name) => name === transport);
    if (refused !== undefined) throw cannotEnforce(`${field}[${index}].transport`, TRANSPORT_NAMES[refused]);
  });
}

function cannotEnforce(field: string, what: string): SandboxError {
  return new SandboxError("failed_precondition", `${field}: ${what} cannot be enforced in this version`, {
    reason: "PROTECTION_UNAVAILABLE",
    field,
  });
}

function noted(field: string, message: string): SandboxError {
  return new SandboxError("failed_precondition", `${field}: ${message}`, { reason: "PROTECTION_UNAVAILABLE", field });
}

function refuseUnjudgedConnects(): never {
  throw new SandboxError(
    "failed_precondition",
    "spec.network: judging connects needs pidfd_getfd; use rules with ports alone and no trigger on connect",
    { reason: "PROTECTION_UNAVAILABLE", field: "spec.network", metadata: { protection: "pidfd_getfd" } },
  );
}

// ---------------------------------------------------------------------------------------- protections

function planHandled(network: NetworkPlan, host: HostFeatures, ledger: ProtectionLedger): HandledRights {
  const can = handledRights(Math.min(host.landlockAbi, NEWEST_ABI));
  const files = ledger.need("landlock_fs");
  let fs = files ? can.fs : 0;
  if (files && !ledger.need("landlock_refer")) fs &= ~FS.refer;
  if (files && !ledger.need("landlock_truncate")) fs &= ~FS.truncate;
  if (files && !ledger.need("landlock_ioctl")) fs &= ~FS.ioctlDev;
  const netWanted = ledger.states.get("landlock_net") !== "disabled";
  const net =
    (network.outerPorts === "all" && network.innerPorts === "all" ? 0 : NET.connectTcp) |
    (network.bindPorts === "all" ? 0 : NET.bindTcp);
  return { fs, net: netWanted ? can.net & net : 0, scoped: ledger.need("landlock_scope") ? can.scoped : 0 };
}

function planNamespaces(spec: SandboxSpec, host: HostFeatures, ledger: ProtectionLedger): number {
  if (!spec.checkpointable || !ledger.need("pid_namespace")) return 0;
  if (host.pidNamespaces) return PLAN_FLAG.newPidNamespace;
  return ledger.need("user_namespace") ? PLAN_FLAG.newPidNamespace | PLAN_FLAG.newUserNamespace : 0;
}

/** Every sandbox has a listener: its end tells the engine that no filtered task is left. */
function planFilterFlags(mediation: Mediation, network: NetworkPlan, ledger: ProtectionLedger): number {
  const notifies =
    mediation.holdOpen !== "none" || mediation.holdExec || mediation.holdSyscalls.length > 0 || network.mediateConnect;
  if (!ledger.need("seccomp_notify")) {
    if (notifies) throw cannotEnforce("spec.holds.triggers", "without seccomp_notify, holding calls");
    return 0;
  }
  return FILTER_FLAG.newListener | (ledger.need("wait_killable") ? FILTER_FLAG.waitKillable : 0);
}

/** Without CAP_SETPCAP the set stays; no_new_privs makes it inert, so that nothing is refused for it. */
function planBounding({ protections }: SandboxSpec, host: HostFeatures, ledger: ProtectionLedger): boolean {
  if (host.canDropBounding || protections.disabled.includes("bounding_set")) return ledger.need("bounding_set");
  ledger.excuse("bounding_set");
  return false;
}

function planUnboundedLimits({ limits }: SandboxSpec, ledger: ProtectionLedger): void {
  if (limits.memoryBytes > 0n) ledger.need("memory_limit");
  if (limits.processes > 0) ledger.need("process_limit");
  if (limits.cpuMillis > 0) ledger.need("cpu_limit");
}

const RLIMIT_CPU = 0;
const RLIMIT_CORE = 4;
const RLIMIT_NOFILE = 7;
/** What programs that use select(2), or close every possible descriptor, expect. */
const DEFAULT_OPEN_FILES = 1024;

function resourceLimits({ limits }: SandboxSpec, host: HostFeatures): ResourceLimit[] {
  const hardFiles = limits.openFiles === 0 ? host.maxOpenFiles : Math.min(limits.openFiles, host.maxOpenFiles);
  const softFiles = limits.openFiles === 0 ? Math.min(DEFAULT_OPEN_FILES, hardFiles) : hardFiles;
  const all: ResourceLimit[] = [
    { resource: RLIMIT_CORE, soft: 0n, hard: 0n },
    { resource: RLIMIT_NOFILE, soft: BigInt(softFiles), hard: BigInt(hardFiles) },
  ];
  if (limits.cpuTimeMs > 0) {
    const seconds = BigInt(Math.ceil(limits.cpuTimeMs / 1000));
    all.push({ resource: RLIMIT_CPU, soft: seconds, hard: seconds + 1n }); // SIGXCPU, then SIGKILL
  }
  return all;
}

// --------------------------------------------------------------------------------------------- layers

interface Baseline {
  readonly rules: readonly TreeRule[];
  encode(handledFs: number): EncodedRules;
  /** Paths with every link followed. */
  resolved(): readonly TreeRule[];
}

function createBaseline(): Baseline {
  const rules = baselineTrees();
  const encoded = new Map<number, EncodedRules>();
  let resolved: readonly TreeRule[] | undefined;
  return {
    rules,
    encode(handledFs) {
      const known = encoded.get(handledFs) ?? encodePathRules(rules, handledFs);
      encoded.set(handledFs, known);
      return known;
    },
    resolved() {
      resolved ??= rules.flatMap(withRealPath);
      return resolved;
    },
  };
}

interface Trees {
  /** Without the baseline. */
  readonly program: readonly TreeRule[];
  readonly grantable: readonly TreeRule[];
}

function planTrees({ filesystem }: SandboxSpec, process: ProcessSpec): Trees {
  const rule = (access: number) => (path: string) => ({ path, access, optional: false });
  const cwd = process.cwd === "" ? "/" : process.cwd;
  const program = process.argv[0] ?? "";
  return {
    program: [
      ...filesystem.readable.map(rule(READ_TREE)),
      ...filesystem.writable.map(rule(WRITE_TREE)),
      ...(filesystem.baseline === "sane" ? programTrees({ program, cwd, searchPath: searchPathOf(process) }) : []),
    ],
    grantable: [
      ...filesystem.grantableReadable.map(rule(READ_TREE)),
      ...filesystem.grantableWritable.map(rule(WRITE_TREE)),
    ],
  };
}

function encodeLayers(
  { filesystem }: SandboxSpec,
  baseline: Baseline,
  trees: Trees,
  handled: HandledRights,
  network: NetworkPlan,
): { outer: Buffer; inner: Buffer } {
  const shared = [
    ...(filesystem.baseline === "sane" ? [baseline.encode(handled.fs)] : []),
    encodePathRules(trees.program, handled.fs),
  ];
  const layer = (paths: readonly EncodedRules[], connect: readonly number[] | "all") =>
    encodeRuleset({
      handledFs: handled.fs,
      handledNet: connect === "all" ? handled.net & ~NET.connectTcp : handled.net,
      scoped: handled.scoped,
      paths,
      ports: portRules(handled.net, connect, network.bindPorts),
    });
  const isEqual = trees.grantable.length === 0 && !network.mediateConnect;
  if (isEqual) return { outer: layer(shared, network.outerPorts), inner: NOTHING };
  return {
    outer: layer([...shared, encodePathRules(trees.grantable, handled.fs)], network.outerPorts),
    inner: layer(shared, network.innerPorts),
  };
}

function portRules(
  handledNet: number,
  connect: readonly number[] | "all",
  bind: readonly number[] | "all",
): PortRule[] {
  const rules = (ports: readonly number[] | "all", access: number): PortRule[] =>
    ports === "all" || (handledNet & access) === 0 ? [] : ports.map((port) => ({ access, port }));
  return [...rules(connect, NET.connectTcp), ...rules(bind, NET.bindTcp)];
}

function withRealPath(rule: TreeRule): TreeRule[] {
  try {
    return [{ ...rule, path: realpathSync.native(rule.path) }];
  } catch {
    return []; // what is missing grants nothing
  }
}

// --------------------------------------------------------------------------------------------- filter

interface FilterCache {
  get(policy: FilterPolicy): Filter;
}

const MAX_FILTERS = 256;

function createFilterCache(): FilterCache {
  const filters = new Map<string, Filter>();
  return {
    get(policy) {
      const key = JSON.stringify({ ...policy, notified: [...policy.notified] });
      const known = filters.get(key);
      if (known !== undefined) return known;
      if (filters.size >= MAX_FILTERS) filters.clear();
      const built = buildFilter(policy);
      filters.set(key, built);
      return built;
    },
  };
}

function filterPolicyOf(
  spec: SandboxSpec,
  mediation: Mediation,
  network: NetworkPlan,
  host: HostFeatures,
): FilterPolicy {
  return {
    arch: host.arch,
    tcp: network.tcp,
    udp: network.udp,
    unix: network.unix,
    listen: spec.network.bind.length > 0 || network.unix,
    metadata: spec.filesystem.writable.length > 0,
    checkpointable: spec.checkpointable,
    holdOpen: mediation.holdOpen,
    notified: new Set([
      ...(mediation.holdExec ? EXEC_CALLS : []),
      ...(network.mediateConnect ? ["connect"] : []),
      ...mediation.holdSyscalls,
    ]),
  };
}

// --------------------------------------------------------------------------------------------- engine

function enginePolicyOf(
  spec: SandboxSpec,
  mediation: Mediation,
  network: NetworkPlan,
  trees: Trees,
  baseline: Baseline,
  host: HostFeatures,
): EnginePolicy {
  const mediatesOpens = mediation.holdOpen !== "none";
  const isSane = spec.filesystem.baseline === "sane";
  const own = mediatesOpens ? [...(isSane ? baseline.resolved() : []), ...trees.program.flatMap(withRealPath)] : [];
  const pathsWith = (right: number) => own.filter(({ access }) => (access & right) !== 0).map(({ path }) => path);
  return {
    rules: mediatesOpens && isSane ? [...mediation.rules, HARMLESS] : mediation.rules,
    triggers: mediation.triggers,
    network: {
      allow: spec.network.allow.map(canonical),
      deny: spec.network.deny.map(canonical),
      grantable: spec.network.grantable.map(canonical),
      bind: spec.network.bind,
    },
    allowUnix: network.unix,
    holdExec: mediation.holdExec,
    holdConnect: mediation.holdConnect,
    holdOpen: mediation.holdOpen,
    holdSyscalls: mediation.holdSyscalls,
    mediateConnect: network.mediateConnect,
    readableTrees: pathsWith(FS.readFile),
    writableTrees: pathsWith(FS.writeFile),
    injectable: spec.checkpointable ? injectableNumbers(host) : new Map(),
    maxHeld: spec.holds.maxHeld,
    maxHoldMs: spec.holds.maxHoldMs,
    recordAutomatic: spec.journal.recordAutomatic,
  };
}

/** After the spec's own rules, which may say otherwise. */
const HARMLESS: Rule = {
  name: BASELINE_RULE,
  match: {
    syscalls: [],
    categories: ["file"],
    paths: HARMLESS_FILES,
    writesOnly: false,
    destinations: [],
    executables: [],
    programs: [],
    arguments: [],
  },
  action: { kind: "allow" },
};

function canonical(rule: NetworkRule): NetworkRule {
  if (isAnyHost(rule.host)) return { ...rule, host: "" };
  const block = parseBlock(rule.host);
  return block === undefined ? rule : { ...rule, host: formatBlock(block) };
}

function injectableNumbers(host: HostFeatures): ReadonlyMap<number, number> {
  return new Map(
    INJECTABLE.flatMap(({ syscall, errno }) => {
      const number = syscallNumber(host.arch, syscall);
      return number === undefined ? [] : [[number, errno] as const];
    }),
  );
}

// -------------------------------------------------------------------------------------------- summary

function mechanismsOf(spec: SandboxSpec, mediation: Mediation, network: NetworkPlan): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const each = (list: readonly unknown[], field: string, mechanism: (index: number) => string) => {
    list.forEach((_, index) => {
      found.set(`${field}[${index}]`, mechanism(index));
    });
  };
  const { filesystem, limits, holds, rules } = spec;
  found.set("spec.filesystem.baseline", filesystem.baseline === "sane" ? "landlock" : "");
  each(filesystem.readable, "spec.filesystem.readable", () => "landlock");
  each(filesystem.writable, "spec.filesystem.writable", () => "landlock");
  each(
    filesystem.grantableReadable,
    "spec.filesystem.grantable_readable",
    () => "verdict within the outer landlock layer",
  );
  each(
    filesystem.grantableWritable,
    "spec.filesystem.grantable_writable",
    () => "verdict within the outer landlock layer",
  );
  const reached = (rule: NetworkRule | undefined) =>
    rule === undefined || !ruleCovers(rule, "tcp") ? "seccomp" : network.mediateConnect ? "engine" : "landlock";
  each(spec.network.allow, "spec.network.allow", (index) => reached(spec.network.allow[index]));
  each(spec.network.deny, "spec.network.deny", (index) => reached(spec.network.deny[index]));
  each(spec.network.grantable, "spec.network.grantable", () => "verdict");
  each(spec.network.bind, "spec.network.bind", () => "landlock");
  each(holds.triggers, "spec.holds.triggers", () => "seccomp notification");
  each(rules, "spec.rules", () => "engine");
  if (limits.openFiles > 0) found.set("spec.limits.open_files", "rlimit, per process");
  if (limits.cpuTimeMs > 0) found.set("spec.limits.cpu_time", "rlimit, per process");
  if (mediation.holdOpen === "writes") found.set("opens for reading", "landlock, not notified");
  return new Map([...found].filter(([, mechanism]) => mechanism !== ""));
}
