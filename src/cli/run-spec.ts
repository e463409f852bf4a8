import { resolve } from "node:path";
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  Baseline,
  type BindRuleSchema,
  CallCategory,
  FilesystemPolicySchema,
  HoldPolicySchema,
  type Identity,
  IdentitySchema,
  LifetimePolicySchema,
  NetworkPolicySchema,
  type NetworkRuleSchema,
  NoDeciderPolicySchema,
  type PathMapping,
  PathMappingSchema,
  PrivateTmpSchema,
  ProtectionPolicySchema,
  type SandboxSpec,
  SandboxSpecSchema,
  Transport,
} from "../gen/sandgate/v1/policy_pb.js";
import { OutputOverflow, type ProcessSpec, ProcessSpecSchema, StdinMode } from "../gen/sandgate/v1/process_pb.js";
import { parseByteSize } from "./byte-size.js";
import { UsageError } from "./failure.js";
import { addLimits, type LimitOptions } from "./limit-options.js";
import { parseBinding, parseDestination, type RuleTransport } from "./network-rule.js";

/** The policy options of `run`, as typed. */
export interface PolicyOptions extends LimitOptions {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly deny?: readonly string[];
  readonly exec?: readonly string[];
  readonly root?: string;
  readonly map?: readonly string[];
  readonly tmp?: boolean;
  readonly tmpSize?: string;
  readonly proc?: boolean;
  readonly uid?: string;
  readonly gid?: string;
  readonly netAllow?: readonly string[];
  readonly netDeny?: readonly string[];
  readonly bind?: readonly string[];
  readonly name?: string;
  readonly label?: readonly string[];
  readonly checkpointable?: boolean;
  readonly allowDegraded?: readonly string[];
  /** False with --no-baseline. */
  readonly baseline?: boolean;
  readonly ask?: boolean;
  /** Time that a call waits for an answer from elsewhere. */
  readonly holdMs?: number | undefined;
}

/** Time a person has for an answer. */
export const ASK_TIMEOUT_MS = 5 * 60_000;
/** Bound on the whole wait of a call, the time behind other questions included. */
const ASK_MAX_HOLD_MS = 10 * 60_000;

/**
 * Adds what the options say to `base`; lists grow, single values replace. Relative paths start at `callerCwd`, those
 * inside another root at "/".
 */
export function buildSpec(
  base: SandboxSpec | undefined,
  options: PolicyOptions,
  callerCwd: string,
  timeoutMs: number,
): SandboxSpec {
  const spec = base === undefined ? create(SandboxSpecSchema) : clone(SandboxSpecSchema, base);
  const filesystem = spec.filesystem ?? create(FilesystemPolicySchema);
  const network = spec.network ?? create(NetworkPolicySchema);
  if (options.root !== undefined) filesystem.root = resolve(callerCwd, options.root);
  const insideCwd = filesystem.root === "" ? callerCwd : "/";
  const trees = (paths: readonly string[] = []) => paths.map((path) => resolve(insideCwd, path));
  filesystem.readable.push(...trees(options.read));
  filesystem.writable.push(...trees(options.write));
  filesystem.executable.push(...trees(options.exec));
  filesystem.denied.push(...trees(options.deny));
  filesystem.mappings.push(...(options.map ?? []).map((text) => mappingOf(text, callerCwd)));
  if (options.tmp === true || options.tmpSize !== undefined) filesystem.privateTmp ??= create(PrivateTmpSchema);
  if (filesystem.privateTmp !== undefined && options.tmpSize !== undefined) {
    filesystem.privateTmp.sizeBytes = BigInt(named("--tmp-size", options.tmpSize, parseByteSize));
  }
  if (options.proc === true) filesystem.privateProc = true;
  const identity = identityOf(options);
  if (identity !== undefined) spec.runAs = identity;
  if (options.baseline === false) filesystem.baseline = Baseline.NONE;
  const widened = create(NetworkPolicySchema, {
    allow: (options.netAllow ?? []).map((text) => named("--net-allow", text, ruleOf)),
    deny: (options.netDeny ?? []).map((text) => named("--net-deny", text, ruleOf)),
    bind: (options.bind ?? []).map((text) => named("--bind", text, bindingOf)),
  });
  network.allow.push(...widened.allow);
  network.deny.push(...widened.deny);
  network.bind.push(...widened.bind);
  spec.filesystem = filesystem;
  spec.network = network;
  addLimits(spec, options);
  if (options.name !== undefined) spec.displayName = options.name;
  for (const label of options.label ?? []) {
    const [key, value] = keyAndValue(label, "--label", "KEY=VALUE");
    spec.labels[key] = value;
  }
  if (options.checkpointable === true) spec.checkpointable = true;
  if ((options.allowDegraded ?? []).length > 0) {
    spec.protections ??= create(ProtectionPolicySchema);
    spec.protections.mayDegrade.push(...(options.allowDegraded ?? []));
  }
  if (timeoutMs > 0) {
    spec.lifetime ??= create(LifetimePolicySchema);
    spec.lifetime.maxDuration = durationFromMs(timeoutMs);
  }
  if (options.holdMs !== undefined) {
    addQuestions(spec, options.holdMs, options.holdMs);
    if (spec.holds !== undefined)
      spec.holds.onNoDecider ??= create(NoDeciderPolicySchema, { grace: durationFromMs(options.holdMs) });
  } else if (options.ask === true) addQuestions(spec, ASK_TIMEOUT_MS, ASK_MAX_HOLD_MS);
  return spec;
}

