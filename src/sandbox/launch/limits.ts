/** Which mechanism takes each limit. */
import type { HostFeatures } from "../host.js";
import type { SandboxSpec } from "../model.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import type { ResourceLimit } from "./encode.js";

export function planUnboundedLimits({ limits }: SandboxSpec, ledger: ProtectionLedger): void {
  if (limits.memoryBytes > 0n) ledger.need("memory_limit");
  if (limits.processes > 0) ledger.need("process_limit");
  if (limits.cpuMillis > 0) ledger.need("cpu_limit");
}

const RLIMIT_CPU = 0;
const RLIMIT_CORE = 4;
const RLIMIT_NOFILE = 7;
/** What programs that use select(2), or close every possible descriptor, expect. */
const DEFAULT_OPEN_FILES = 1024;

export function resourceLimits({ limits }: SandboxSpec, host: HostFeatures): ResourceLimit[] {
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
