/**
 * `npm run soak [-- SPAWNS]`: many short sandboxes, after which nothing may have grown.
 * `npm run soak -- pipelines [COUNT]`: many pipelines in one sandbox under a limit of processes, none of them refused.
 */
import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { pipelines } from "../test/support/pipelines.js";
import { childrenOf, startBenchServer, statusOf } from "./harness.js";

const DEFAULT_SPAWNS = 10_000;
const DEFAULT_PIPELINES = 5000;
const PARALLEL = 8;
const EVERY = 1000;
/** What V8 still takes once it has settled; a leak of 5 KiB a sandbox is twice as much over ten thousand. */
const SERVER_GROWTH_KIB = 24 * 1024;
/** V8's heap and the allocator take some thousand sandboxes to find their size. */
const SETTLING_SPAWNS = 5000;
const WARDEN_GROWTH_KIB = 256;
/** Sockets of the client's own connections come and go. */
const FD_GROWTH = 8;

interface Figures {
  readonly serverKib: number;
  readonly wardenKib: number;
  readonly serverFds: number;
  readonly wardenFds: number;
  readonly wardenChildren: number;
}

const [first, second] = process.argv.slice(2);
const makesPipelines = first === "pipelines";
const count = makesPipelines ? Number(second ?? DEFAULT_PIPELINES) : Number(first ?? DEFAULT_SPAWNS);
if (!Number.isInteger(count) || count < 1) {
  console.error("usage: npm run soak [-- SPAWNS | -- pipelines [COUNT]]");
  process.exit(2);
}

// A short journal is full after the first round: what grows afterwards is no cache that is still filling.
await using server = await startBenchServer("sandgate", "2048");
const clients = Array.from({ length: PARALLEL }, () => server.client());

function figures(): Figures {
  const fds = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
  return {
    serverKib: statusOf(server.pid, "VmRSS"),
    wardenKib: statusOf(server.wardenPid, "VmRSS"),
    serverFds: fds(server.pid),
    wardenFds: fds(server.wardenPid),
    wardenChildren: childrenOf(server.wardenPid).length,
  };
}

async function runMany(spawns: number): Promise<void> {
  let left = spawns;
  await Promise.all(
    clients.map(async (client) => {
      while (left-- > 0) {
        // Half by Run, half by Spawn, so that both kinds of sandbox, with and without a nursery, are made and forgotten.
        if (left % 2 === 0) {
          for await (const { part } of client.sandbox.run({ process: { argv: ["/bin/echo", "x"] } })) {
            if (part.case === "result" && part.value.exit?.result.value !== 0) throw new Error("a run failed");
          }
          continue;
        }
        const { sandbox } = await client.sandbox.spawn({ requestId: randomUUID(), process: { argv: ["/bin/true"] } });
        const sandboxId = sandbox?.sandboxId ?? "";
        await client.sandbox.waitProcess({ sandboxId });
        await client.sandbox.deleteSandbox({ sandboxId });
      }
    }),
  );
}

/** What grew. */
async function soakSpawns(): Promise<string[]> {
  await runMany(SETTLING_SPAWNS);
  const before = figures();
  console.log("before", JSON.stringify(before));
  for (let done = 0; done < count; done += EVERY) {
    await runMany(Math.min(EVERY, count - done));
    console.log(`${Math.min(done + EVERY, count)} of ${count}`, JSON.stringify(figures()));
  }
  const after = figures();
  return [
    after.serverKib - before.serverKib > SERVER_GROWTH_KIB && "the server's memory grew",
    after.wardenKib - before.wardenKib > WARDEN_GROWTH_KIB && "the warden's memory grew",
    after.serverFds - before.serverFds > FD_GROWTH && "the server's descriptors grew",
    after.wardenFds - before.wardenFds > FD_GROWTH && "the warden's descriptors grew",
    after.wardenChildren - before.wardenChildren > FD_GROWTH && "processes were left behind",
  ].filter((failure) => failure !== false);
}

/** What went wrong. */
async function soakPipelines(): Promise<string[]> {
  const request = { spec: { limits: { processes: 8 } }, process: { argv: pipelines(count) } };
  let printed = "";
  let end = "no result";
  for await (const { part } of server.client().sandbox.run(request)) {
    if (part.case === "output") printed += Buffer.from(part.value.data).toString();
    else if (part.case === "result") end = `${part.value.exit?.result.case} ${part.value.exit?.result.value}`;
  }
  console.log(`${count} pipelines: ${end}, ${JSON.stringify(printed)}`);
  return end === "code 0" && printed === "done\n" ? [] : ["a process was refused"];
}

const failures = makesPipelines ? await soakPipelines() : await soakSpawns();
for (const failure of failures) console.error(failure);
process.exitCode = failures.length === 0 ? 0 : 1;
