import { EventKind, type SandgateClient } from "../src/client/client.js";
import { buildBenchNative } from "./build.js";
import { type BenchServer, bareNumber, startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";

const ROUNDS = 5;
const RUNS = 200;
/** What V8 needs to compile the path, on both sides. */
const WARM_UP_RUNS = 1500;
const RATE_RUNS = 600;

async function runOnce(client: SandgateClient, argv: string[]): Promise<void> {
  for await (const { part } of client.sandbox.run({ process: { argv } })) {
    if (part.case !== "result") continue;
    const result = part.value.exit?.result;
    if (result?.case !== "code" || result.value !== 0) throw new Error(`${argv[0]} did not end well`);
  }
}

/** `/bin/echo` by Run over the Unix socket from a warm client, to its exit. */
async function echoRow(server: BenchServer): Promise<Row> {
  const { spawner } = buildBenchNative();
  const client = server.client();
  const bare: number[] = [];
  const ours: number[] = [];
  for (let run = 0; run < WARM_UP_RUNS; run++) await runOnce(client, ["/bin/echo", "hello"]);
  // Rounds in turn, so that both see the same noise of the machine.
  for (let round = 0; round < ROUNDS; round++) {
    bare.push(bareNumber(spawner, "latency", `${RUNS}`, "/bin/echo", "hello"));
    const times: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      const from = performance.now();
      await runOnce(client, ["/bin/echo", "hello"]);
      times.push((performance.now() - from) * 1000);
    }
    ours.push(median(times));
  }
  return {
    figure: "/bin/echo by Run, to its exit, median",
    unit: "µs",
    bare: median(bare),
    ours: median(ours),
    limit: 2.5,
  };
}

/** Waits until `count` main processes have ended with status 0; rejects at the first that ended otherwise. */
async function watchEnds(client: SandgateClient, count: number, started: () => void): Promise<void> {
  let left = count;
  const watch = client.watch.watch({ include: [{ kinds: [EventKind.PROCESS_ENDED] }] });
  for await (const { events, caughtUp } of watch) {
    if (caughtUp) started();
    for (const { event } of events) {
      const result = event.case === "processEnded" ? event.value.exit?.result : undefined;
      if (result?.case !== "code" || result.value !== 0) throw new Error("a program did not end well");
      left--;
    }
    if (left === 0) return;
  }
}

/** Spawns a second with many clients at once, until the last program has ended. */
async function rateRow(server: BenchServer, parallel: number): Promise<Row> {
  const { spawner } = buildBenchNative();
  const clients = Array.from({ length: parallel }, () => server.client());
  const watcher = server.client();
  const bare: number[] = [];
  const ours: number[] = [];
  const spec = { lifetime: { retainAfterExit: { seconds: 0n } } };
  for (let round = 0; round < ROUNDS; round++) {
    bare.push(bareNumber(spawner, "rate", `${parallel}`, `${RATE_RUNS}`, "/bin/true"));
    let ended = Promise.resolve();
    await new Promise<void>((started) => {
      ended = watchEnds(watcher, RATE_RUNS, started);
    });
    let left = RATE_RUNS;
    const from = performance.now();
    await Promise.all(
      clients.map(async (client) => {
        while (left-- > 0)
          await client.sandbox.spawn({
            requestId: `${round}-${left}-${parallel}`,
            spec,
            process: { argv: ["/bin/true"] },
          });
      }),
    );
    await ended;
    if (round > 0) ours.push(RATE_RUNS / ((performance.now() - from) / 1000));
  }
  for (const client of [...clients, watcher]) client.close();
  return {
    figure: `spawn rate, ${parallel} clients, /bin/true`,
    unit: "1/s",
    bare: median(bare),
    ours: median(ours),
    limit: 0.35,
    higherIsBetter: true,
  };
}

export async function launchBench(): Promise<Row[]> {
  await using server = await startBenchServer("sandgate");
  return [await echoRow(server), await rateRow(server, 8), await rateRow(server, 32)];
}
