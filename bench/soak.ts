/** `npm run soak [-- SPAWNS]`: many short sandboxes, after which nothing may have grown. */
import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { childrenOf, startBenchServer, statusOf } from "./harness.js";

const DEFAULT_SPAWNS = 10_000;
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

const spawns = Number(process.argv[2] ?? DEFAULT_SPAWNS);
if (!Number.isInteger(spawns) || spawns < 1) {
  console.error("usage: npm run soak [-- SPAWNS]");
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

async function runMany(count: number): Promise<void> {
  let left = count;
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

await runMany(SETTLING_SPAWNS);
const before = figures();
console.log("before", JSON.stringify(before));
for (let done = 0; done < spawns; done += EVERY) {
  await runMany(Math.min(EVERY, spawns - done));
  console.log(`${Math.min(done + EVERY, spawns)} of ${spawns}`, JSON.stringify(figures()));
}
const after = figures();
const failures = [
  after.serverKib - before.serverKib > SERVER_GROWTH_KIB && "the server's memory grew",
  after.wardenKib - before.wardenKib > WARDEN_GROWTH_KIB && "the warden's memory grew",
  after.serverFds - before.serverFds > FD_GROWTH && "the server's descriptors grew",
  after.wardenFds - before.wardenFds > FD_GROWTH && "the warden's descriptors grew",
  after.wardenChildren - before.wardenChildren > FD_GROWTH && "processes were left behind",
].filter((failure) => failure !== false);
for (const failure of failures) console.error(failure);
process.exitCode = failures.length === 0 ? 0 : 1;
