import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, connect as dial } from "node:net";
import { type SandgateClient, StdioStream } from "../src/client/client.js";
import { startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";

/** Commands of each kind and round; a figure is the median of the rounds' rates. */
const REQUESTS = 50_000;
const CLIENTS = 50;
const ROUNDS = 9;

interface RedisServer extends AsyncDisposable {
  readonly port: number;
}

/** Commands a second, by the name of the command. */
type Rates = ReadonlyMap<string, number>;

const serverCommand = (port: number): string[] =>
  `redis-server --port ${port} --bind 127.0.0.1 --save --appendonly no --logfile`.split(" ").concat("");
const benchmarkCommand = (port: number): string[] =>
  `redis-benchmark -h 127.0.0.1 -p ${port} -t set,get -n ${REQUESTS} -c ${CLIENTS} --csv`.split(" ");

function parseRates(csv: string): Rates {
  return new Map([...csv.matchAll(/^"(SET|GET)","([\d.]+)"/gm)].map(([, name = "", rate]) => [name, Number(rate)]));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** Resolves once the server takes connections. */
async function untilServing(port: number): Promise<void> {
  for (;;) {
    const socket = dial(port, "127.0.0.1");
    const isServing = await Promise.race([
      once(socket, "connect").then(() => true),
      new Promise<boolean>((resolve) => socket.once("error", () => resolve(false))),
    ]).catch(() => false);
    socket.destroy();
    if (isServing) return;
  }
}

async function bareServer(): Promise<RedisServer> {
  const port = await freePort();
  const [program = "", ...args] = serverCommand(port);
  const child: ChildProcess = spawn(program, args, { stdio: "ignore" });
  await untilServing(port);
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Under a policy that lets it listen on its port, and connect nowhere. */
async function sandboxedServer(client: SandgateClient): Promise<RedisServer> {
  const port = await freePort();
  const { sandbox } = await client.sandbox.spawn({
    requestId: `redis-${port}`,
    spec: { network: { bind: [{ ports: [{ first: port }] }] } },
    process: { argv: serverCommand(port) },
  });
  await untilServing(port);
  return {
    port,
    async [Symbol.asyncDispose]() {
      await client.sandbox.deleteSandbox({ sandboxId: sandbox?.sandboxId ?? "" });
    },
  };
}

function bareRates(port: number): Rates {
  const [program = "", ...args] = benchmarkCommand(port);
  return parseRates(execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
}

/** Under a policy with one destination. */
async function sandboxedRates(client: SandgateClient, port: number): Promise<Rates> {
  let output = "";
  const spec = { network: { allow: [{ host: "127.0.0.1", ports: [{ first: port }] }] } };
  for await (const { part } of client.sandbox.run({ spec, process: { argv: benchmarkCommand(port) } })) {
    if (part.case === "output" && part.value.stream === StdioStream.STDOUT)
      output += Buffer.from(part.value.data).toString();
  }
  return parseRates(output);
}

function rowsOf(figure: string, limit: number, bare: readonly Rates[], ours: readonly Rates[]): Row[] {
  const rate = (rounds: readonly Rates[], name: string) => median(rounds.map((rates) => rates.get(name) ?? 0));
  return ["SET", "GET"].map((name) => ({
    figure: `${figure}, ${name}`,
    unit: "1/s",
    bare: rate(bare, name),
    ours: rate(ours, name),
    limit,
    higherIsBetter: true,
  }));
}

/** redis over loopback, its server or its client in a sandbox. Without redis there are no rows. */
export async function redisBench(): Promise<Row[]> {
  try {
    execFileSync("redis-server", ["--version"], { stdio: "ignore" });
  } catch {
    console.error("redis: no redis-server here; install redis-server and redis-tools");
    return [];
  }
  await using server = await startBenchServer("sandgate");
  const client = server.client();
  await using bare = await bareServer();
  await using confined = await sandboxedServer(client);
  const bareRounds: Rates[] = [];
  const serverRounds: Rates[] = [];
  const clientRounds: Rates[] = [];
  const measures = [
    async () => bareRounds.push(bareRates(bare.port)),
    async () => serverRounds.push(bareRates(confined.port)),
    async () => clientRounds.push(await sandboxedRates(client, bare.port)),
  ];
  for (let round = 0; round < ROUNDS; round++) {
    // Whoever comes first finds another machine than who comes last.
    for (let turn = 0; turn < measures.length; turn++) await measures[(round + turn) % measures.length]?.();
  }
  return [
    ...rowsOf("redis-server in a sandbox", 0.98, bareRounds, serverRounds),
    ...rowsOf("redis-benchmark in a sandbox", 0.97, bareRounds, clientRounds),
  ];
}