/** Throws UsageError. */
function mappingOf(text: string, callerCwd: string): PathMapping {
  const [inside = "", host = "", mode = "rw", ...rest] = text.split(":");
  if (!inside.startsWith("/") || host === "" || rest.length > 0 || !["ro", "rw"].includes(mode)) {
    throw new UsageError(`--map ${text}: write INSIDE:HOST or INSIDE:HOST:ro, as in --map /data:/srv/data:ro`);
  }
  return create(PathMappingSchema, { inside, host: resolve(callerCwd, host), readOnly: mode === "ro" });
}

/** Throws UsageError. */
function identityOf({ uid, gid }: PolicyOptions): Identity | undefined {
  if (uid === undefined && gid === undefined) return undefined;
  if (uid === undefined) throw new UsageError("--gid needs --uid, as in --uid 1000 --gid 100");
  return create(IdentitySchema, {
    uid: idOf(uid, "--uid"),
    gid: gid === undefined ? idOf(uid, "--uid") : idOf(gid, "--gid"),
  });
}

function idOf(text: string, option: string): number {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(id < 0xffffffff)) throw new UsageError(`${option} ${text}: write a number, as in ${option} 1000`);
  return id;
}

/**
 * Holds each execve, connect and write-open that nothing settles, and lets an answer open any file for
 * writing or reach any TCP destination: with a person who answers, the person is the ceiling.
 */
function addQuestions(spec: SandboxSpec, verdictTimeoutMs: number, maxHoldMs: number): void {
  spec.holds ??= create(HoldPolicySchema);
  const holds = create(HoldPolicySchema, {
    triggers: [
      { syscalls: ["execve", "execveat"] },
      { syscalls: ["connect"] },
      { categories: [CallCategory.FILE], match: { writesOnly: true } },
    ],
  });
  spec.holds.triggers.push(...holds.triggers);
  spec.holds.verdictTimeout ??= durationFromMs(verdictTimeoutMs);
  spec.holds.maxHold ??= durationFromMs(maxHoldMs);
  spec.holds.coalesce = true;
  if (!spec.filesystem?.grantableWritable.includes("/")) spec.filesystem?.grantableWritable.push("/");
  spec.network?.grantable.push(...create(NetworkPolicySchema, { grantable: [{ transport: Transport.TCP }] }).grantable);
}

/** The process options of `run` and `exec`, as typed. */
export interface ProcessOptions {
  readonly cwd?: string;
  readonly env?: readonly string[];
  readonly clearEnv?: boolean;
}

export interface ProcessSetting {
  readonly callerCwd: string;
  readonly callerEnv: Readonly<Record<string, string | undefined>>;
  /** Where relative directories start inside, when not at `callerCwd`. */
  readonly insideCwd?: string;
  /** Directory when --cwd is not given. */
  readonly defaultCwd: string;
  readonly terminal: { readonly columns: number; readonly rows: number } | undefined;
  readonly stdin: boolean;
}

export function buildProcess(argv: readonly string[], options: ProcessOptions, setting: ProcessSetting): ProcessSpec {
  const { terminal, callerCwd, callerEnv } = setting;
  const env: Record<string, string> = {};
  const term = callerEnv.TERM;
  if (terminal !== undefined && term !== undefined && options.clearEnv !== true) env.TERM = term;
  for (const text of options.env ?? []) {
    if (text.includes("=")) {
      const [key, value] = keyAndValue(text, "--env", "NAME=VALUE or NAME");
      env[key] = value;
    } else {
      const value = callerEnv[text];
      if (value === undefined)
        throw new UsageError(`--env ${text}: you have no variable of that name; write ${text}=VALUE`);
      env[text] = value;
    }
  }
  const process: MessageInitShape<typeof ProcessSpecSchema> = {
    argv: [...argv],
    env,
    clearEnv: options.clearEnv === true,
    cwd: options.cwd === undefined ? setting.defaultCwd : resolve(setting.insideCwd ?? callerCwd, options.cwd),
    stdin: terminal === undefined && setting.stdin ? StdinMode.PIPE : StdinMode.CLOSED,
    outputOverflow: OutputOverflow.WAIT,
  };
  if (terminal !== undefined) process.terminal = terminal;
  return create(ProcessSpecSchema, process);
}

/** Splits at the first "=". Throws UsageError. */
export function keyAndValue(text: string, option: string, form: string): [string, string] {
  const equals = text.indexOf("=");
  if (equals <= 0) throw new UsageError(`${option} ${text}: write ${form}`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

const TRANSPORTS: Readonly<Record<RuleTransport, Transport>> = {
  tcp: Transport.TCP,
  udp: Transport.UDP,
  icmp: Transport.ICMP,
  unix: Transport.UNIX,
};

function ruleOf(text: string): MessageInitShape<typeof NetworkRuleSchema> {
  const { transport, host, ports } = parseDestination(text);
  return {
    transport: transport === undefined ? Transport.UNSPECIFIED : TRANSPORTS[transport],
    host,
    ports: ports.map((range) => ({ ...range })),
  };
}

function bindingOf(text: string): MessageInitShape<typeof BindRuleSchema> {
  const { transport, address, ports } = parseBinding(text);
  return { transport: TRANSPORTS[transport], address, ports: ports.map((range) => ({ ...range })) };
}

/** Reads an option's value; a message about it begins with the option's name. */
function named<T>(option: string, text: string, read: (text: string) => T): T {
  try {
    return read(text);
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${option} ${error.message}`, { cause: error });
    throw error;
  }
}
