import type { HostFeatures } from "../../src/sandbox/host.js";
import type { CallMatch, HoldTrigger, ProcessSpec, Rule, SandboxSpec } from "../../src/sandbox/model.js";

/** A host that has everything. */
export const CAPABLE_HOST: HostFeatures = {
  arch: "x86_64",
  kernelRelease: "6.18.0",
  uid: 0,
  gid: 0,
  canSetIds: true,
  landlockAbi: 7,
  listener: true,
  waitKillable: true,
  pidNamespaces: true,
  userNamespaces: true,
  mountNamespaces: true,
  userMountNamespaces: true,
  canDropBounding: true,
  pidfdGetfd: true,
  trace: true,
  maxOpenFiles: 4096,
  listsChildren: true,
};

export const ANY_CALL: CallMatch = {
  syscalls: [],
  categories: [],
  paths: [],
  writesOnly: false,
  destinations: [],
  executables: [],
  programs: [],
  arguments: [],
};

export type SpecParts = {
  readonly [Part in keyof SandboxSpec]?: Part extends "runAs"
    ? SandboxSpec[Part]
    : SandboxSpec[Part] extends readonly unknown[] | boolean | string
      ? SandboxSpec[Part]
      : Partial<SandboxSpec[Part]>;
};

/** The spec of a sandbox that may do nothing but start, with some parts said otherwise. */
export function specOf(parts: SpecParts = {}): SandboxSpec {
  return {
    displayName: "",
    labels: new Map(),
    filesystem: {
      baseline: "sane",
      readable: [],
      writable: [],
      denied: [],
      grantableReadable: [],
      grantableWritable: [],
      executable: [],
      root: "",
      mappings: [],
      privateTmp: undefined,
      privateProc: false,
      ...parts.filesystem,
    },
    network: { allow: [], deny: [], grantable: [], bind: [], ...parts.network },
    limits: {
      memoryBytes: 0n,
      processes: 0,
      openFiles: 0,
      cpuMillis: 0,
      cpuTimeMs: 0,
      outputBytes: 0n,
      ...parts.limits,
    },
    holds: {
      triggers: [],
      verdictTimeoutMs: 30_000,
      maxHoldMs: 300_000,
      onTimeout: { kind: "deny", errno: 1 },
      onNoDecider: { graceMs: 0, fallback: { kind: "deny", errno: 1 } },
      maxHeld: 100,
      coalesce: false,
      ...parts.holds,
    },
    rules: parts.rules ?? [],
    protections: { mayDegrade: [], disabled: [], ...parts.protections },
    lifetime: { maxDurationMs: 0, maxUnattendedMs: 0, retainAfterExitMs: 0, ...parts.lifetime },
    journal: { maxOutputBytes: 65_536, recordAutomatic: false, ...parts.journal },
    runAs: parts.runAs,
    checkpointable: parts.checkpointable ?? false,
  };
}

export function processOf(argv: readonly string[], parts: Partial<ProcessSpec> = {}): ProcessSpec {
  return {
    argv,
    env: new Map(),
    clearEnv: false,
    cwd: "",
    stdin: "closed",
    terminal: undefined,
    outputOverflow: "drop_oldest",
    ...parts,
  };
}

export function triggerOf(parts: Partial<HoldTrigger>): HoldTrigger {
  return { syscalls: [], categories: [], match: undefined, requiredIntegrity: undefined, ...parts };
}

export function ruleOf(name: string, match: Partial<CallMatch>, action: Rule["action"]): Rule {
  return { name, match: { ...ANY_CALL, ...match }, action };
}
