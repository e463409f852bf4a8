import { randomUUID } from "node:crypto";
import { systemClock } from "../base/clock.js";
import { SandboxError } from "../base/errors.js";
import type { EngineClient } from "./engine/client.js";
import type { CompiledLaunch, PlanCompiler } from "./launch/plan.js";
import type {
  DomainEvent,
  EndCause,
  EventBody,
  EventSink,
  ExitStatus,
  PlanSummary,
  ProcessInfo,
  ProcessSpec,
  SandboxInfo,
  SandboxSpec,
  SandboxState,
  SignalScope,
} from "./model.js";
import type { Names, NamesNow, SandboxNames } from "./names/names.js";
import type { NameTable } from "./policy/network.js";
import type { HoldIntake, ProcessStreams } from "./ports.js";
import type { OutputAllowance } from "./stdio/allowance.js";
import type { LaunchId, SandboxLimit, WaitStatus } from "./warden/messages.js";

/** Whose sandboxes, and who asks. */
export interface Principal {
  readonly tenant: string;
  readonly identity: string;
}

export interface SpawnInput {
  /** Empty: the registry chooses. */
  readonly sandboxId: string;
  readonly spec: SandboxSpec;
  readonly process: ProcessSpec;
  readonly awaitDecider: boolean;
  /** W3C trace context for its events, or empty. */
  readonly traceparent: string;
  /** Whether more processes can be started in it later. */
  readonly execs: boolean;
}

export interface Spawned {
  readonly sandbox: SandboxInfo;
  readonly warnings: readonly SandboxError[];
}

/** Every sandbox of the service, by tenant. Foreign and missing ids are the same refusal. */
export interface Registry<Streams extends ProcessStreams> {
  /** Checks everything that can be checked without starting anything. The sandbox has no id and no processes. */
  validate(principal: Principal, input: SpawnInput): Spawned;
  /** `prepare` gets the main process's streams before anything is started. */
  spawn(principal: Principal, input: SpawnInput, prepare?: (streams: Streams) => void): Promise<Spawned>;
  exec(principal: Principal, sandboxId: string, processId: string, process: ProcessSpec): Promise<ProcessInfo>;
  get(principal: Principal, sandboxId: string): SandboxInfo;
  /** Oldest first. */
  list(principal: Principal): SandboxInfo[];
  /** Resolves when the process has ended, at once if it has. */
  wait(principal: Principal, sandboxId: string, processId: string, signal: AbortSignal): Promise<ExitStatus>;
  /** Returns how many processes were signalled, as far as that is known. */
  signal(
    principal: Principal,
    sandboxId: string,
    processId: string,
    signal: number,
    scope: SignalScope,
  ): Promise<number>;
  /** SIGTERM to every member, SIGKILL after the grace. Resolves when nothing is left. */
  stop(principal: Principal, sandboxId: string, graceMs: number, cause?: EndCause): Promise<SandboxInfo>;
  pause(principal: Principal, sandboxId: string): Promise<SandboxInfo>;
  resume(principal: Principal, sandboxId: string): Promise<SandboxInfo>;
  /** Kills what runs and forgets the sandbox. False when there was nothing. */
  delete(principal: Principal, sandboxId: string): Promise<boolean>;
  streams(principal: Principal, sandboxId: string, processId: string): ProcessRecord<Streams>;
  /** Kills everything and refuses new sandboxes. */
  shutdown(graceMs: number): Promise<void>;
  /** From the engine. */
  exited(launchId: LaunchId, exit: WaitStatus): void;
  gone(launchId: LaunchId): void;
  lost(launchId: LaunchId, message: string): void;
  limited(launchId: LaunchId, limit: SandboxLimit): void;
  /** The engine is gone: everything is. */
  failed(error: Error): void;
  /** A verdict or rule killed members of the sandbox. */
  killedByVerdict(sandboxId: string): void;
  launchIdOf(sandboxId: string): LaunchId | undefined;
  /** Sandboxes of all tenants, by state. */
  states(): ReadonlyMap<SandboxState, number>;
  /** What every event about a sandbox says of it. */
  context(sandboxId: string): Required<Pick<DomainEvent, "tenant" | "labels" | "traceparent">>;
}

