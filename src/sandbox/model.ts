/**
 * The domain's nouns: what a sandbox is asked to be, what a held call is, what happened. Plain data,
 * structured-cloneable, so that it crosses between the engine thread and the main thread. Text that a
 * program chose (paths, argv) is bytes, never a string. Generated API types meet these only in `src/service`.
 */

import type { SandboxError } from "../base/errors.js";
import type { GrantRecord } from "./decisions/decider.js";

// ------------------------------------------------------------------------------------------- policy

export interface SandboxSpec {
  readonly displayName: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly filesystem: FilesystemPolicy;
  readonly network: NetworkPolicy;
  readonly limits: Limits;
  readonly holds: HoldPolicy;
  /** Tried in order before any decider is asked; the first match wins. */
  readonly rules: readonly Rule[];
  readonly protections: ProtectionPolicy;
  readonly lifetime: LifetimePolicy;
  readonly journal: JournalPolicy;
  /** Undefined: the service's own. */
  readonly runAs: Identity | undefined;
  /** Born in its own PID namespace, so that a checkpoint can restore the same pids. */
  readonly checkpointable: boolean;
}

export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

/** Absolute paths of trees, as the sandbox sees them. Nothing is accessible that is not listed. */
export interface FilesystemPolicy {
  /** `sane` also grants what an ordinary dynamically linked program reads to start. */
  readonly baseline: "sane" | "none";
  readonly readable: readonly string[];
  readonly writable: readonly string[];
  /** Trees whose programs may be executed and not read. */
  readonly executable: readonly string[];
  /** Trees refused even below a listed one, and whatever a verdict says. */
  readonly denied: readonly string[];
  /** Trees that a verdict may open for reading, although the program itself may not. */
  readonly grantableReadable: readonly string[];
  /** Trees that a verdict may open for writing, although the program itself may not. */
  readonly grantableWritable: readonly string[];
  /** Host directory that is the sandbox's root; empty: the host's. */
  readonly root: string;
  readonly mappings: readonly PathMapping[];
  /** A /tmp of the sandbox's own, in memory. */
  readonly privateTmp: PrivateTmp | undefined;
  /** A /proc that shows the sandbox's own processes alone. */
  readonly privateProc: boolean;
}

/** What the host has at one path, shown at another. It may be read, and written unless it is read-only. */
export interface PathMapping {
  readonly inside: string;
  readonly host: string;
  readonly readOnly: boolean;
}

export interface PrivateTmp {
  readonly sizeBytes: bigint;
}

/** What is denied is refused, then what is allowed is reached, and all else is refused. */
export interface NetworkPolicy {
  readonly allow: readonly NetworkRule[];
  readonly deny: readonly NetworkRule[];
  /** Destinations that a verdict may allow. */
  readonly grantable: readonly NetworkRule[];
  readonly bind: readonly BindRule[];
}

export type Transport = "tcp" | "udp" | "icmp" | "unix";

export interface NetworkRule {
  /** Undefined: TCP and UDP. */
  readonly transport: Transport | undefined;
  /** An address, a CIDR block, a host name, or empty for any. */
  readonly host: string;
  /** Empty: all. */
  readonly ports: readonly PortRange[];
}

export interface BindRule {
  readonly transport: "tcp" | "udp";
  /** An address or a CIDR block; empty for any. */
  readonly address: string;
  /** Empty: all. */
  readonly ports: readonly PortRange[];
}

/** Inclusive. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Zero means none. */
export interface Limits {
  readonly memoryBytes: bigint;
  readonly processes: number;
  readonly openFiles: number;
  readonly cpuMillis: number;
  readonly cpuTimeMs: number;
  readonly outputBytes: bigint;
}

export interface ProtectionPolicy {
  readonly mayDegrade: readonly string[];
  readonly disabled: readonly string[];
}

/** Zero means no bound. */
export interface LifetimePolicy {
  readonly maxDurationMs: number;
  readonly maxUnattendedMs: number;
  readonly retainAfterExitMs: number;
}

export interface JournalPolicy {
  readonly maxOutputBytes: number;
  readonly recordAutomatic: boolean;
}

export interface HoldPolicy {
  readonly triggers: readonly HoldTrigger[];
  readonly verdictTimeoutMs: number;
  readonly maxHoldMs: number;
  readonly onTimeout: Fallback;
  readonly onNoDecider: { readonly graceMs: number; readonly fallback: Fallback };
  readonly maxHeld: number;
  readonly coalesce: boolean;
}

