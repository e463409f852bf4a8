import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { ProtectionState, type Sandbox, SandboxSchema, SandboxState, SignalScope } from "../client/client.js";
import { connectTo, withConnection } from "./connection.js";
import { formatDurationMs, parseDurationMs } from "./duration.js";
import { describeExit } from "./exit-status.js";
import { writeJsonLine } from "./output.js";
import { describePlan } from "./plan.js";
import { clipped, printable, quoted } from "./printable.js";
import { keyAndValue } from "./run-spec.js";
import { parseSignal } from "./signals.js";
import { formatTable, type Style, styleFor } from "./style.js";

interface ServiceOptions {
  readonly address?: string | undefined;
}

export interface PsOptions extends ServiceOptions {
  readonly all?: boolean;
  readonly label?: readonly string[];
  readonly json?: boolean;
}

export async function ps(options: PsOptions): Promise<void> {
  const labels = Object.fromEntries((options.label ?? []).map((label) => keyAndValue(label, "--label", "KEY=VALUE")));
  const states = options.all === true ? ALL_STATES : [];
  await withConnection(connectTo(options.address), async ({ client }) => {
    const sandboxes: Sandbox[] = [];
    for (let pageToken = ""; ; ) {
      const page = await client.sandbox.listSandboxes({
        selector: { labels },
        states,
        pageToken,
        readMask: { paths: LISTED_FIELDS },
      });
      sandboxes.push(...page.sandboxes);
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    if (options.json === true) {
      for (const sandbox of sandboxes) await writeJsonLine(process.stdout, toJson(SandboxSchema, sandbox));
      return;
    }
    const rows = sandboxes.map((sandbox) => tableRow(sandbox, Date.now()));
    process.stdout.write(formatTable(["SANDBOX", "STATE", "AGE", "HELD", "NAME", "PROGRAM"], rows));
  });
}

const LISTED_FIELDS = [
  "sandbox_id",
  "state",
  "create_time",
  "end_time",
  "held_calls",
  "deciders",
  "usage",
  "owner",
  "spec",
  "processes",
];

const ALL_STATES = [
  SandboxState.CREATED,
  SandboxState.RUNNING,
  SandboxState.PAUSED,
  SandboxState.STOPPING,
  SandboxState.ENDED,
  SandboxState.LOST,
];

function tableRow(sandbox: Sandbox, nowMs: number): string[] {
  const { sandboxId, state, createTime, heldCalls, spec, processes } = sandbox;
  const argv = processes.find(({ processId }) => processId === "main")?.spec?.argv ?? [];
  return [
    sandboxId,
    stateName(state),
    createTime === undefined ? "" : formatDurationMs(nowMs - timestampMs(createTime)),
    String(heldCalls),
    printable(spec?.displayName ?? "") || "-",
    clipped(argv.map(quoted).join(" "), 80),
  ];
}

function stateName(state: SandboxState): string {
  return (SandboxState[state] ?? String(state)).toLowerCase();
}

export interface InspectOptions extends ServiceOptions {
  readonly json?: boolean;
}

export async function inspect(sandboxId: string, options: InspectOptions): Promise<void> {
  await withConnection(connectTo(options.address), async ({ client }) => {
    const { sandbox } = await client.sandbox.getSandbox({ sandboxId });
    if (sandbox === undefined) return;
    if (options.json === true) await writeJsonLine(process.stdout, toJson(SandboxSchema, sandbox));
    else process.stdout.write(describeSandbox(sandbox, styleFor(process.stdout, process.env)));
  });
}

/** Everything a person asks of a sandbox, in sections. */
export function describeSandbox(sandbox: Sandbox, style: Style): string {
  const { spec, plan, usage } = sandbox;
  const lines: string[] = [];
  const section = (title: string, entries: readonly string[]) => {
    if (entries.length === 0) return;
    lines.push(style.bold(title), ...entries.map((entry) => `  ${entry}`));
  };
  section(sandbox.sandboxId, [
    `state      ${stateName(sandbox.state)}`,
    ...(spec?.displayName ? [`name       ${printable(spec.displayName)}`] : []),
    `owner      ${printable(sandbox.owner)}`,
    ...(sandbox.createTime === undefined
      ? []
      : [`made       ${new Date(timestampMs(sandbox.createTime)).toISOString()}`]),
    ...(sandbox.endTime === undefined ? [] : [`ended      ${new Date(timestampMs(sandbox.endTime)).toISOString()}`]),
    ...Object.entries(spec?.labels ?? {}).map(([key, value]) => `label      ${printable(key)}=${printable(value)}`),
    `held       ${sandbox.heldCalls} waiting, ${sandbox.deciders} deciders`,
    ...(usage?.cpuTime === undefined ? [] : [`cpu        ${formatDurationMs(durationMs(usage.cpuTime))}`]),
    ...(usage === undefined ? [] : [`peak       ${Math.ceil(Number(usage.peakMemoryBytes) / 1024)} KiB`]),
  ]);
  section(
    "processes",
    sandbox.processes.map(({ processId, pid, spec: process, exit }) => {
      const argv = clipped((process?.argv ?? []).map(quoted).join(" "), 120);
      return `${printable(processId)}  ${exit === undefined ? `pid ${pid}` : describeExit(exit)}  ${argv}`;
    }),
  );
  section("readable", (spec?.filesystem?.readable ?? []).map(quoted));
  section("writable", (spec?.filesystem?.writable ?? []).map(quoted));
  section(
    "protections",
    Object.entries(sandbox.protections).map(([name, state]) => `${name.padEnd(20)} ${paintedProtection(state, style)}`),
  );
  lines.push(...describePlan(sandbox, style));
  section(
    "launch",
    (plan?.stages ?? []).map(
      ({ stage, offset }) => `${stage.padEnd(20)} ${offset === undefined ? "" : `${microseconds(offset)} µs`}`,
    ),
  );
  return `${lines.join("\n")}\n`;
}

function microseconds({ seconds, nanos }: { seconds: bigint; nanos: number }): string {
  return String(Number(seconds) * 1_000_000 + Math.round(nanos / 1_000));
}

function paintedProtection(state: ProtectionState, style: Style): string {
  switch (state) {
    case ProtectionState.ACTIVE:
      return style.green("active");
    case ProtectionState.DEGRADED:
      return style.red("degraded");
    case ProtectionState.DISABLED:
      return style.yellow("disabled");
    default:
      return "unknown";
  }
}

export interface KillOptions extends ServiceOptions {
  readonly signal?: string;
  readonly grace: string;
}

export async function kill(sandboxId: string, options: KillOptions): Promise<void> {
  const signal = options.signal === undefined ? undefined : parseSignal(options.signal);
  const graceMs = parseDurationMs(options.grace);
  await withConnection(connectTo(options.address), async ({ client }) => {
    const requestId = randomUUID();
    if (signal !== undefined) {
      await client.sandbox.signalProcess({ requestId, sandboxId, signal, scope: SignalScope.SANDBOX });
      return;
    }
    await client.sandbox.stopSandbox({ requestId, sandboxId, grace: durationFromMs(graceMs) });
  });
}
