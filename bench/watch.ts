import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { Client, type ClientReadableStream, credentials } from "@grpc/grpc-js";
import type { SandgateClient } from "../src/client/client.js";
import { WatchRequestSchema } from "../src/gen/sandgate/v1/watch_pb.js";
import type { FloodResult } from "./flood-server.js";
import { cpuMsOf, startBenchServer, statusOf } from "./harness.js";
import { median, type Row } from "./report.js";

const EVENTS = 100_000;
const OBSERVED_CALLS = 20_000;
const ROUNDS = 3;

/** What an observed sandbox does while something else is measured. */
interface Observed {
  /** Microseconds for one of its calls, as it times itself. */
  readonly callUs: number;
  /** Microseconds for a round trip of another client, meanwhile. */
  readonly otherUs: number;
  /** Processor time of the server's process for one of its calls, in microseconds. */
  readonly cpuUs: number;
  readonly memoryKib: number;
  readonly received: number;
}

export async function watchBench(): Promise<Row[]> {
  const one: FloodResult[] = [];
  const eight: FloodResult[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    one.push(await flooded(1));
    eight.push(await flooded(8));
  }
  const without: Observed[] = [];
  const frozen: Observed[] = [];
  const reading: Observed[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    without.push(await observed("none"));
    frozen.push(await observed("frozen"));
    reading.push(await observed("reading"));
  }
  const of = <Result>(results: readonly Result[], value: (result: Result) => number): number =>
    median(results.map(value));
  return [
    {
      figure: "events to one watcher, journal and watch service alone",
      unit: "1/s",
      bare: 100_000,
      ours: of(one, ({ eventsPerSecond }) => eventsPerSecond),
      limit: 1,
      higherIsBetter: true,
      note: `bare is the goal; ${of(one, ({ cpuUs }) => cpuUs).toFixed(1)} µs of the server's processor time each; ${of(one, ({ lost }) => lost)} lost`,
    },
    {
      figure: "8 watchers with one mask, beside one: server's processor time for an event",
      unit: "µs",
      bare: of(one, ({ cpuUs }) => cpuUs),
      ours: of(eight, ({ cpuUs }) => cpuUs),
      limit: 2,
      note: `${of(eight, ({ eventsPerSecond }) => eventsPerSecond).toFixed(0)} events/s to each`,
    },
    {
      figure: "calls of an observed sandbox that reach one watcher",
      unit: "1/s",
      bare: 1e6 / of(without, ({ callUs }) => callUs),
      ours: of(reading, ({ received, callUs }) => (received / OBSERVED_CALLS) * (1e6 / callUs)),
      note: `bare is how many it makes with nobody watching; ${((100 * of(reading, ({ received }) => received)) / OBSERVED_CALLS).toFixed(0)} % arrived, the rest as gaps`,
    },
    {
      figure: "observed call with a stopped watcher, beside none",
      unit: "µs",
      bare: of(without, ({ callUs }) => callUs),
      ours: of(frozen, ({ callUs }) => callUs),
      limit: 1.1,
    },
    {
      figure: "the same, server's processor time",
      unit: "µs",
      bare: of(without, ({ cpuUs }) => cpuUs),
      ours: of(frozen, ({ cpuUs }) => cpuUs),
      limit: 1.1,
    },
    {
      figure: "another client's round trip meanwhile, median",
      unit: "µs",
      bare: of(without, ({ otherUs }) => otherUs),
      ours: of(frozen, ({ otherUs }) => otherUs),
      limit: 1.1,
    },
    {
      figure: "memory of the server after it",
      unit: "KiB",
      bare: of(without, ({ memoryKib }) => memoryKib),
      ours: of(frozen, ({ memoryKib }) => memoryKib),
      limit: 1.1,
    },
  ];
}

// ------------------------------------------------------------------------- the journal alone, flooded

