/** Builds the whole service: engine, registry, decisions, journal, gRPC. The only place that knows all parts. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Logger } from "pino";
import { systemClock } from "../base/clock.js";
import { HOLDABLE } from "../engine/bpf/filter.js";
import { CheckpointService } from "../gen/sandgate/v1/checkpoint_pb.js";
import { DecisionService } from "../gen/sandgate/v1/decision_pb.js";
import { SandboxService } from "../gen/sandgate/v1/sandbox_pb.js";
import { StdioService } from "../gen/sandgate/v1/stdio_pb.js";
import { WatchService } from "../gen/sandgate/v1/watch_pb.js";
import { WorkdirService } from "../gen/sandgate/v1/workdir_pb.js";
import { createChannels } from "../native/channel.js";
import { createDescriptors } from "../native/descriptors.js";
import { loadLibrary } from "../native/library.js";
import { createProbe } from "../native/probe.js";
import { createHoldRegistry, defaultHoldLimits } from "../sandbox/decisions/registry.js";
import { type EngineClient, startEngine } from "../sandbox/engine/client.js";
import { type Host, probeHost } from "../sandbox/host.js";
import { createJournal } from "../sandbox/journal/journal.js";
import { createPlanCompiler, planHeader } from "../sandbox/launch/plan.js";
import type { DomainEvent, EventBody, EventSink, HeldCall } from "../sandbox/model.js";
import { createNames } from "../sandbox/names/names.js";
import { createNameResolver, type ResolverOptions } from "../sandbox/names/resolver.js";
import type { AutomaticSettlement, HoldEngine, ProcessStreams } from "../sandbox/ports.js";
import { createRegistry, type Principal, type Registry } from "../sandbox/registry.js";
import { createStreams } from "../sandbox/stdio/streams.js";
import { type BoundService, bindService } from "./bridge.js";
import { createCallEncoder } from "./convert/call-encoder.js";
import type { SpecDefaults } from "./convert/spec.js";
import { createDecisionService } from "./decision-service.js";
import { type EventFileOptions, openEventFile } from "./event-file.js";
import { createIdempotency } from "./idempotency.js";
import { createMetrics, type Metrics, tee } from "./metrics.js";
import { type MetricsEndpoint, openMetricsEndpoint } from "./metrics-endpoint.js";
import { observeWith } from "./observe.js";
import { createSandboxService } from "./sandbox-service.js";
import { createServer, maxMessageBytes, type TcpListenOptions, type UnixListenOptions } from "./server.js";
import { bindServerService, type ServerFacts } from "./server-service.js";
import { createStdioService } from "./stdio-service.js";
import type { TcpAddress } from "./tcp.js";
import { startTracing } from "./tracing.js";
import { bindUnimplemented } from "./unimplemented.js";
import { createWatchService } from "./watch-service.js";

export interface ServiceOptions {
  readonly log: Logger;
  /** Sandboxes that one tenant may have, ended ones that are still kept included. */
  readonly maxSandboxes?: number;
  /** Events kept for late watchers. */
  readonly journalEvents?: number;
  /** Where every event is written too; undefined: nowhere. */
  readonly eventFile?: EventFileOptions;
  /** Whether figures are kept for `listenMetrics`. */
  readonly metrics?: boolean;
  /** Whether spans are sent where OpenTelemetry's standard environment variables say; without them, none are made. */
  readonly tracing?: boolean;
  /** How long the engine polls before it sleeps while calls keep coming, in microseconds. */
  readonly spinUs?: number;
  /** How names in network rules are looked up, where not as the host does. */
  readonly names?: ResolverOptions;
  /** Called when the engine or the warden ended: every sandbox is gone, and the service should be too. */
  readonly onFailed?: (error: Error) => void;
}

export interface Service {
  readonly host: Host;
  /** Process id of the warden, and this process's; what the service costs beside the sandboxes. */
  readonly wardenPid: number;
  /** Resolves with the address for clients. */
  listenUnix(path: string, options?: UnixListenOptions): Promise<string>;
  listenTcp(options: TcpListenOptions): Promise<string>;
  /** Serves the figures to Prometheus, at /metrics of the address that it resolves with. */
  listenMetrics(at: TcpAddress): Promise<string>;
  /** Ends streams, stops sandboxes with this grace, and frees everything. */
  close(graceMs: number): Promise<void>;
}

const REQUEST_RETENTION_MS = 10 * 60_000;
const REQUESTS_KEPT = 16_384;
const JOURNAL_EVENTS = 65_536;
const MAX_SANDBOXES = 8192;
/** Longest that a disk, and who collects spans, is waited for at the end. */
const CLOSE_MS = 5000;

