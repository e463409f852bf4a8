import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { createChannels } from "../src/native/channel.js";
import { loadLibrary } from "../src/native/library.js";
import { buildBenchNative } from "./build.js";
import type { NotifyJob } from "./notify-worker.js";
import { busyLoad, median, type Row } from "./report.js";

const CALLS = 60_000;
const ROUNDS = 5;
export const SPIN_US = 0;

/** Nanoseconds per notified call, in one process and one loop. */
async function measure(job: Omit<NotifyJob, "socket" | "benchLibrary">, childCpu: number): Promise<number> {
  const native = buildBenchNative();
  const channels = createChannels(loadLibrary());
  const [ours, theirs] = channels.pair();
  const child = spawn(native.caller, [job.call, `${CALLS}`, `${childCpu}`], {
    stdio: ["ignore", "pipe", "inherit", theirs],
  });
  closeSync(theirs);
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const data: NotifyJob = { ...job, socket: ours, benchLibrary: native.library };
  const worker = new Worker(fileURLToPath(new URL("./notify-worker.js", import.meta.url)), { workerData: data });
  await Promise.all([once(worker, "exit"), once(child, "close")]);
  closeSync(ours);
  return Number(output);
}

/** A notified call settled by an engine rule, beside the same loop in C: idle and busy, pinned and not. */
export async function notifyBench(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const call of ["registers", "path"] as const) {
    for (const machine of ["idle", "busy"] as const) {
      for (const pinned of [true, false]) {
        const results: Record<NotifyJob["loop"], number[]> = { c: [], typescript: [] };
        using _load = machine === "busy" ? busyLoad(cpus().length) : undefined;
        for (let round = 0; round < ROUNDS; round++) {
          for (const loop of ["c", "typescript"] as const) {
            results[loop].push(await measure({ loop, call, cpu: pinned ? 0 : -1, spinUs: SPIN_US }, pinned ? 0 : -1));
          }
        }
        const bare = median(results.c) / 1000;
        const ours = median(results.typescript) / 1000;
        rows.push({
          figure: `notified call, ${call}, ${machine}, ${pinned ? "one core" : "not pinned"}`,
          unit: "µs",
          bare,
          ours,
          limit: 1.5,
        });
      }
    }
  }
  return rows;
}