/** One started process: its streams and how it ended. */
export interface ProcessRecord<Streams extends ProcessStreams> {
  readonly processId: string;
  readonly streams: Streams;
  /** Resolves with its end. Never rejects. */
  readonly ended: Promise<ExitStatus>;
  info(): ProcessInfo;
}

interface MutableProcess<Streams extends ProcessStreams> extends ProcessRecord<Streams> {
  readonly launchId: LaunchId;
  readonly spec: ProcessSpec;
  readonly startTimeMs: number;
  pid: number;
  exit: ExitStatus | undefined;
  settle(exit: ExitStatus): void;
}

interface SandboxRecord<Streams extends ProcessStreams> {
  readonly sandboxId: string;
  readonly launchId: LaunchId;
  readonly principal: Principal;
  readonly traceparent: string;
  readonly spec: SandboxSpec;
  readonly compiled: CompiledLaunch;
  /** Undefined where its rules have none. */
  readonly names: SandboxNames | undefined;
  /** Undefined where its output has no limit. */
  readonly output: OutputAllowance | undefined;
  readonly createTimeMs: number;
  readonly execs: boolean;
  readonly processes: Map<string, MutableProcess<Streams>>;
  /** What cancels each pending timer. */
  readonly timers: Set<() => void>;
  plan: PlanSummary;
  state: SandboxState;
  endTimeMs: number | undefined;
  revision: number;
  endCause: EndCause | undefined;
  /** It was told that the sandbox uses its share of the processors. */
  shareTold: boolean;
  /** A client paused it, or is about to have. */
  isToPause: boolean;
  /** Resolves when nothing is left. */
  readonly gone: Promise<void>;
  settleGone(): void;
}

export interface RegistryOptions<Streams extends ProcessStreams> {
  readonly engine: EngineClient;
  readonly compiler: PlanCompiler;
  readonly names: Names;
  readonly holds: HoldIntake;
  readonly events: EventSink;
  readonly createStreams: (process: ProcessSpec, spec: SandboxSpec, allowance: OutputAllowance | undefined) => Streams;
  readonly maxSandboxesPerTenant: number;
}

/** The parts of a sandbox that say what runs, where nothing does. */
const NOTHING_STARTED = {
  sandboxId: "",
  state: "created",
  etag: "",
  createTimeMs: 0,
  endTimeMs: undefined,
  processes: [],
  heldCalls: 0,
  deciders: 0,
  usage: { cpuTimeMs: 0, peakMemoryBytes: 0, processes: 0, heldCalls: 0, heldTimeMs: 0 },
} as const;

function ownerOf({ identity, tenant }: Principal): Pick<SandboxInfo, "owner" | "tenant"> {
  return { owner: identity, tenant };
}

const AHEAD = "from now on its processes are stopped whenever they are ahead of their share";
const KILLED = "the sandbox was killed";
const LIMITS_REACHED: Readonly<Record<SandboxLimit, { readonly limit: string; readonly action: string }>> = {
  memory: { limit: "limits.memory_bytes", action: KILLED },
  cpu_time: { limit: "limits.cpu_time", action: KILLED },
  unseen: { limit: "limits", action: `${KILLED}: whether it keeps to its limits could not be seen any more` },
  tasks: { limit: "limits.processes", action: KILLED },
  share_used: { limit: "limits.cpu_millis", action: AHEAD },
  share_free: { limit: "limits.cpu_millis", action: AHEAD },
  tasks_full: { limit: "limits.processes", action: "new processes and threads are refused with EAGAIN" },
};