export interface HoldTrigger {
  readonly syscalls: readonly string[];
  readonly categories: readonly CallCategory[];
  readonly match: CallMatch | undefined;
  readonly requiredIntegrity: ArgumentIntegrity | undefined;
}

export type Fallback =
  | { readonly kind: "deny"; readonly errno: number }
  | { readonly kind: "kill"; readonly scope: SignalScope; readonly signal: number }
  | { readonly kind: "static_policy" };

export type CallCategory = "file" | "network" | "process" | "memory" | "ipc";
export type ArgumentIntegrity = "registers" | "copied" | "frozen" | "racy";
export type SignalScope = "process" | "group" | "sandbox";

export interface Rule {
  readonly name: string;
  readonly match: CallMatch;
  readonly action:
    | { readonly kind: "allow" }
    | { readonly kind: "deny"; readonly errno: number }
    | { readonly kind: "kill"; readonly scope: SignalScope; readonly signal: number }
    | { readonly kind: "ask" };
}

/** Every given part must hold; in a list, any entry. An empty match matches every call. */
export interface CallMatch {
  readonly syscalls: readonly string[];
  readonly categories: readonly CallCategory[];
  /** Glob patterns: `*` inside a segment, `**` across segments. */
  readonly paths: readonly string[];
  readonly writesOnly: boolean;
  readonly destinations: readonly NetworkRule[];
  readonly executables: readonly string[];
  readonly programs: readonly string[];
  /** Strings that must all be present in an execve's argv. */
  readonly arguments: readonly string[];
}

// --------------------------------------------------------------------------------------- processes

