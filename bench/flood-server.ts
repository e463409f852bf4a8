/**
 * The journal and the watch service alone, in a process of its own, with events as fast as watchers take them.
 * usage: flood-server SOCKET. Messages: { events } floods, and is answered with a FloodResult.
 */
import pino from "pino";
import { WatchService } from "../src/gen/sandgate/v1/watch_pb.js";
import { createJournal } from "../src/sandbox/journal/journal.js";
import type { DomainEvent, HeldCall } from "../src/sandbox/model.js";
import { bindService } from "../src/service/bridge.js";
import { createServer } from "../src/service/server.js";
import { createWatchService } from "../src/service/watch-service.js";

export interface FloodResult {
  /** Processor time of this process for one event, in microseconds. */
  readonly cpuUs: number;
  readonly eventsPerSecond: number;
  readonly lost: number;
}

const text = (value: string): Uint8Array => new Uint8Array(Buffer.from(value));
const self = { pid: process.pid, uid: process.geteuid?.() ?? 0, gid: 0 };
/** Appended in one turn: about what the engine tells in one message. */
const CHUNK = 256;
/** Waited for when the slowest watcher is this far behind. */
const LAG = 2048;

/** As the engine tells of one open, each of its own path. */
function opened(at: number): DomainEvent {
  const task = {
    sandboxId: "4f1c2d3e-0000-4000-8000-000000000000",
    processId: "main",
    pid: 4711,
    tid: 4711,
    ppid: 4700,
    startTicks: 123_456_789,
    executable: text("/usr/bin/python3.11"),
    command: text("python3"),
  };
  const call: HeldCall = {
    holdId: at + 1,
    sandboxId: task.sandboxId,
    task,
    syscall: "openat",
    number: 257,
    arch: 0xc000003e,
    args: [0n, 1n, 2n, 3n, 4n, 5n],
    category: "file",
    integrity: "copied",
    detail: {
      kind: "file",
      path: text(`/usr/lib/python3.11/module-${at}.py`),
      operation: "read",
      flags: 0o2000000,
      mode: 0,
      exists: true,
    },
    timeMs: Date.now(),
    rule: "",
  };
  const settled = {
    settlement: { kind: "static" },
    source: "rule",
    sourceName: "observed",
    reason: "",
    heldMs: 0,
  } as const;
  return {
    timeMs: call.timeMs,
    sandboxId: task.sandboxId,
    tenant: "local",
    labels: new Map(),
    task,
    body: { kind: "call_settled", call, ...settled },
  };
}

const [, , path = ""] = process.argv;
const journal = createJournal({ epoch: "bench", maxEvents: 65_536, snapshot: () => [] });
const log = pino({ level: "error" }, pino.destination(2));
const server = createServer({
  services: [bindService(WatchService, createWatchService({ journal }), { openEnded: ["watch"] })],
  report: (_id, error) => log.error(error),
  peerCredentials: () => self,
});
await server.listenUnix(path);

/** Made beforehand; the journal keeps none of them long enough to see one twice. */
const pool = Array.from({ length: 16_384 }, (_, at) => opened(at));

async function flood(events: number): Promise<FloodResult> {
  const from = performance.now();
  const cpu = process.cpuUsage();
  for (let at = 0; at < events; ) {
    for (const end = Math.min(at + CHUNK, events); at < end; at++)
      journal.append(pool[at % pool.length] as DomainEvent);
    do await new Promise((resolve) => setImmediate(resolve));
    while (journal.counts().lag > LAG);
  }
  while (journal.counts().lag > 0) await new Promise((resolve) => setImmediate(resolve));
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - from) / 1000;
  return { cpuUs: (user + system) / events, eventsPerSecond: events / seconds, lost: journal.counts().lost.reader };
}

process.on("message", async (message: { readonly events: number } | "stop") => {
  if (message === "stop") {
    await server.drain(0);
    process.disconnect();
  } else process.send?.(await flood(message.events));
});
process.once("disconnect", () => process.exit());
process.send?.("ready");
