import { status } from "@grpc/grpc-js";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { HoldTotals } from "../sandbox/decisions/registry.js";
import type { JournalCounts } from "../sandbox/journal/journal.js";
import type { DomainEvent, EventSink, SandboxState, Settlement, VerdictSource } from "../sandbox/model.js";
import type { EventFileCounts } from "./event-file.js";
import type { ObserveCall } from "./observe.js";

/** What is looked at whenever the metrics are read. */
export interface MetricsSources {
  sandboxes(): ReadonlyMap<SandboxState, number>;
  holds(): HoldTotals;
  journal(): JournalCounts;
  /** Undefined where events go to no file. */
  eventFile(): EventFileCounts | undefined;
}

/** The service's figures, for Prometheus. */
export interface Metrics {
  /** Every event but those of calls that the engine settled by itself. */
  readonly events: EventSink;
  readonly observeCall: ObserveCall;
  /** Calls that the engine settled by itself. */
  settled(source: VerdictSource, outcome: Settlement["kind"], count: number): void;
  /** A sandbox was to be started. */
  spawned(seconds: number, hasStarted: boolean): void;
  /** In the text format of Prometheus. */
  text(): Promise<string>;
  readonly contentType: string;
}

/** 50 µs to 5 minutes: from an answer without a question to a person who was asked. */
const heldBuckets = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 30, 60, 300];
const callBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30];

export function createMetrics(sources: MetricsSources): Metrics {
  // Its own, so that two services in one process keep their figures apart.
  const registry = new Registry();
  const registers = [registry];

  const settled = new Counter({
    name: "sandgate_calls_settled_total",
    help: "Mediated system calls, by who settled them and how",
    labelNames: ["source", "outcome"],
    registers,
  });
  const held = new Histogram({
    name: "sandgate_held_call_seconds",
    help: "Time that held calls waited, by who settled them",
    labelNames: ["source"],
    buckets: heldBuckets,
    registers,
  });
  const events = new Counter({
    name: "sandgate_events_total",
    help: "Events, by kind, but for calls that were settled without being held",
    labelNames: ["kind"],
    registers,
  });
  const limits = new Counter({
    name: "sandgate_limits_reached_total",
    help: "Limits reached, by the limit",
    labelNames: ["limit"],
    registers,
  });
  const spawns = new Histogram({
    name: "sandgate_spawn_seconds",
    help: "Launches of sandboxes, by whether the program started",
    labelNames: ["result"],
    buckets: callBuckets,
    registers,
  });
  const rpcs = new Counter({
    name: "sandgate_rpcs_total",
    help: "Calls of the API that ended, by method and gRPC status",
    labelNames: ["method", "code"],
    registers,
  });
  const rpcSeconds = new Histogram({
    name: "sandgate_rpc_seconds",
    help: "Duration of unary calls of the API, by method",
    labelNames: ["method"],
    buckets: callBuckets,
    registers,
  });
  const open = new Gauge({
    name: "sandgate_rpcs_open",
    help: "Calls of the API that have not ended, by method",
    labelNames: ["method"],
    registers,
  });

  /** A figure that is looked at when it is read. */
  function looked(name: string, help: string, labelNames: readonly string[], collect: (metric: Gauge) => void): void {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        collect(this);
      },
    });
  }

  looked("sandgate_sandboxes", "Sandboxes that the service knows, by state", ["state"], (metric) => {
    for (const [state, count] of sources.sandboxes()) metric.set({ state }, count);
  });
  looked("sandgate_held_calls", "Calls that wait for a verdict", [], (metric) => metric.set(sources.holds().held));
  looked("sandgate_decider_questions", "Questions for deciders, by where they are", ["place"], (metric) => {
    const { queued, inFlight } = sources.holds();
    metric.set({ place: "queued" }, queued);
    metric.set({ place: "in_flight" }, inFlight);
  });
  looked("sandgate_deciders", "Deciders with an open stream", [], (metric) => metric.set(sources.holds().deciders));
  looked("sandgate_grants", "Remembered verdicts", [], (metric) => metric.set(sources.holds().grants));
  looked("sandgate_journal_events", "Events kept for watchers", [], (metric) => metric.set(sources.journal().events));
  looked("sandgate_journal_bytes", "What they take, about", [], (metric) => metric.set(sources.journal().bytes));
  looked("sandgate_watchers", "Open watches", [], (metric) => metric.set(sources.journal().watchers));
  looked("sandgate_watch_lag_events", "Events that the slowest watcher has not considered", [], (metric) =>
    metric.set(sources.journal().lag),
  );
  looked("sandgate_resident_memory_bytes", "Memory of the service's process", [], (metric) =>
    metric.set(process.memoryUsage.rss()),
  );

  /** Likewise, of one that only grows. */
  function totalled(name: string, help: string, label: string, values: () => Readonly<Record<string, number>>): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        this.reset();
        for (const [key, value] of Object.entries(values())) this.inc({ [label]: key }, value);
      },
    });
  }

  totalled(
    "sandgate_watch_lost_events_total",
    "Events that watchers were not sent, by where they were lost",
    "cause",
    () => ({
      ...sources.journal().lost,
    }),
  );
  totalled("sandgate_event_file_events_total", "Events for the event file, by what became of them", "result", () => ({
    ...sources.eventFile(),
  }));
  totalled("sandgate_cpu_seconds_total", "Processor time of the service's process", "mode", () => {
    const { user, system } = process.cpuUsage();
    return { user: user / 1e6, system: system / 1e6 };
  });

  function append({ body }: DomainEvent): void {
    events.inc({ kind: body.kind });
    if (body.kind === "call_settled") {
      const { source, settlement, heldMs } = body;
      settled.inc({ source, outcome: source === "target_gone" ? "none" : settlement.kind });
      held.observe({ source }, heldMs / 1000);
    } else if (body.kind === "limit_reached") limits.inc({ limit: body.limit });
  }

  return {
    events: { append },
    settled: (source, outcome, count) => settled.inc({ source, outcome }, count),
    spawned: (seconds, hasStarted) => spawns.observe({ result: hasStarted ? "started" : "failed" }, seconds),
    observeCall({ method, isStream }) {
      const from = performance.now();
      open.inc({ method });
      return {
        ended(code) {
          open.dec({ method });
          rpcs.inc({ method, code: status[code] ?? String(code) });
          if (!isStream) rpcSeconds.observe({ method }, (performance.now() - from) / 1000);
        },
      };
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}

/** One sink for several. */
export function tee(sinks: readonly EventSink[]): EventSink {
  return {
    append(event) {
      for (const sink of sinks) sink.append(event);
    },
  };
}
