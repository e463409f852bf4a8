import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { invalidField, SandboxError } from "../../base/errors.js";
import * as pb from "../../gen/sandgate/v1/policy_pb.js";
import * as pbProcess from "../../gen/sandgate/v1/process_pb.js";
import type {
  ArgumentIntegrity,
  BindRule,
  CallCategory,
  CallMatch,
  Fallback,
  HoldTrigger,
  NetworkRule,
  PortRange,
  ProcessSpec,
  Rule,
  SandboxSpec,
  SignalScope,
  Transport,
} from "../../sandbox/model.js";

/** What the server uses where the spec leaves a choice open. */
export interface SpecDefaults {
  readonly verdictTimeoutMs: number;
  readonly maxHoldMs: number;
  readonly maxHeld: number;
  readonly retainAfterExitMs: number;
  readonly maxOutputBytes: number;
}

const EPERM = 1;
const MAX_ERRNO = 4095;
const SIGKILL = 9;

const TRANSPORTS: Readonly<Record<pb.Transport, Transport | undefined>> = {
  [pb.Transport.UNSPECIFIED]: undefined,
  [pb.Transport.TCP]: "tcp",
  [pb.Transport.UDP]: "udp",
  [pb.Transport.ICMP]: "icmp",
  [pb.Transport.UNIX]: "unix",
};
const CATEGORIES: Readonly<Partial<Record<pb.CallCategory, CallCategory>>> = {
  [pb.CallCategory.FILE]: "file",
  [pb.CallCategory.NETWORK]: "network",
  [pb.CallCategory.PROCESS]: "process",
  [pb.CallCategory.MEMORY]: "memory",
  [pb.CallCategory.IPC]: "ipc",
};
const INTEGRITIES: Readonly<Partial<Record<pb.ArgumentIntegrity, ArgumentIntegrity>>> = {
  [pb.ArgumentIntegrity.REGISTERS]: "registers",
  [pb.ArgumentIntegrity.COPIED]: "copied",
  [pb.ArgumentIntegrity.FROZEN]: "frozen",
  [pb.ArgumentIntegrity.RACY]: "racy",
};
const SCOPES: Readonly<Record<pb.SignalScope, SignalScope>> = {
  [pb.SignalScope.UNSPECIFIED]: "process",
  [pb.SignalScope.PROCESS]: "process",
  [pb.SignalScope.GROUP]: "group",
  [pb.SignalScope.SANDBOX]: "sandbox",
};

/** The number that stands for a domain value in one of the tables above. */
function numberOf<T>(table: Readonly<Record<number, T | undefined>>, value: T): number {
  return Number(Object.entries(table).find(([number, entry]) => entry === value && number !== "0")?.[0] ?? 0);
}

function known<T>(table: Readonly<Record<number, T | undefined>>, value: number, field: string): T {
  const found = table[value];
  if (found === undefined) throw invalidField(field, `unknown value ${value}`);
  return found;
}

/** Milliseconds of a duration; `unset` where it is not given. Throws `invalid_argument` for a negative one. */
export function millisecondsOf(duration: Duration | undefined, unset: number, field: string): number {
  if (duration === undefined) return unset;
  const ms = durationMs(duration);
  if (!(ms >= 0) || ms > Number.MAX_SAFE_INTEGER) throw invalidField(field, "must not be negative");
  return ms;
}

function notYet(field: string): SandboxError {
  return new SandboxError("unimplemented", `${field} is not implemented in this version`, {
    reason: "NOT_IMPLEMENTED",
    field,
  });
}

function portRanges(ranges: readonly pb.PortRange[], field: string): PortRange[] {
  return ranges.map(({ first, last }, index) => {
    const end = last === 0 ? first : last;
    if (first < 1 || end > 65535 || end < first)
      throw invalidField(`${field}[${index}]`, "ports are 1 to 65535, first before last");
    return { first, last: end };
  });
}

function networkRules(rules: readonly pb.NetworkRule[], field: string): NetworkRule[] {
  return rules.map((rule, index) => {
    if (!(rule.transport in TRANSPORTS))
      throw invalidField(`${field}[${index}].transport`, `unknown value ${rule.transport}`);
    return {
      transport: TRANSPORTS[rule.transport],
      host: rule.host,
      ports: portRanges(rule.ports, `${field}[${index}].ports`),
    };
  });
}

