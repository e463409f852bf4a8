import { Client, credentials } from "@grpc/grpc-js";
import type { SandgateClient } from "../src/client/client.js";
import { startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";
import { echoService } from "./server.js";

const CALLS = 2000;
/** About what a held call of this bench takes on the wire. */
const MESSAGE_BYTES = 190;

/** Round trips of a bare bidi echo, in µs. */
async function echo(address: string): Promise<number[]> {
  const method = echoService.echo;
  if (method === undefined) throw new Error("no echo method");
  const client = new Client(address, credentials.createInsecure());
  const call = client.makeBidiStreamRequest(
    method.path,
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => bytes,
  );
  const message = Buffer.alloc(MESSAGE_BYTES, 1);
  const times: number[] = [];
  await new Promise<void>((resolve, reject) => {
    let from = 0;
    const next = (): void => {
      if (times.length === CALLS) {
        call.end();
        resolve();
        return;
      }
      from = performance.now();
      call.write(message);
    };
    call.on("data", () => {
      times.push((performance.now() - from) * 1000);
      next();
    });
    call.on("error", reject);
    next();
  });
  client.close();
  return times;
}

/** A held call decided by a Node client over Decide: what the program waits, beside a bare bidi echo. */
export async function heldBench(): Promise<Row[]> {
  const bare: number[] = [];
  const ours: number[] = [];
  for (let round = 0; round < 3; round++) {
    await using echoServer = await startBenchServer("echo");
    bare.push(median(await echo(echoServer.address)));
    await using server = await startBenchServer("sandgate");
    ours.push(await held(server.client()));
  }
  return [
    { figure: "held call decided over Decide, median", unit: "µs", bare: median(bare), ours: median(ours), limit: 5 },
  ];
}

/** Median µs that a program waits in a held call; it times itself. */
async function held(client: SandgateClient): Promise<number> {
  const decide = client.decision.decide();
  await decide.send({ message: { case: "open", value: { decider: "bench", window: 64 } } });
  const deciding = (async () => {
    for await (const { message } of decide.messages) {
      if (message.case !== "calls") continue;
      const verdicts = message.value.calls.map(({ holdId }) => ({
        holdId,
        action: { case: "allow" as const, value: {} },
      }));
      await decide.send({ message: { case: "verdicts", value: { verdicts } } });
    }
  })();
  // A shell would fork; this times one call of its own, over and over.
  const script = `import os,time
t=[]
for i in range(${CALLS}):
    a=time.perf_counter_ns(); os.kill(0,0); t.append(time.perf_counter_ns()-a)
t.sort(); print(t[len(t)//2]/1000)`;
  let output = "";
  for await (const { part } of client.sandbox.run({
    spec: {
      holds: {
        triggers: [{ syscalls: ["kill"] }],
        onNoDecider: { grace: { seconds: 5n } },
      },
    },
    process: { argv: ["python3", "-c", script] },
  })) {
    if (part.case === "output") output += Buffer.from(part.value.data).toString();
  }
  decide.end();
  await deciding;
  const value = Number(output);
  if (!(value > 0)) throw new Error(`the program printed ${JSON.stringify(output)}`);
  return value;
}
