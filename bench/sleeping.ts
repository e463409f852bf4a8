import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { childrenOf, cpuMsOf, privateKibOf, startBenchServer, statusOf } from "./harness.js";
import { median, type Row } from "./report.js";

const SANDBOXES = 1000;
const AT_ONCE = 16;
const IDLE_MS = 3000;

/** A thousand sandboxes that sleep: how fast they start, and what they cost. */
export async function sleepingBench(): Promise<Row[]> {
  await using server = await startBenchServer("sandgate");
  const client = server.client();
  const spawn = async (): Promise<string> => {
    const { sandbox } = await client.sandbox.spawn({
      requestId: randomUUID(),
      process: { argv: ["/bin/sleep", "1000"] },
    });
    return sandbox?.sandboxId ?? "";
  };
  for (let i = 0; i < 50; i++)
    await client.sandbox.deleteSandbox({ requestId: randomUUID(), sandboxId: await spawn() });
  const rssBefore = statusOf(server.pid, "VmRSS") + statusOf(server.wardenPid, "VmRSS");
  const threadsBefore = statusOf(server.pid, "Threads");
  const from = performance.now();
  let left = SANDBOXES;
  const ids: string[] = [];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left-- > 0) ids.push(await spawn());
    }),
  );
  const startedMs = performance.now() - from;
  const rss = statusOf(server.pid, "VmRSS") + statusOf(server.wardenPid, "VmRSS") - rssBefore;
  const threads = statusOf(server.pid, "Threads") - threadsBefore;
  const cpuBefore = cpuMsOf(server.pid) + cpuMsOf(server.wardenPid);
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const idle = ((cpuMsOf(server.pid) + cpuMsOf(server.wardenPid) - cpuBefore) / IDLE_MS) * 100;
  const helpers = childrenOf(server.wardenPid)
    .filter((pid) => isHelper(pid))
    .map(privateKibOf)
    .filter((kib) => kib > 0);
  await Promise.all(ids.map((sandboxId) => client.sandbox.deleteSandbox({ requestId: randomUUID(), sandboxId })));
  return [
    absolute(`${SANDBOXES} sandboxes sleeping, all started`, "s", startedMs / 1000, 3),
    absolute("server and warden memory for each", "KiB", rss / SANDBOXES, 60),
    absolute("server threads more than before", "", threads, 0),
    absolute("idle CPU of server and warden", "% of a core", idle, 1),
    absolute("private memory of a helper process, median", "KiB", helpers.length === 0 ? 0 : median(helpers), 150),
  ];
}

/** Keepers and nurseries run the warden's own program, and so have its name. */
function isHelper(pid: number): boolean {
  return readFileSync(`/proc/${pid}/comm`, "latin1").startsWith("sandgate");
}

function absolute(figure: string, unit: string, ours: number, most: number): Row {
  return { figure, unit, bare: 0, ours, note: `must be at most ${most}: ${ours <= most ? "yes" : "**no**"}` };
}