function allowanceOf({ limits }: SandboxSpec, onExceeded: () => void): OutputAllowance | undefined {
  if (limits.outputBytes === 0n) return undefined;
  return { left: Number(limits.outputBytes), exceeded: false, onExceeded };
}

const MAIN = "main";
const NO_NAMES: NameTable = new Map();
/** Among the files that a sandbox is shown: it is the only one. */
const HOSTS_INDEX = 0;
const SIGTERM = 15;
const SIGKILL = 9;
const SIGSTOP = 19;
const SIGCONT = 18;

export function createRegistry<Streams extends ProcessStreams>(options: RegistryOptions<Streams>): Registry<Streams> {
  const { engine, compiler, names, holds, events, createStreams, maxSandboxesPerTenant } = options;
  const byKey = new Map<string, SandboxRecord<Streams>>();
  const bySandboxLaunch = new Map<LaunchId, SandboxRecord<Streams>>();
  const byProcessLaunch = new Map<
    LaunchId,
    { readonly sandbox: SandboxRecord<Streams>; readonly process: MutableProcess<Streams> }
  >();
  const bySandboxId = new Map<string, SandboxRecord<Streams>>();
  const perTenant = new Map<string, number>();
  let draining = false;

  const keyOf = (tenant: string, sandboxId: string): string => `${tenant}\0${sandboxId}`;

  function emit(record: SandboxRecord<Streams>, body: EventBody): void {
    const event: DomainEvent = {
      timeMs: Date.now(),
      sandboxId: record.sandboxId,
      tenant: record.principal.tenant,
      labels: record.spec.labels,
      task: undefined,
      traceparent: record.traceparent,
      body,
    };
    events.append(event);
  }

  function setState(record: SandboxRecord<Streams>, state: SandboxState): void {
    if (record.state === state) return;
    const previous = record.state;
    record.state = state;
    record.revision++;
    if (state === "ended" || state === "lost") record.endTimeMs = Date.now();
    emit(record, { kind: "sandbox_changed", sandbox: snapshot(record), previous });
  }

  function snapshot(record: SandboxRecord<Streams>): SandboxInfo {
    const counts = holds.counts(record.sandboxId);
    const processes = [...record.processes.values()].map((process) => process.info());
    return {
      sandboxId: record.sandboxId,
      state: record.state,
      spec: record.spec,
      etag: `${record.revision}`,
      createTimeMs: record.createTimeMs,
      endTimeMs: record.endTimeMs,
      processes,
      protections: record.compiled.protections,
      heldCalls: counts.held,
      deciders: counts.deciders,
      usage: {
        cpuTimeMs: processes.reduce((sum, { exit }) => sum + (exit?.cpuTimeMs ?? 0), 0),
        peakMemoryBytes: Math.max(0, ...processes.map(({ exit }) => exit?.peakMemoryBytes ?? 0)),
        processes: processes.filter(({ exit }) => exit === undefined).length,
        heldCalls: counts.heldTotal,
        heldTimeMs: counts.heldTimeMs,
      },
      ...ownerOf(record.principal),
      plan: record.plan,
    };
  }

  function find(principal: Principal, sandboxId: string): SandboxRecord<Streams> {
    const record = byKey.get(keyOf(principal.tenant, sandboxId));
    if (record === undefined) {
      throw new SandboxError("not_found", `there is no sandbox ${JSON.stringify(sandboxId)}`, {
        reason: "SANDBOX_NOT_FOUND",
        field: "sandbox_id",
        metadata: { sandbox_id: sandboxId },
      });
    }
    return record;
  }

  function findProcess(record: SandboxRecord<Streams>, processId: string): MutableProcess<Streams> {
    const process = record.processes.get(processId === "" ? MAIN : processId);
    if (process === undefined) {
      throw new SandboxError("not_found", `sandbox ${record.sandboxId} has no process ${JSON.stringify(processId)}`, {
        reason: "PROCESS_NOT_FOUND",
        field: "process_id",
        metadata: { sandbox_id: record.sandboxId, process_id: processId },
      });
    }
    return process;
  }

  function requireLive(record: SandboxRecord<Streams>, states: readonly SandboxState[]): void {
    if (states.includes(record.state)) return;
    throw new SandboxError(
      "failed_precondition",
      `sandbox ${record.sandboxId} is ${record.state}; this needs ${states.join(" or ")}`,
      {
        reason: "WRONG_STATE",
        metadata: { sandbox_id: record.sandboxId, state: record.state },
      },
    );
  }

  /** Signals every member, or throws because the sandbox has ended. */
  async function signalPresent(record: SandboxRecord<Streams>, signal: number): Promise<void> {
    if (await engine.signalAll(record.launchId, signal)) return;
    await record.gone;
    requireLive(record, ["running", "paused"]);
  }

  function newProcess(
    processId: string,
    launchId: LaunchId,
    spec: ProcessSpec,
    streams: Streams,
  ): MutableProcess<Streams> {
    let settle: (exit: ExitStatus) => void = () => undefined;
    const ended = new Promise<ExitStatus>((resolve) => {
      settle = resolve;
    });
    const process: MutableProcess<Streams> = {
      processId,
      launchId,
      spec,
      streams,
      startTimeMs: Date.now(),
      pid: 0,
      exit: undefined,
      ended,
      settle(exit) {
        if (process.exit !== undefined) return;
        process.exit = exit;
        settle(exit);
      },
      info: () => ({ processId, pid: process.pid, spec, startTimeMs: process.startTimeMs, exit: process.exit }),
    };
    return process;
  }

  function notStarted(error: SandboxError, cause: EndCause): ExitStatus {
    return { result: { kind: "not_started", error }, cause, endTimeMs: Date.now(), cpuTimeMs: 0, peakMemoryBytes: 0 };
  }

  function after(record: SandboxRecord<Streams>, ms: number, act: () => void): void {
    if (ms <= 0) return;
    const cancel = systemClock.after(ms, () => {
      record.timers.delete(cancel);
      act();
    });
    record.timers.add(cancel);
  }

  function clearTimers(record: SandboxRecord<Streams>): void {
    for (const cancel of record.timers) cancel();
    record.timers.clear();
  }

  /** Forgets a sandbox: its id is free again. */
  function forget(record: SandboxRecord<Streams>): void {
    if (byKey.get(keyOf(record.principal.tenant, record.sandboxId)) !== record) return;
    byKey.delete(keyOf(record.principal.tenant, record.sandboxId));
    bySandboxId.delete(record.sandboxId);
    clearTimers(record);
    for (const process of record.processes.values()) process.streams.dispose();
    const left = (perTenant.get(record.principal.tenant) ?? 1) - 1;
    if (left === 0) perTenant.delete(record.principal.tenant);
    else perTenant.set(record.principal.tenant, left);
  }

  /** Nothing of the sandbox is left. */
  function conclude(record: SandboxRecord<Streams>, state: "ended" | "lost"): void {
    bySandboxLaunch.delete(record.launchId);
    clearTimers(record);
    for (const process of record.processes.values()) {
      byProcessLaunch.delete(process.launchId);
      process.settle({
        result: { kind: "signal", signal: SIGKILL },
        cause: record.endCause ?? "service",
        endTimeMs: Date.now(),
        cpuTimeMs: 0,
        peakMemoryBytes: 0,
      });
      process.streams.sandboxGone();
    }
    holds.sandboxEnded(record.sandboxId);
    setState(record, state);
    record.settleGone();
    // What a Run made is forgotten by that, once its output was delivered.
    if (!record.execs) return;
    const { retainAfterExitMs } = record.spec.lifetime;
    if (retainAfterExitMs === 0) forget(record);
    else after(record, retainAfterExitMs, () => forget(record));
  }

  function outputExceeded(record: SandboxRecord<Streams>): void {
    emit(record, { kind: "limit_reached", limit: "limits.output_bytes", action: KILLED });
    record.endCause ??= "limit";
    if (bySandboxLaunch.has(record.launchId)) engine.kill(record.launchId);
  }

  function causeOf(record: SandboxRecord<Streams>): EndCause {
    return record.endCause ?? "self";
  }

  async function start(record: SandboxRecord<Streams>, process: MutableProcess<Streams>): Promise<void> {
    const { launchId, sandboxId } = record;
    const pinned = record.names === undefined ? undefined : await pinNames(record, record.names);
    const compiled =
      pinned === undefined
        ? record.compiled
        : compiler.compileLaunch(record.spec, process.spec, { nursery: record.execs, hosts: pinned.hosts });
    bySandboxLaunch.set(launchId, record);
    byProcessLaunch.set(launchId, { sandbox: record, process });
    try {
      await engine.launch({
        launchId,
        sandboxId,
        processId: MAIN,
        policy: compiled.engine,
        names: pinned?.table ?? NO_NAMES,
        // Whoever asked for a single process waits for its end.
        startMayWait: !record.execs,
        plan: compiler.encodePlan(compiled, BigInt(launchId), BigInt(launchId)),
        fds: process.streams.childFds,
        onSent: () => process.streams.launched(),
        onStarted({ pid, stages }) {
          process.pid = pid;
          record.plan = { ...compiled.summary, stages };
          emitStarted(record, process);
          if (record.state === "created") setState(record, "running");
          after(record, record.spec.lifetime.maxDurationMs, () => {
            emit(record, { kind: "limit_reached", limit: "lifetime.max_duration", action: "the sandbox was killed" });
            record.endCause ??= "limit";
            engine.kill(launchId);
          });
        },
      });
    } catch (error) {
      bySandboxLaunch.delete(launchId);
      byProcessLaunch.delete(launchId);
      throw error;
    }
  }

  /** Resolves the names in its rules, which takes a moment: it may have been stopped meanwhile. */
  async function pinNames(record: SandboxRecord<Streams>, own: SandboxNames): Promise<NamesNow> {
    const now = await own.pin(({ table, hosts }) => {
      engine.setNames(record.launchId, table);
      engine.showFile(record.launchId, HOSTS_INDEX, hosts);
    });
    if (record.state === "created") return now;
    throw new SandboxError("cancelled", "the sandbox was stopped before its program started", {
      reason: "WRONG_STATE",
    });
  }

  function emitStarted(record: SandboxRecord<Streams>, process: MutableProcess<Streams>): void {
    const argv = process.spec.argv.map((argument) => Uint8Array.from(Buffer.from(argument)));
    const [program = new Uint8Array(0)] = argv;
    emit(record, { kind: "process_started", processId: process.processId, program, argv });
  }

  /** Starts a sandbox once a decider is connected, or as the no-decider policy says. */
  async function startWithDecider(record: SandboxRecord<Streams>, process: MutableProcess<Streams>): Promise<void> {
    const { graceMs, fallback } = record.spec.holds.onNoDecider;
    const grace = new AbortController();
    const cancelGrace = systemClock.after(graceMs, () => grace.abort());
    void record.gone.then(() => grace.abort());
    const decided = await holds.whenDecider(record.sandboxId, grace.signal).then(
      () => true,
      () => false,
    );
    cancelGrace();
    if (record.state !== "created") return;
    if (!decided && fallback.kind !== "static_policy") {
      const error = new SandboxError(
        "failed_precondition",
        "no decider was connected in time, so the program was not started",
        {
          reason: "WRONG_STATE",
        },
      );
      process.settle(notStarted(error, "service"));
      conclude(record, "ended");
      return;
    }
    try {
      await start(record, process);
    } catch (error) {
      const known =
        error instanceof SandboxError
          ? error
          : new SandboxError("internal", "the program could not be started", { cause: error });
      process.settle(notStarted(known, "service"));
      conclude(record, "ended");
    }
  }

  async function killAndWait(record: SandboxRecord<Streams>, cause: EndCause): Promise<void> {
    if (record.state === "ended" || record.state === "lost") return;
    record.endCause ??= cause;
    if (record.state === "created" && !bySandboxLaunch.has(record.launchId)) {
      const error = new SandboxError("cancelled", "the sandbox was stopped before its program started", {
        reason: "WRONG_STATE",
      });
      record.processes.get(MAIN)?.settle(notStarted(error, cause));
      conclude(record, "ended");
      return;
    }
    engine.kill(record.launchId);
    await record.gone;
  }

  return {
    validate(principal, input) {
      const { spec } = input;
      const { protections, summary, warnings } = compiler.compileLaunch(spec, input.process, { nursery: input.execs });
      return { sandbox: { ...NOTHING_STARTED, spec, protections, plan: summary, ...ownerOf(principal) }, warnings };
    },

    async spawn(principal, input, prepare) {
      if (draining) throw new SandboxError("unavailable", "the service is shutting down", { reason: "DRAINING" });
      const sandboxId = input.sandboxId === "" ? randomUUID() : input.sandboxId;
      if (byKey.has(keyOf(principal.tenant, sandboxId)) || bySandboxId.has(sandboxId)) {
        throw new SandboxError("already_exists", `there is a sandbox ${sandboxId} already`, {
          reason: "SANDBOX_EXISTS",
          field: "sandbox_id",
          metadata: { sandbox_id: sandboxId },
        });
      }
      const count = perTenant.get(principal.tenant) ?? 0;
      if (count >= maxSandboxesPerTenant) {
        throw new SandboxError("resource_exhausted", `the tenant has ${count} sandboxes, which is its limit`, {
          reason: "QUOTA_EXHAUSTED",
          metadata: { limit: `${maxSandboxesPerTenant}` },
        });
      }
      const launchId = engine.newLaunchId();
      const own = names.of(input.spec);
      const compiled = compiler.compileLaunch(input.spec, input.process, { nursery: input.execs });
      let settleGone: () => void = () => undefined;
      const gone = new Promise<void>((resolve) => {
        settleGone = resolve;
      });
      const record: SandboxRecord<Streams> = {
        sandboxId,
        launchId,
        principal,
        traceparent: input.traceparent,
        spec: input.spec,
        compiled,
        names: own,
        output: allowanceOf(input.spec, () => outputExceeded(record)),
        createTimeMs: Date.now(),
        execs: input.execs,
        processes: new Map(),
        timers: new Set(own === undefined ? [] : [own.close]),
        plan: compiled.summary,
        state: "created",
        endTimeMs: undefined,
        revision: 1,
        endCause: undefined,
        shareTold: false,
        isToPause: false,
        gone,
        settleGone,
      };
      const process = newProcess(
        MAIN,
        launchId,
        input.process,
        createStreams(input.process, input.spec, record.output),
      );
      prepare?.(process.streams);
      record.processes.set(MAIN, process);
      byKey.set(keyOf(principal.tenant, sandboxId), record);
      bySandboxId.set(sandboxId, record);
      perTenant.set(principal.tenant, count + 1);
      // The warden works while this thread keeps its books; what it tells comes in a later turn.
      const starting = input.awaitDecider ? undefined : start(record, process);
      holds.sandboxCreated({
        sandboxId,
        tenant: principal.tenant,
        labels: input.spec.labels,
        traceparent: input.traceparent,
        policy: input.spec.holds,
      });
      emit(record, { kind: "sandbox_changed", sandbox: snapshot(record), previous: undefined });
      if (starting === undefined) {
        void startWithDecider(record, process);
        return { sandbox: snapshot(record), warnings: compiled.warnings };
      }
      try {
        await starting;
      } catch (error) {
        holds.sandboxEnded(sandboxId);
        setState(record, "ended");
        record.settleGone();
        forget(record);
        throw error;
      }
      return { sandbox: snapshot(record), warnings: compiled.warnings };
    },

    async exec(principal, sandboxId, processId, spec) {
      const record = find(principal, sandboxId);
      requireLive(record, ["running"]);
      if (!record.execs) {
        throw new SandboxError(
          "failed_precondition",
          `sandbox ${sandboxId} was made by Run, which starts one process only`,
          {
            reason: "WRONG_STATE",
          },
        );
      }
      const id = processId === "" ? randomUUID() : processId;
      if (record.processes.has(id)) {
        throw new SandboxError("already_exists", `sandbox ${sandboxId} has a process ${id} already`, {
          reason: "SANDBOX_EXISTS",
          field: "process_id",
          metadata: { process_id: id },
        });
      }
      const launchId = engine.newLaunchId();
      const plan = compiler.encodeExec(spec, BigInt(launchId), BigInt(record.launchId));
      const process = newProcess(id, launchId, spec, createStreams(spec, record.spec, record.output));
      record.processes.set(id, process);
      byProcessLaunch.set(launchId, { sandbox: record, process });
      try {
        await engine.exec({
          launchId,
          sandboxLaunchId: record.launchId,
          processId: id,
          plan,
          fds: process.streams.childFds,
          onSent: () => process.streams.launched(),
          onStarted({ pid }) {
            process.pid = pid;
            emitStarted(record, process);
          },
        });
      } catch (error) {
        record.processes.delete(id);
        byProcessLaunch.delete(launchId);
        process.streams.dispose();
        throw error;
      }
      return process.info();
    },

    get: (principal, sandboxId) => snapshot(find(principal, sandboxId)),

    list: (principal) =>
      [...byKey.values()].filter((record) => record.principal.tenant === principal.tenant).map(snapshot),

    wait(principal, sandboxId, processId, signal) {
      const { ended } = findProcess(find(principal, sandboxId), processId);
      return new Promise((resolve, reject) => {
        const onAbort = (): void => reject(signal.reason);
        if (signal.aborted) {
          onAbort();
          return;
        }
        signal.addEventListener("abort", onAbort, { once: true });
        void ended.then((exit) => {
          signal.removeEventListener("abort", onAbort);
          resolve(exit);
        });
      });
    },

    async signal(principal, sandboxId, processId, signal, scope) {
      const record = find(principal, sandboxId);
      requireLive(record, ["running", "paused", "stopping"]);
      if (scope === "sandbox") {
        if (signal === SIGKILL) record.endCause ??= "client";
        // Where the sandbox ended meanwhile the signal came too late, as it may for any process.
        await engine.signalAll(record.launchId, signal);
        return [...record.processes.values()].filter((process) => process.exit === undefined).length;
      }
      const process = findProcess(record, processId);
      if (process.exit !== undefined) return 0;
      if (process.processId === MAIN) record.endCause ??= "client";
      engine.signal(process.launchId, signal, scope);
      return 1;
    },

    async stop(principal, sandboxId, graceMs, cause = "client") {
      const record = find(principal, sandboxId);
      if (record.state === "ended" || record.state === "lost") return snapshot(record);
      record.endCause ??= cause;
      if (graceMs > 0 && (record.state === "running" || record.state === "paused")) {
        const wasPaused = record.state === "paused";
        record.isToPause = false;
        setState(record, "stopping");
        holds.paused(sandboxId, false);
        await engine.signalAll(record.launchId, SIGTERM).catch(() => undefined);
        if (wasPaused) await engine.signalAll(record.launchId, SIGCONT).catch(() => undefined);
        let cancel: (() => void) | undefined;
        await Promise.race([
          record.gone,
          new Promise<void>((resolve) => {
            cancel = systemClock.after(graceMs, resolve);
          }),
        ]);
        cancel?.();
      }
      await killAndWait(record, cause);
      return snapshot(record);
    },

    async pause(principal, sandboxId) {
      const record = find(principal, sandboxId);
      requireLive(record, ["running", "paused"]);
      if (record.state === "running") {
        record.isToPause = true;
        await signalPresent(record, SIGSTOP);
        // It may have ended while the signal was under way.
        if (record.state === "running") {
          holds.paused(sandboxId, true);
          setState(record, "paused");
        }
      }
      return snapshot(record);
    },

    async resume(principal, sandboxId) {
      const record = find(principal, sandboxId);
      requireLive(record, ["running", "paused"]);
      if (record.state === "paused") {
        record.isToPause = false;
        await signalPresent(record, SIGCONT);
        if (record.state === "paused") {
          holds.paused(sandboxId, false);
          setState(record, "running");
        }
      }
      return snapshot(record);
    },

    async delete(principal, sandboxId) {
      const record = byKey.get(keyOf(principal.tenant, sandboxId));
      if (record === undefined) return false;
      await killAndWait(record, "client");
      forget(record);
      return true;
    },

    streams: (principal, sandboxId, processId) => findProcess(find(principal, sandboxId), processId),

    async shutdown(graceMs) {
      draining = true;
      const live = [...byKey.values()].filter((record) => record.state !== "ended" && record.state !== "lost");
      await Promise.all(live.map((record) => this.stop(record.principal, record.sandboxId, graceMs, "service")));
    },

    exited(launchId, exit) {
      const found = byProcessLaunch.get(launchId);
      if (found === undefined) return;
      const { sandbox: record, process } = found;
      byProcessLaunch.delete(launchId);
      // What it wrote last may be beyond the limit, which then is the cause.
      process.streams.exited();
      const status: ExitStatus = {
        result: exit.result,
        cause: process.processId === MAIN || exit.result.kind === "signal" ? causeOf(record) : "self",
        endTimeMs: exit.timeMs,
        cpuTimeMs: exit.cpuTimeMs,
        peakMemoryBytes: exit.peakMemoryBytes,
      };
      process.settle(status);
      emit(record, { kind: "process_ended", processId: process.processId, exit: status, managed: true });
    },

    gone(launchId) {
      const record = bySandboxLaunch.get(launchId);
      if (record !== undefined) conclude(record, "ended");
    },

    limited(launchId, limit) {
      const record = bySandboxLaunch.get(launchId);
      if (record === undefined) return;
      if (limit === "share_used" || limit === "share_free") {
        const isTold = record.shareTold;
        record.shareTold = true;
        if (!isTold) emit(record, { kind: "limit_reached", ...LIMITS_REACHED[limit] });
        // What the client has paused stays so.
        if (limit === "share_free" && record.isToPause) return;
        void engine.signalAll(launchId, limit === "share_used" ? SIGSTOP : SIGCONT).catch(() => undefined);
        return;
      }
      emit(record, { kind: "limit_reached", ...LIMITS_REACHED[limit] });
      if (limit !== "tasks_full") record.endCause ??= "limit";
    },

    lost(launchId) {
      const record = bySandboxLaunch.get(launchId);
      if (record === undefined) return;
      record.endCause ??= "service";
      engine.kill(launchId);
    },

    failed() {
      draining = true;
      for (const record of [...bySandboxLaunch.values()]) {
        record.endCause = "service";
        conclude(record, "lost");
      }
    },

    killedByVerdict(sandboxId) {
      const record = bySandboxId.get(sandboxId);
      if (record !== undefined) record.endCause ??= "verdict";
    },

    states() {
      const counts = new Map<SandboxState, number>();
      for (const { state } of byKey.values()) counts.set(state, (counts.get(state) ?? 0) + 1);
      return counts;
    },

    launchIdOf: (sandboxId) => bySandboxId.get(sandboxId)?.launchId,

    context(sandboxId) {
      const record = bySandboxId.get(sandboxId);
      const { principal, spec, traceparent = "" } = record ?? {};
      return { tenant: principal?.tenant ?? "", labels: spec?.labels ?? new Map(), traceparent };
    },
  };
}