function bindRules(rules: readonly pb.BindRule[], field: string): BindRule[] {
  return rules.map(({ transport, address, ports }, index) => {
    const at = `${field}[${index}]`;
    const known = transport === pb.Transport.UNSPECIFIED ? "tcp" : TRANSPORTS[transport];
    if (known !== "tcp" && known !== "udp") throw invalidField(`${at}.transport`, "must be TCP or UDP");
    return { transport: known, address, ports: portRanges(ports, `${at}.ports`) };
  });
}

function deny(message: pb.Deny, field: string): { kind: "deny"; errno: number } {
  const errno = message.errorNumber === 0 ? EPERM : message.errorNumber;
  if (errno > MAX_ERRNO) throw invalidField(`${field}.error_number`, `must be at most ${MAX_ERRNO}`);
  return { kind: "deny", errno };
}

function kill(message: pb.Kill, field: string): { kind: "kill"; scope: SignalScope; signal: number } {
  if (message.signal > 64) throw invalidField(`${field}.signal`, "signals are 1 to 64");
  return {
    kind: "kill",
    scope: known(SCOPES, message.scope, `${field}.scope`),
    signal: message.signal === 0 ? SIGKILL : message.signal,
  };
}

function fallback(message: pb.Fallback | undefined, field: string): Fallback {
  const action = message?.action;
  switch (action?.case) {
    case "kill":
      return kill(action.value, `${field}.kill`);
    case "staticPolicy":
      return { kind: "static_policy" };
    case "deny":
      return deny(action.value, `${field}.deny`);
    default:
      return { kind: "deny", errno: EPERM };
  }
}

/** Throws `invalid_argument` or `unimplemented`, naming the field. */
export function matchFromProto(match: pb.CallMatch | undefined, field: string): CallMatch {
  if (match?.subtree !== undefined) throw notYet(`${field}.subtree`);
  return {
    syscalls: match?.syscalls ?? [],
    categories: (match?.categories ?? []).map((category, index) =>
      known(CATEGORIES, category, `${field}.categories[${index}]`),
    ),
    paths: match?.paths ?? [],
    writesOnly: match?.writesOnly ?? false,
    destinations: networkRules(match?.destinations ?? [], `${field}.destinations`),
    executables: match?.executables ?? [],
    programs: match?.programs ?? [],
    arguments: match?.arguments ?? [],
  };
}

function rules(messages: readonly pb.Rule[]): Rule[] {
  const names = new Set<string>();
  return messages.map((rule, index) => {
    const field = `spec.rules[${index}]`;
    if (rule.name === "") throw invalidField(`${field}.name`, "must not be empty");
    if (names.has(rule.name))
      throw invalidField(`${field}.name`, `there are two rules named ${JSON.stringify(rule.name)}`);
    names.add(rule.name);
    const match = matchFromProto(rule.match, `${field}.match`);
    switch (rule.action.case) {
      case "allow":
        return { name: rule.name, match, action: { kind: "allow" } };
      case "ask":
        return { name: rule.name, match, action: { kind: "ask" } };
      case "deny":
        return { name: rule.name, match, action: deny(rule.action.value, `${field}.deny`) };
      case "kill":
        return { name: rule.name, match, action: kill(rule.action.value, `${field}.kill`) };
      default:
        throw invalidField(`${field}.action`, "must be one of allow, deny, kill, ask");
    }
  });
}

function triggers(messages: readonly pb.HoldTrigger[]): HoldTrigger[] {
  return messages.map((trigger, index) => {
    const field = `spec.holds.triggers[${index}]`;
    if (trigger.syscalls.length + trigger.categories.length === 0)
      throw invalidField(field, "names no syscall and no category");
    return {
      syscalls: trigger.syscalls,
      categories: trigger.categories.map((category, at) => known(CATEGORIES, category, `${field}.categories[${at}]`)),
      match: trigger.match === undefined ? undefined : matchFromProto(trigger.match, `${field}.match`),
      requiredIntegrity:
        trigger.requiredIntegrity === pb.ArgumentIntegrity.UNSPECIFIED
          ? undefined
          : known(INTEGRITIES, trigger.requiredIntegrity, `${field}.required_integrity`),
    };
  });
}