async function flooded(watchers: number): Promise<FloodResult> {
  const directory = mkdtempSync(join(tmpdir(), "sandgate-bench-"));
  const path = join(directory, "socket");
  const server = fork(fileURLToPath(new URL("./flood-server.js", import.meta.url)), [path]);
  await once(server, "message");
  const open = Array.from({ length: watchers }, () => countEvents(`unix:${path}`));
  await Promise.all(open.map(({ caughtUp }) => caughtUp));
  const measure = async (events: number): Promise<FloodResult> => {
    server.send({ events });
    const [result] = (await once(server, "message")) as [FloodResult];
    return result;
  };
  await measure(EVENTS / 4);
  const result = await measure(EVENTS);
  for (const watcher of open) watcher.close();
  server.send("stop");
  if (server.exitCode === null) await once(server, "exit");
  rmSync(directory, { recursive: true, force: true });
  return result;
}

/** A watcher that takes messages apart no further than to their fields: what is measured is the server. */
function countEvents(address: string) {
  const client = new Client(address, credentials.createInsecure());
  const stream: ClientReadableStream<number> = client.makeServerStreamRequest(
    "/sandgate.v1.WatchService/Watch",
    (request: Uint8Array) => Buffer.from(request),
    eventsIn,
    toBinary(WatchRequestSchema, create(WatchRequestSchema)),
  );
  let events = 0;
  let told: () => void = () => undefined;
  const caughtUp = new Promise<void>((resolve) => {
    told = resolve;
  });
  stream.on("data", (count: number) => {
    events += count;
    told();
  });
  stream.on("error", () => undefined);
  return {
    caughtUp,
    get events() {
      return events;
    },
    close() {
      stream.cancel();
      client.close();
    },
  };
}

/** How many `events` a WatchResponse has: they come first. */
function eventsIn(message: Buffer): number {
  const events = (1 << 3) | 2;
  let count = 0;
  for (let at = 0; message[at] === events; count++) {
    let length = 0;
    let shift = 0;
    let byte: number;
    do {
      byte = message[++at] ?? 0;
      length |= (byte & 127) << shift;
      shift += 7;
    } while (byte > 127);
    at += 1 + length;
  }
  return count;
}

// ------------------------------------------------------------------------------- a real sandbox, observed

async function observed(watcher: "none" | "frozen" | "reading"): Promise<Observed> {
  await using server = await startBenchServer("sandgate");
  const client = server.client();
  let frozen: ChildProcess | undefined;
  if (watcher === "frozen") {
    frozen = fork(fileURLToPath(new URL("./frozen-watcher.js", import.meta.url)), [server.address]);
    await once(frozen, "message");
    frozen.kill("SIGSTOP");
  }
  const counter = watcher === "reading" ? countEvents(server.address) : undefined;
  await counter?.caughtUp;
  const other: number[] = [];
  let isRunning = true;
  const asking = (async () => {
    const second = server.client();
    while (isRunning) {
      const from = performance.now();
      await second.server.getServerInfo({});
      other.push((performance.now() - from) * 1000);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  const cpuMs = cpuMsOf(server.pid);
  const callUs = await observe(client);
  const cpuUs = ((cpuMsOf(server.pid) - cpuMs) * 1000) / OBSERVED_CALLS;
  isRunning = false;
  await asking;
  // What is under way still arrives.
  await client.server.getServerInfo({});
  const memoryKib = statusOf(server.pid, "VmRSS");
  const received = counter?.events ?? 0;
  counter?.close();
  frozen?.kill("SIGKILL");
  return { callUs, otherUs: median(other), cpuUs, memoryKib, received };
}

/** Microseconds for one recorded call of a sandbox. */
async function observe(client: SandgateClient): Promise<number> {
  const script = `import os,time
a=time.perf_counter_ns()
for i in range(${OBSERVED_CALLS}): os.kill(0,0)
print((time.perf_counter_ns()-a)/${OBSERVED_CALLS}/1000)`;
  let output = "";
  for await (const { part } of client.sandbox.run({
    spec: {
      rules: [{ name: "observed", match: { syscalls: ["kill"] }, action: { case: "allow", value: {} } }],
      journal: { recordAutomatic: true },
    },
    process: { argv: ["python3", "-c", script] },
  })) {
    if (part.case === "output") output += Buffer.from(part.value.data).toString();
  }
  const value = Number(output);
  if (!(value > 0)) throw new Error(`the program printed ${JSON.stringify(output)}`);
  return value;
}