const DEFAULTS: SpecDefaults = {
  verdictTimeoutMs: 30_000,
  maxHoldMs: 5 * 60_000,
  maxHeld: 1024,
  retainAfterExitMs: 5 * 60_000,
  maxOutputBytes: 1 << 20,
};

function packageVersion(): string {
  const file = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  return (JSON.parse(file) as { version: string }).version;
}

/** Starts the engine and the warden, and builds the services; nothing listens yet. */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { log, onFailed } = options;
  const epoch = randomUUID();
  const library = loadLibrary();
  const channels = createChannels(library);
  const descriptors = createDescriptors();
  const host = probeHost(createProbe(library));
  const maxSandboxes = options.maxSandboxes ?? MAX_SANDBOXES;
  const journalEvents = options.journalEvents ?? JOURNAL_EVENTS;
  /** TCP ports of our own, which no sandbox may reach. */
  const ownPorts: number[] = [];
  /** Likewise the paths of Unix sockets. */
  const ownSockets: string[] = [];
  /** Calls that wait for a verdict, to know whose a verdict is. */
  const heldIn = new Map<number, string>();

  const journal = createJournal({
    epoch,
    maxEvents: journalEvents,
    snapshot: (tenant) => registry.list({ tenant, identity: "" }),
  });

  const tracing = options.tracing === true ? await startTracing(process.env, log) : undefined;
  // Before there is anything to clean up, since it may not be possible.
  const eventFile = options.eventFile && (await openEventFile(journal, log, options.eventFile));

  const metrics: Metrics | undefined =
    options.metrics === true
      ? createMetrics({
          sandboxes: () => registry.states(),
          holds: () => holds.totals(),
          journal: journal.counts,
          eventFile: () => eventFile?.counts(),
        })
      : undefined;
  const observers = [metrics, tracing].filter((each) => each !== undefined);
  const events: EventSink =
    observers.length === 0 ? journal : tee([journal, ...observers.map((observer) => observer.events)]);

  const holdEngine: HoldEngine = {
    settle(holdId, settlement) {
      const sandboxId = heldIn.get(holdId);
      heldIn.delete(holdId);
      if (settlement.kind === "kill" && sandboxId !== undefined) registry.killedByVerdict(sandboxId);
      engine.settle(holdId, settlement);
    },
    addGrant(grant) {
      const launchId = registry.launchIdOf(grant.sandboxId);
      if (launchId !== undefined) engine.addGrant(launchId, grant);
    },
    removeGrant(sandboxId, grantId) {
      const launchId = registry.launchIdOf(sandboxId);
      if (launchId !== undefined) engine.removeGrant(launchId, grantId);
    },
  };
  const holds = createHoldRegistry({ engine: holdEngine, events });

  function eventAbout(call: HeldCall, body: EventBody): DomainEvent {
    const { sandboxId, task } = call;
    return { timeMs: Date.now(), sandboxId, ...registry.context(sandboxId), task, body };
  }

  function recordAutomatic({ call, settlement, source, sourceName }: AutomaticSettlement): void {
    if (settlement.kind === "kill") registry.killedByVerdict(call.sandboxId);
    journal.append(
      eventAbout(call, { kind: "call_settled", call, settlement, source, sourceName, reason: "", heldMs: 0 }),
    );
  }

  const engine: EngineClient = await startEngine({
    channels,
    planHeader,
    spinUs: options.spinUs ?? 0,
    countSettled: metrics !== undefined,
    events: {
      exited: (launchId, exit) => registry.exited(launchId, exit),
      gone: (launchId) => registry.gone(launchId),
      held(call) {
        heldIn.set(call.holdId, call.sandboxId);
        holds.held(call);
      },
      holdGone(holdId) {
        heldIn.delete(holdId);
        holds.gone(holdId);
      },
      automatic: recordAutomatic,
      recordsLost(sandboxId, count) {
        journal.lost({ sandboxId, ...registry.context(sandboxId), kind: "call_settled", count });
      },
      settled: (source, outcome, count) => metrics?.settled(source, outcome, count),
      grantUsed: (grantId, uses) => holds.grantUsed(grantId, uses),
      grantEnded: (grantId) => holds.grantEnded(grantId),
      limited: (launchId, limit) => registry.limited(launchId, limit),
      lost(launchId, message) {
        log.error({ launchId, message }, "a sandbox was lost and is killed");
        registry.lost(launchId, message);
      },
      error: (sandboxId, message, stack) => log.error({ sandboxId, stack }, `a held call was refused: ${message}`),
      failed(error) {
        log.fatal({ err: error }, "the engine failed; every sandbox is being killed");
        registry.failed(error);
        onFailed?.(error);
      },
    },
  });

  const names = createNames(createNameResolver(options.names), systemClock);
  const registry = createRegistry({
    engine,
    names,
    compiler: createPlanCompiler(host.features, { ports: () => ownPorts, sockets: () => ownSockets }),
    holds,
    events,
    createStreams: (process, spec, allowance) =>
      createStreams(process, { maxOutputBytes: spec.journal.maxOutputBytes, allowance, fds: descriptors }),
    maxSandboxesPerTenant: maxSandboxes,
  });

  const idempotency = createIdempotency({ retentionMs: REQUEST_RETENTION_MS, capacity: REQUESTS_KEPT });
  const facts: ServerFacts = {
    version: packageVersion(),
    epoch,
    kernelRelease: host.features.kernelRelease,
    landlockAbi: host.features.landlockAbi,
    features: ["spawn", "run", "exec", "attach", "terminal", "decide", "grants", "watch", "pause"],
    protections: new Map(host.list.map(({ name, available }) => [name, available])),
    holdableSyscalls: HOLDABLE,
    host: host.list,
    limits: {
      maxMessageBytes,
      maxHoldMs: DEFAULTS.maxHoldMs,
      maxSandboxes,
      maxWindow: defaultHoldLimits.maxWindow,
      requestIdRetentionMs: REQUEST_RETENTION_MS,
      journalEvents,
    },
  };
  // Shared, so that a call is encoded once for deciders and watchers.
  const encoder = createCallEncoder();
  const services: readonly BoundService[] = [
    bindService(
      SandboxService,
      createSandboxService({
        registry: metrics === undefined ? registry : timed(registry, metrics),
        idempotency,
        defaults: DEFAULTS,
        cursor: () => journal.cursor(),
      }),
    ),
    bindService(DecisionService, createDecisionService({ decisions: holds, idempotency, encoder }), {
      openEnded: ["decide"],
    }),
    bindService(WatchService, createWatchService({ journal, encoder }), { openEnded: ["watch"] }),
    bindService(
      StdioService,
      createStdioService({
        lookup: {
          streams(tenant, sandboxId, processId) {
            const principal: Principal = { tenant, identity: "" };
            const { streams, info, ended } = registry.streams(principal, sandboxId, processId);
            return {
              streams,
              info,
              exit: ended,
              signalForeground(signal) {
                if (streams.signalForeground(signal)) return;
                // It may have ended just now: then there is nobody to signal.
                registry.signal(principal, sandboxId, processId, signal, "group").catch(() => undefined);
              },
            };
          },
        },
      }),
    ),
    bindServerService(facts),
    bindUnimplemented(CheckpointService),
    bindUnimplemented(WorkdirService),
  ];
  const endpoints: MetricsEndpoint[] = [];
  const server = createServer({
    services,
    observe: observeWith(observers.map(({ observeCall }) => observeCall)),
    report: (correlationId, error) => log.error({ correlationId, err: error }, "a call failed"),
    peerCredentials: (fd) => channels.peer(fd),
  });

  return {
    host,
    wardenPid: engine.wardenPid,
    async listenUnix(path, listenOptions) {
      const address = await server.listenUnix(path, listenOptions);
      ownSockets.push(path);
      return address;
    },
    async listenTcp(listenOptions) {
      const address = await server.listenTcp(listenOptions);
      ownPorts.push(portOf(address));
      return address;
    },
    async listenMetrics(at) {
      if (metrics === undefined) throw new Error("the service was started without metrics");
      const endpoint = await openMetricsEndpoint(metrics, at);
      endpoints.push(endpoint);
      ownPorts.push(portOf(endpoint.address));
      return endpoint.address;
    },
    async close(graceMs) {
      const drained = server.drain(graceMs);
      await registry.shutdown(graceMs);
      await drained;
      await engine.close();
      holds.dispose();
      await Promise.all(endpoints.map((endpoint) => endpoint.close()));
      await tracing?.close(CLOSE_MS);
      await eventFile?.close(CLOSE_MS);
    },
  };
}

/** Times the launches. */
function timed<Some extends Pick<Registry<ProcessStreams>, "spawn">>(registry: Some, metrics: Metrics): Some {
  const spawn: Some["spawn"] = async (...given) => {
    const from = performance.now();
    let hasStarted = false;
    try {
      const spawned = await registry.spawn(...given);
      hasStarted = true;
      return spawned;
    } finally {
      metrics.spawned((performance.now() - from) / 1000, hasStarted);
    }
  };
  return { ...registry, spawn };
}

function portOf(address: string): number {
  return Number(/\d+$/.exec(address)?.[0]);
}