function labels(messages: Readonly<Record<string, string>>): Map<string, string> {
  const entries = Object.entries(messages);
  if (entries.length > 32) throw invalidField("spec.labels", "at most 32 labels");
  for (const [key, value] of entries) {
    if (key.length === 0 || key.length > 63 || value.length > 63) {
      throw invalidField(
        `spec.labels[${JSON.stringify(key)}]`,
        "keys and values are at most 63 characters, keys not empty",
      );
    }
  }
  return new Map(entries);
}

/** Refuses what this version does not enforce, rather than leaving it out in silence. */
function refuseUnimplemented(spec: pb.SandboxSpec): void {
  if (spec.http !== undefined) throw notYet("spec.http");
  if (spec.determinism !== undefined) throw notYet("spec.determinism");
  if (spec.workdir !== undefined) throw notYet("spec.workdir");
  const { network, limits, lifetime } = spec;
  if (network?.remapPorts === true) throw notYet("spec.network.remap_ports");
  if (limits !== undefined && limits.diskBytes !== 0n) throw notYet("spec.limits.disk_bytes");
  if (lifetime?.maxUnattended !== undefined) throw notYet("spec.lifetime.max_unattended");
  if (spec.journal !== undefined && spec.journal.maxEvents !== 0) throw notYet("spec.journal.max_events");
}

/** A spec of the API as the domain's, defaults filled in. Throws `SandboxError` naming the field at fault. */
export function specFromProto(message: pb.SandboxSpec | undefined, defaults: SpecDefaults): SandboxSpec {
  const spec = message ?? create(pb.SandboxSpecSchema);
  refuseUnimplemented(spec);
  const { filesystem, network, limits, holds, protections, lifetime, journal } = spec;
  return {
    displayName: spec.displayName,
    labels: labels(spec.labels),
    filesystem: {
      baseline: filesystem?.baseline === pb.Baseline.NONE ? "none" : "sane",
      readable: filesystem?.readable ?? [],
      writable: filesystem?.writable ?? [],
      executable: filesystem?.executable ?? [],
      denied: filesystem?.denied ?? [],
      root: filesystem?.root ?? "",
      mappings: (filesystem?.mappings ?? []).map(({ inside, host, readOnly }) => ({ inside, host, readOnly })),
      privateTmp: filesystem?.privateTmp === undefined ? undefined : { sizeBytes: filesystem.privateTmp.sizeBytes },
      privateProc: filesystem?.privateProc ?? false,
      grantableReadable: filesystem?.grantableReadable ?? [],
      grantableWritable: filesystem?.grantableWritable ?? [],
    },
    network: {
      allow: networkRules(network?.allow ?? [], "spec.network.allow"),
      deny: networkRules(network?.deny ?? [], "spec.network.deny"),
      grantable: networkRules(network?.grantable ?? [], "spec.network.grantable"),
      bind: bindRules(network?.bind ?? [], "spec.network.bind"),
    },
    limits: {
      memoryBytes: limits?.memoryBytes ?? 0n,
      processes: limits?.processes ?? 0,
      openFiles: limits?.openFiles ?? 0,
      cpuMillis: limits?.cpuMillis ?? 0,
      cpuTimeMs: millisecondsOf(limits?.cpuTime, 0, "spec.limits.cpu_time"),
      outputBytes: limits?.outputBytes ?? 0n,
    },
    holds: {
      triggers: triggers(holds?.triggers ?? []),
      verdictTimeoutMs: millisecondsOf(holds?.verdictTimeout, defaults.verdictTimeoutMs, "spec.holds.verdict_timeout"),
      maxHoldMs: millisecondsOf(holds?.maxHold, defaults.maxHoldMs, "spec.holds.max_hold"),
      onTimeout: fallback(holds?.onTimeout, "spec.holds.on_timeout"),
      onNoDecider: {
        graceMs: millisecondsOf(holds?.onNoDecider?.grace, 0, "spec.holds.on_no_decider.grace"),
        fallback: fallback(holds?.onNoDecider?.fallback, "spec.holds.on_no_decider.fallback"),
      },
      maxHeld: holds === undefined || holds.maxHeld === 0 ? defaults.maxHeld : holds.maxHeld,
      coalesce: holds?.coalesce ?? false,
    },
    rules: rules(spec.rules),
    protections: { mayDegrade: protections?.mayDegrade ?? [], disabled: protections?.disabled ?? [] },
    lifetime: {
      maxDurationMs: millisecondsOf(lifetime?.maxDuration, 0, "spec.lifetime.max_duration"),
      maxUnattendedMs: 0,
      retainAfterExitMs: millisecondsOf(
        lifetime?.retainAfterExit,
        defaults.retainAfterExitMs,
        "spec.lifetime.retain_after_exit",
      ),
    },
    journal: {
      maxOutputBytes:
        journal === undefined || journal.maxOutputBytes === 0 ? defaults.maxOutputBytes : journal.maxOutputBytes,
      recordAutomatic: journal?.recordAutomatic ?? false,
    },
    runAs: spec.runAs === undefined ? undefined : { uid: spec.runAs.uid, gid: spec.runAs.gid },
    checkpointable: spec.checkpointable,
  };
}

