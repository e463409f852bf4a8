import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, RemoteError, SandboxState, type SandgateClient } from "../../src/client/client.js";
import { type RunningCommand, startSandgate } from "../cli/command.js";
import { allProcesses, eventually, isAlive, withArgument } from "../support/processes.js";
import { requestId } from "../support/service.js";

const SANDBOXES = 100;
/** What the service's death leaves must be gone within this. */
const WITHIN_MS = 1000;

interface Served extends AsyncDisposable {
  readonly command: RunningCommand;
  readonly client: SandgateClient;
  readonly pid: number;
  readonly tracerPid: number;
  readonly wardenPid: number;
  readonly directory: string;
}

/** `sandgate serve` in a process of its own, as it is deployed. */
async function serve(): Promise<Served> {
  const directory = mkdtempSync(join(tmpdir(), "sandgate-death-"));
  const command = startSandgate(["serve", "--listen", `unix:${join(directory, "socket")}`]);
  await command.until("stdout", /^ready /m);
  const client = connect(`unix:${join(directory, "socket")}`);
  await client.ready(5000);
  const pid = command.child.pid ?? 0;
  const all = allProcesses();
  const tracer = all.find(({ parent, argv }) => parent === pid && argv.includes("sandgate-tracer"));
  assert.ok(tracer, "the service has a tracer");
  const warden = all.find(({ parent, argv }) => parent === tracer.pid && argv.includes("sandgate-warden"));
  assert.ok(warden, "the tracer has a warden");
  return {
    command,
    client,
    pid,
    tracerPid: tracer.pid,
    wardenPid: warden.pid,
    directory,
    async [Symbol.asyncDispose]() {
      client.close();
      command.child.kill("SIGKILL");
      await command.result;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A sleep of a length that no other process has, to be found by. */
function newMarker(): string {
  return `${100_000 + Math.floor(Math.random() * 900_000)}.${process.pid}`;
}

/** Sandboxes that leave their parents and sessions; two fork without end. */
async function spawnStubborn(client: SandgateClient, marker: string): Promise<void> {
  const detach = `(setsid sh -c 'trap "" TERM HUP INT; sleep ${marker} & sleep ${marker}; sleep ${marker}' &)`;
  await Promise.all(
    Array.from({ length: SANDBOXES }, (_, index) => {
      const forks = index % 50 === 0 ? `; (while :; do (:); done) & ` : "; ";
      return client.sandbox.spawn({
        requestId: requestId(),
        process: { argv: ["/bin/sh", "-c", `${detach}${forks}exec sleep ${marker}`] },
      });
    }),
  );
  await eventually("every sandbox has its three sleepers", () => withArgument(marker).length >= 3 * SANDBOXES, 30_000);
}

/** Everything below these processes, whatever it is called. */
function descendants(roots: ReadonlySet<number>): number[] {
  return allProcesses()
    .filter(({ parent, pid }) => roots.has(parent) && !roots.has(pid))
    .map(({ pid }) => pid);
}

describe("the death of a part", () => {
  it("leaves nothing of a hundred stubborn sandboxes when the server is killed", async () => {
    await using served = await serve();
    const marker = newMarker();
    await spawnStubborn(served.client, marker);
    const { tracerPid, wardenPid } = served;
    const below = new Set([wardenPid, ...descendants(new Set([tracerPid, wardenPid]))]);
    assert.ok(below.size >= SANDBOXES);
    served.command.child.kill("SIGKILL");
    await served.command.result;
    await eventually(
      "no process of any sandbox, no helper, warden or tracer is left",
      () => withArgument(marker).length === 0 && !isAlive(served.tracerPid) && [...below].every((pid) => !isAlive(pid)),
      WITHIN_MS,
    );
  });

  for (const part of ["warden", "tracer"] as const) {
    it(`leaves nothing either when the ${part} is killed, and the service says so and ends`, async () => {
      await using served = await serve();
      const marker = newMarker();
      await spawnStubborn(served.client, marker);
      process.kill(served[`${part}Pid`], "SIGKILL");
      await eventually("no process of any sandbox is left", () => withArgument(marker).length === 0, WITHIN_MS);
      const { status, stderr } = await served.command.result;
      assert.notEqual(status, 0);
      assert.match(stderr, /the warden (ended unexpectedly|closed its socket)/);
    });
  }

  it("drains at SIGTERM: programs are asked to end, streams are told, and the socket is gone", async () => {
    await using served = await serve();
    const { client } = served;
    const { sandbox } = await client.sandbox.spawn({
      requestId: requestId(),
      process: { argv: ["/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"] },
    });
    const sandboxId = sandbox?.sandboxId ?? "";
    const exit = client.sandbox.waitProcess({ sandboxId });
    let caughtUp = (): void => undefined;
    const watching = new Promise<void>((resolve) => {
      caughtUp = resolve;
    });
    const watch = (async () => {
      for await (const batch of client.watch.watch({})) if (batch.caughtUp) caughtUp();
    })();
    await watching;
    served.command.child.kill("SIGTERM");
    await assert.rejects(watch, (error) => error instanceof RemoteError && error.code === "UNAVAILABLE");
    assert.deepEqual((await exit).exit?.result, { case: "code", value: 3 });
    assert.equal((await served.command.result).status, 0);
    assert.deepEqual(readdirSync(served.directory), []);
  });

  it("lets the program go on when only its client dies", async () => {
    await using served = await serve();
    const marker = newMarker();
    const other = connect(`unix:${join(served.directory, "socket")}`);
    const { sandbox } = await other.sandbox.spawn({
      requestId: requestId(),
      process: { argv: ["/bin/sleep", marker] },
    });
    other.close();
    const { sandbox: seen } = await served.client.sandbox.getSandbox({ sandboxId: sandbox?.sandboxId ?? "" });
    assert.equal(seen?.state, SandboxState.RUNNING);
    assert.equal(withArgument(marker).length, 1);
  });
});
