/** The options of `run` that bound what a sandbox may use. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Limits, LimitsSchema, type SandboxSpec } from "../gen/sandgate/v1/policy_pb.js";
import { parseByteSize } from "./byte-size.js";
import { parseDurationMs } from "./duration.js";
import { UsageError } from "./failure.js";

export interface LimitOptions {
  readonly memory?: string;
  readonly processes?: string;
  readonly openFiles?: string;
  readonly cpu?: string;
  readonly cpuTime?: string;
  readonly output?: string;
  readonly disk?: string;
}

/** Sets what is given and leaves the rest. Throws UsageError that names the option. */
export function addLimits(spec: SandboxSpec, options: LimitOptions): void {
  const set = <T>(
    option: string,
    text: string | undefined,
    parse: (text: string) => T,
    put: (to: Limits, value: T) => void,
  ) => {
    if (text === undefined) return;
    spec.limits ??= create(LimitsSchema);
    put(spec.limits, named(option, text, parse));
  };
  set("--memory", options.memory, parseByteSize, (to, bytes) => {
    to.memoryBytes = BigInt(bytes);
  });
  set("--processes", options.processes, parseCount, (to, count) => {
    to.processes = count;
  });
  set("--open-files", options.openFiles, parseCount, (to, count) => {
    to.openFiles = count;
  });
  set("--cpu", options.cpu, parseShare, (to, millis) => {
    to.cpuMillis = millis;
  });
  set("--cpu-time", options.cpuTime, parseDurationMs, (to, ms) => {
    to.cpuTime = durationFromMs(ms);
  });
  set("--output", options.output, parseByteSize, (to, bytes) => {
    to.outputBytes = BigInt(bytes);
  });
  set("--disk", options.disk, parseByteSize, (to, bytes) => {
    to.diskBytes = BigInt(bytes);
  });
}

const MAX_COUNT = 2 ** 32 - 1;

function parseCount(text: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > MAX_COUNT) throw new UsageError(`"${text}" is not a number of them: write 64`);
  return count;
}

/** `50%`, `0.5`, `2`: thousandths of one processor. Throws UsageError. */
export function parseShare(text: string): number {
  const [, number, percent] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text) ?? [];
  const millis = Math.round(Number(number) * (percent === "%" ? 10 : 1000));
  if (!(millis >= 1 && millis <= MAX_COUNT)) {
    throw new UsageError(`"${text}" is not a share of the processors: write 50%, 0.5 or 2`);
  }
  return millis;
}

function named<T>(option: string, text: string, parse: (text: string) => T): T {
  try {
    const value = parse(text);
    if (value === 0) throw new UsageError("zero would be no limit: leave the option out");
    return value;
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${option}: ${error.message}`);
    throw error;
  }
}