type Init<Schema extends Parameters<typeof create>[0]> = MessageInitShape<Schema>;

function rulesToProto(list: readonly NetworkRule[]): Init<typeof pb.NetworkRuleSchema>[] {
  return list.map(({ transport, host, ports }) => ({
    transport: transport === undefined ? pb.Transport.UNSPECIFIED : numberOf(TRANSPORTS, transport),
    host,
    ports: [...ports],
  }));
}

type ActionInit =
  | { case: "deny"; value: { errorNumber: number } }
  | { case: "kill"; value: { scope: number; signal: number } };

function refusalToProto(
  action: { kind: "deny"; errno: number } | { kind: "kill"; scope: SignalScope; signal: number },
): ActionInit {
  if (action.kind === "deny") return { case: "deny", value: { errorNumber: action.errno } };
  return { case: "kill", value: { scope: numberOf(SCOPES, action.scope), signal: action.signal } };
}

export function fallbackToProto(value: Fallback): Init<typeof pb.FallbackSchema> {
  return { action: value.kind === "static_policy" ? { case: "staticPolicy", value: {} } : refusalToProto(value) };
}

export function matchToProto(match: CallMatch): Init<typeof pb.CallMatchSchema> {
  return {
    syscalls: [...match.syscalls],
    categories: match.categories.map((category) => numberOf(CATEGORIES, category)),
    paths: [...match.paths],
    writesOnly: match.writesOnly,
    destinations: rulesToProto(match.destinations),
    executables: [...match.executables],
    programs: [...match.programs],
    arguments: [...match.arguments],
  };
}

