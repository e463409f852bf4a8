import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname } from "node:path";
import type { SandgateClient } from "../src/client/client.js";
import { buildBenchNative } from "./build.js";
import { bareNumber, startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";

const CONNECTS = 50_000;
const ROUNDS = 5;
const PENDING = 1000;
const PENDING_CONNECTS = 10_000;

/** A helper that prints a port and serves until disposed. */
async function helper(program: string, act: string): Promise<Disposable & { readonly port: number }> {
  const child = spawn(program, [act], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  return { port: Number(line), [Symbol.dispose]: () => void child.kill("SIGKILL") };
}

const specFor = (program: string, port: number) => ({
  filesystem: { readable: [dirname(program)] },
  network: { allow: [{ host: "127.0.0.1", ports: [{ first: port }] }] },
  limits: { openFiles: 4096 },
});

async function sandboxedNs(client: SandgateClient, program: string, port: number, count: number): Promise<number> {
  let output = "";
  const process = { argv: [program, "connect", `${port}`, `${count}`] };
  for await (const { part } of client.sandbox.run({ spec: specFor(program, port), process })) {
    if (part.case === "output") output += Buffer.from(part.value.data).toString();
  }
  return Number(output);
}

/** connect and close to an allowed listener of loopback, beside a loop in C that connects on behalf. */
async function throughput(client: SandgateClient, program: string): Promise<Row[]> {
  using listener = await helper(program, "listen");
  const { port } = listener;
  const [bare, onBehalf, ours]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round < ROUNDS; round++) {
    bare.push(bareNumber(program, "connect", `${port}`, `${CONNECTS}`));
    onBehalf.push(bareNumber(program, "on-behalf", `${port}`, `${CONNECTS}`));
    ours.push(await sandboxedNs(client, program, port, CONNECTS));
  }
  const us = (values: readonly number[]): number => median(values) / 1000;
  return [
    { figure: "connect and close, beside on behalf in C", unit: "µs", bare: us(onBehalf), ours: us(ours), limit: 1.6 },
    { figure: "connect and close, beside no sandbox", unit: "µs", bare: us(bare), ours: us(ours) },
  ];
}

/** A sandbox whose connects all wait. It ends with its Run. */
async function startPending(client: SandgateClient, program: string, port: number): Promise<{ end(): Promise<void> }> {
  const process = { argv: [program, "pending", `${port}`, `${PENDING}`] };
  const running = client.sandbox.run({ spec: specFor(program, port), process })[Symbol.asyncIterator]();
  for (let next = await running.next(); next.value?.part.case !== "output"; next = await running.next()) {
    if (next.done === true) throw new Error("the waiting sandbox ended");
  }
  return {
    async end() {
      await running.return?.();
    },
  };
}

/** Judged calls of one sandbox while a thousand connects of another wait. */
async function besidePending(client: SandgateClient, program: string): Promise<Row[]> {
  using listener = await helper(program, "listen");
  using full = await helper(program, "backlog");
  const measure = () => sandboxedNs(client, program, listener.port, PENDING_CONNECTS);
  const alone: number[] = [];
  const beside: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    alone.push(await measure());
    const pending = await startPending(client, program, full.port);
    beside.push(await measure());
    await pending.end();
  }
  const note = `${PENDING} connects of another sandbox wait`;
  return [
    {
      figure: "connect and close beside pending connects",
      unit: "µs",
      bare: median(alone) / 1000,
      ours: median(beside) / 1000,
      limit: 1.1,
      note,
    },
  ];
}

export async function connectsBench(): Promise<Row[]> {
  const { connects } = buildBenchNative();
  await using server = await startBenchServer("sandgate");
  const client = server.client();
  return [...(await throughput(client, connects)), ...(await besidePending(client, connects))];
}