export interface ProcessSpec {
  readonly argv: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly clearEnv: boolean;
  /** Empty: `/`. */
  readonly cwd: string;
  readonly stdin: "closed" | "pipe";
  readonly terminal: TerminalSize | undefined;
  readonly outputOverflow: "drop_oldest" | "wait";
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export type SandboxState = "created" | "running" | "paused" | "stopping" | "ended" | "lost";

export type EndCause = "self" | "client" | "verdict" | "limit" | "service";

export interface ExitStatus {
  readonly result:
    | { readonly kind: "code"; readonly code: number }
    | { readonly kind: "signal"; readonly signal: number }
    /** It never ran. */
    | { readonly kind: "not_started"; readonly error: SandboxError };
  readonly cause: EndCause;
  readonly endTimeMs: number;
  readonly cpuTimeMs: number;
  readonly peakMemoryBytes: number;
}

export interface ProcessInfo {
  /** "main", or the id given by Exec. */
  readonly processId: string;
  readonly pid: number;
  readonly spec: ProcessSpec;
  readonly startTimeMs: number;
  readonly exit: ExitStatus | undefined;
}

export type ProtectionState = "active" | "degraded" | "disabled";

/** A snapshot of one sandbox. */
export interface SandboxInfo {
  readonly sandboxId: string;
  readonly state: SandboxState;
  readonly spec: SandboxSpec;
  readonly etag: string;
  readonly createTimeMs: number;
  readonly endTimeMs: number | undefined;
  readonly processes: readonly ProcessInfo[];
  readonly protections: ReadonlyMap<string, ProtectionState>;
  readonly heldCalls: number;
  readonly deciders: number;
  readonly usage: ResourceUsage;
  readonly owner: string;
  readonly tenant: string;
  readonly plan: PlanSummary;
}

export interface ResourceUsage {
  readonly cpuTimeMs: number;
  readonly peakMemoryBytes: number;
  readonly processes: number;
  readonly heldCalls: number;
  readonly heldTimeMs: number;
}

/** What the launch plan chose, for GetSandbox and `sandgate inspect`. */
export interface PlanSummary {
  readonly notifiedSyscalls: readonly string[];
  /** Rule, by its field path, to the mechanism that enforces it. */
  readonly mechanisms: ReadonlyMap<string, string>;
  /** Stage, to the time from the start of the launch until it was entered, in nanoseconds. */
  readonly stages: readonly { readonly stage: string; readonly offsetNs: number }[];
}

// --------------------------------------------------------------------------------------- held calls

export interface TaskInfo {
  readonly sandboxId: string;
  /** "main", an Exec's id, or empty when not known. */
  readonly processId: string;
  readonly pid: number;
  readonly tid: number;
  readonly ppid: number;
  readonly startTicks: number;
  readonly executable: Uint8Array;
  readonly command: Uint8Array;
}

export type FileOperation = "read" | "write" | "create" | "remove" | "rename" | "link" | "metadata" | "stat";
export type NetworkOperation = "connect" | "send" | "bind" | "listen" | "socket";

export type SocketAddress =
  | { readonly kind: "ip"; readonly ip: Uint8Array; readonly port: number }
  | { readonly kind: "unix"; readonly path: Uint8Array }
  /** AF_UNSPEC: a connect that dissolves the association. */
  | { readonly kind: "unspecified" };

export type CallDetail =
  | {
      readonly kind: "file";
      readonly path: Uint8Array;
      readonly operation: FileOperation;
      readonly flags: number;
      readonly mode: number;
      readonly exists: boolean;
    }
  | {
      readonly kind: "exec";
      readonly program: Uint8Array;
      /** Where the program is a script: its interpreter, then that one's if it is a script too, and so on. */
      readonly interpreters: readonly Uint8Array[];
      readonly argv: readonly Uint8Array[];
      readonly argvCut: boolean;
    }
  | {
      readonly kind: "network";
      readonly operation: NetworkOperation;
      readonly transport: Transport;
      readonly address: SocketAddress;
      readonly size: number;
    }
  | { readonly kind: "raw" };

/** A system call that no rule settled. */
export interface HeldCall {
  /** Unique in this run of the server, never used twice. */
  readonly holdId: number;
  readonly sandboxId: string;
  readonly task: TaskInfo;
  readonly syscall: string;
  readonly number: number;
  /** AUDIT_ARCH value. */
  readonly arch: number;
  readonly args: readonly bigint[];
  readonly category: CallCategory;
  readonly integrity: ArgumentIntegrity;
  readonly detail: CallDetail;
  /** Wall clock, when the engine received it. */
  readonly timeMs: number;
  /** The `ask` rule that sent it here, or empty. */
  readonly rule: string;
}

/** What the engine is told to do with a held call. */
export type Settlement =
  /** As far as the ceiling goes: the grantable trees and destinations too. */
  | { readonly kind: "allow" }
  /** As though it were not held: what the program may do by itself, and no more. */
  | { readonly kind: "static" }
  | { readonly kind: "deny"; readonly errno: number }
  | { readonly kind: "kill"; readonly scope: SignalScope; readonly signal: number };

/** A verdict to use again without asking; evaluated on the engine thread after the spec's rules. */
export interface Grant {
  readonly grantId: string;
  readonly sandboxId: string;
  /** Whose calls it settles: those of processes that run this executable (its path, byte for byte), or all. */
  readonly executable: Uint8Array | undefined;
  readonly match: CallMatch | { readonly sameCall: HeldCall };
  readonly settlement: Settlement;
  /** Wall clock; undefined: as long as the sandbox. */
  readonly expireTimeMs: number | undefined;
  /** Zero: no limit. */
  readonly maxUses: number;
}

export type VerdictSource = "decider" | "grant" | "rule" | "static" | "timeout" | "no_decider" | "target_gone";

// -------------------------------------------------------------------------------------------- events

/** One thing that happened, before the journal gave it a sequence number. */
export interface DomainEvent {
  readonly timeMs: number;
  readonly sandboxId: string;
  readonly tenant: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly task: TaskInfo | undefined;
  /** W3C trace context of what the sandbox was started for, where that had one. */
  readonly traceparent?: string;
  readonly body: EventBody;
}

export type EventBody =
  | { readonly kind: "sandbox_changed"; readonly sandbox: SandboxInfo; readonly previous: SandboxState | undefined }
  | {
      readonly kind: "process_started";
      readonly processId: string;
      readonly program: Uint8Array;
      readonly argv: readonly Uint8Array[];
    }
  | { readonly kind: "process_ended"; readonly processId: string; readonly exit: ExitStatus; readonly managed: boolean }
  | { readonly kind: "call_held"; readonly call: HeldCall }
  | {
      readonly kind: "call_settled";
      readonly call: HeldCall;
      readonly settlement: Settlement;
      readonly source: VerdictSource;
      /** Rule, grant or decider by name. */
      readonly sourceName: string;
      readonly reason: string;
      /** The verdict's own labels, when it had any. */
      readonly verdictLabels?: ReadonlyMap<string, string>;
      readonly heldMs: number;
    }
  | {
      readonly kind: "grant_changed";
      readonly record: GrantRecord;
      /** Whether it holds now. */
      readonly active: boolean;
    }
  | { readonly kind: "limit_reached"; readonly limit: string; readonly action: string }
  | {
      readonly kind: "decider_changed";
      readonly decider: string;
      readonly connected: boolean;
      readonly leased: number;
      readonly identity: string;
    };

/** Where events go. Never throws, never waits. */
export interface EventSink {
  append(event: DomainEvent): void;
}