/** The domain's spec as the API shows it, with defaults filled in. */
export function specToProto(spec: SandboxSpec): Init<typeof pb.SandboxSpecSchema> {
  const { filesystem, network, limits, holds, protections, lifetime, journal } = spec;
  return {
    displayName: spec.displayName,
    labels: Object.fromEntries(spec.labels),
    filesystem: {
      baseline: filesystem.baseline === "sane" ? pb.Baseline.SANE : pb.Baseline.NONE,
      readable: [...filesystem.readable],
      writable: [...filesystem.writable],
      executable: [...filesystem.executable],
      denied: [...filesystem.denied],
      root: filesystem.root,
      mappings: filesystem.mappings.map((mapping) => ({ ...mapping })),
      ...(filesystem.privateTmp === undefined ? {} : { privateTmp: { ...filesystem.privateTmp } }),
      privateProc: filesystem.privateProc,
      grantableReadable: [...filesystem.grantableReadable],
      grantableWritable: [...filesystem.grantableWritable],
    },
    network: {
      allow: rulesToProto(network.allow),
      deny: rulesToProto(network.deny),
      grantable: rulesToProto(network.grantable),
      bind: network.bind.map(({ transport, address, ports }) => ({
        transport: numberOf(TRANSPORTS, transport),
        address,
        ports: [...ports],
      })),
    },
    limits: {
      memoryBytes: limits.memoryBytes,
      processes: limits.processes,
      openFiles: limits.openFiles,
      cpuMillis: limits.cpuMillis,
      outputBytes: limits.outputBytes,
      ...(limits.cpuTimeMs === 0 ? {} : { cpuTime: durationFromMs(limits.cpuTimeMs) }),
    },
    holds: {
      triggers: holds.triggers.map((trigger) => ({
        syscalls: [...trigger.syscalls],
        categories: trigger.categories.map((category) => numberOf(CATEGORIES, category)),
        ...(trigger.match === undefined ? {} : { match: matchToProto(trigger.match) }),
        requiredIntegrity:
          trigger.requiredIntegrity === undefined ? 0 : numberOf(INTEGRITIES, trigger.requiredIntegrity),
      })),
      verdictTimeout: durationFromMs(holds.verdictTimeoutMs),
      maxHold: durationFromMs(holds.maxHoldMs),
      onTimeout: fallbackToProto(holds.onTimeout),
      onNoDecider: {
        grace: durationFromMs(holds.onNoDecider.graceMs),
        fallback: fallbackToProto(holds.onNoDecider.fallback),
      },
      maxHeld: holds.maxHeld,
      coalesce: holds.coalesce,
    },
    rules: spec.rules.map(({ name, match, action }) => ({
      name,
      match: matchToProto(match),
      action:
        action.kind === "allow" || action.kind === "ask" ? { case: action.kind, value: {} } : refusalToProto(action),
    })),
    protections: { mayDegrade: [...protections.mayDegrade], disabled: [...protections.disabled] },
    lifetime: {
      ...(lifetime.maxDurationMs === 0 ? {} : { maxDuration: durationFromMs(lifetime.maxDurationMs) }),
      retainAfterExit: durationFromMs(lifetime.retainAfterExitMs),
    },
    journal: { ...journal },
    ...(spec.runAs === undefined ? {} : { runAs: { ...spec.runAs } }),
    checkpointable: spec.checkpointable,
  };
}

/** Throws `SandboxError` naming the field at fault. */
export function processFromProto(message: pbProcess.ProcessSpec | undefined): ProcessSpec {
  const argv = message?.argv ?? [];
  if (argv.length === 0 || argv[0] === "") throw invalidField("process.argv", "needs a program");
  for (const [index, argument] of argv.entries()) {
    if (argument.includes("\0")) throw invalidField(`process.argv[${index}]`, "must not contain a zero byte");
  }
  const env = Object.entries(message?.env ?? {});
  for (const [name, value] of env) {
    if (name === "" || name.includes("=") || name.includes("\0") || value.includes("\0")) {
      throw invalidField(
        `process.env[${JSON.stringify(name)}]`,
        'a name is not empty and has no "=", and neither part a zero byte',
      );
    }
  }
  const cwd = message?.cwd ?? "";
  if (cwd !== "" && (!cwd.startsWith("/") || cwd.includes("\0")))
    throw invalidField("process.cwd", "must be an absolute path");
  const terminal = message?.terminal;
  if (terminal !== undefined && (terminal.columns > 65535 || terminal.rows > 65535)) {
    throw invalidField("process.terminal", "columns and rows are at most 65535");
  }
  return {
    argv,
    env: new Map(env),
    clearEnv: message?.clearEnv ?? false,
    cwd,
    stdin: message?.stdin === pbProcess.StdinMode.PIPE ? "pipe" : "closed",
    terminal: terminal === undefined ? undefined : { columns: terminal.columns || 80, rows: terminal.rows || 24 },
    outputOverflow: message?.outputOverflow === pbProcess.OutputOverflow.WAIT ? "wait" : "drop_oldest",
  };
}

export function processToProto(process: ProcessSpec): Init<typeof pbProcess.ProcessSpecSchema> {
  return {
    argv: [...process.argv],
    env: Object.fromEntries(process.env),
    clearEnv: process.clearEnv,
    cwd: process.cwd,
    stdin: process.stdin === "pipe" ? pbProcess.StdinMode.PIPE : pbProcess.StdinMode.CLOSED,
    ...(process.terminal === undefined ? {} : { terminal: { ...process.terminal } }),
    outputOverflow:
      process.outputOverflow === "wait" ? pbProcess.OutputOverflow.WAIT : pbProcess.OutputOverflow.DROP_OLDEST,
  };
}
