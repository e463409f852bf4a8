/** Runs one loop of the notify bench in a worker, as the engine runs: either the product's, or the one in C. */
import { parentPort, workerData } from "node:worker_threads";
import koffi from "koffi";
import { createEngineLoop, type Handler } from "../src/engine/loop.js";
import type { Verdict } from "../src/engine/verdict.js";
import { createChannels } from "../src/native/channel.js";
import { createExchange } from "../src/native/exchange.js";
import { loadLibrary } from "../src/native/library.js";

export interface NotifyJob {
  readonly loop: "c" | "typescript";
  readonly call: "registers" | "path";
  readonly socket: number;
  /** CPU for this thread, or -1. */
  readonly cpu: number;
  readonly benchLibrary: string;
  readonly spinUs: number;
}

const SYS_ACCESS = 21;
const SYS_GETPPID = 110;
const EPERM = 1;

const job = workerData as NotifyJob;
const bench = koffi.load(job.benchLibrary);
const pin = bench.func("int bench_pin(int cpu)");
const takeListener = bench.func("int bench_take_listener(int socket)");
const go = bench.func("int bench_go(int socket)");
const loopInC = bench.func("long bench_loop(int listener, int read_path)");

if (job.cpu >= 0) pin(job.cpu);
const listener = takeListener(job.socket) as number;
if (job.loop === "c") {
  go(job.socket);
  loopInC(listener, job.call === "path" ? 1 : 0);
} else {
  runTypeScript(listener);
}
parentPort?.postMessage("done");

function runTypeScript(fd: number): void {
  const library = loadLibrary();
  const allowed: Verdict = { kind: "continue", because: "registers_only" };
  const refused: Verdict = { kind: "errno", errno: EPERM };
  const secret = Buffer.from("/secret/");
  const registers: Handler<null> = { shapes: [], handle: () => allowed };
  const path: Handler<null> = {
    shapes: [{ kind: "string", arg: 0, limit: 4096 }],
    handle(call) {
      const copied = call.memory(0);
      return typeof copied === "number" || copied.bytes.subarray(0, secret.length).equals(secret) ? refused : allowed;
    },
  };
  using loop = createEngineLoop<null>({
    exchange: createExchange(library),
    wakeFd: createChannels(library).event(),
    spinUs: job.spinUs,
    events: {
      onListenerEnd: () => loop.stop(),
      onListenerFault: () => loop.stop(),
      onError(error) {
        throw error;
      },
      onWake: () => undefined,
      onTurnEnd: () => undefined,
    },
  });
  loop.handle(
    new Map([
      [SYS_GETPPID, registers],
      [SYS_ACCESS, path],
    ]),
  );
  loop.attachListener(fd, null);
  go(job.socket);
  loop.run();
}
