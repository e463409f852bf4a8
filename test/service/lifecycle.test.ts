import assert from "node:assert/strict";
import { SandboxState, SignalScope } from "../../src/client/client.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { eventually, isAlive, statusOf } from "../support/processes.js";
import {
  refused,
  requestId,
  type Spec,
  spawn,
  startTestService,
  type TestSandbox,
  type TestService,
} from "../support/service.js";

const guest = guestPath("act");
const spec: Spec = { filesystem: { readable: [guestDirectory] } };
const shell = { argv: ["/bin/sh"], stdin: 2 };
const seconds = (count: number) => ({ seconds: BigInt(Math.floor(count)), nanos: Math.round((count % 1) * 1e9) });
/** Handles SIGTERM, says that it is ready, and waits in a child. */
const orderly = {
  argv: ["/bin/sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do read x; done"],
  stdin: 2,
};
const stubborn = { argv: ["/bin/sh", "-c", "trap '' TERM; echo ready; cat"], stdin: 2 };

describe("the life of a sandbox", () => {
  let service: TestService;
  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  const stateOf = async (sandbox: TestSandbox): Promise<SandboxState> => (await sandbox.get()).state;

  async function untilState(sandbox: TestSandbox, state: SandboxState): Promise<void> {
    while ((await stateOf(sandbox)) !== state);
  }

  describe("pausing", () => {
    it("stops every process, however it left its parent and session, and resuming lets all go on", async () => {
      await using sandbox = await spawn(service.client, { spec, process: shell });
      await sandbox.write(`${guest} setsid-double-fork\n`);
      const orphan = await sandbox.number(/(\d+)\n/);
      const other = await sandbox.exec({ argv: [guest, "setsid-double-fork", "stay"] });
      const nested = await other.number(/(\d+)\n/);
      const pids = [sandbox.pid, other.pid, orphan, nested];
      const states = (): string[] => pids.map((pid) => statusOf(pid)?.state ?? "gone");
      assert.ok(!states().includes("T") && !states().includes("gone"), states().join());

      const { sandboxId } = sandbox;
      const paused = await service.client.sandbox.pauseSandbox({ sandboxId });
      assert.equal(paused.sandbox?.state, SandboxState.PAUSED);
      // One that was running on another core stops a moment later.
      await eventually("all have stopped", () => states().every((state) => state === "T"));
      await service.client.sandbox.pauseSandbox({ sandboxId });
      assert.equal(await stateOf(sandbox), SandboxState.PAUSED);

      await sandbox.write("echo thawed\n");
      const resumed = await service.client.sandbox.resumeSandbox({ sandboxId });
      assert.equal(resumed.sandbox?.state, SandboxState.RUNNING);
      await sandbox.until(/thawed/);
      assert.ok(!states().includes("T"));
      await service.client.sandbox.resumeSandbox({ sandboxId });
    });

    it("leaves other sandboxes alone", async () => {
      await using one = await spawn(service.client, { spec, process: shell });
      await using other = await spawn(service.client, { spec, process: shell });
      await service.client.sandbox.pauseSandbox({ sandboxId: one.sandboxId });
      await other.write("echo runs\n");
      await other.until(/runs/);
      await eventually("the paused one has stopped", () => statusOf(one.pid)?.state === "T");
    });

    it("refuses new processes meanwhile, and a paused sandbox can be deleted", async () => {
      const sandbox = await spawn(service.client, { spec, process: shell });
      const { sandboxId } = sandbox;
      await service.client.sandbox.pauseSandbox({ sandboxId });
      const request = { sandboxId, process: { argv: ["/bin/true"] } };
      await refused(service.client.sandbox.exec({ ...request, requestId: requestId() }), {
        code: "FAILED_PRECONDITION",
        reason: "WRONG_STATE",
        metadata: { state: "paused" },
      });
      await service.client.sandbox.resumeSandbox({ sandboxId });
      await service.client.sandbox.exec({ ...request, requestId: requestId() });
      await service.client.sandbox.pauseSandbox({ sandboxId });
      await sandbox[Symbol.asyncDispose]();
      assert.equal(isAlive(sandbox.pid), false);
    });
  });

  describe("stopping", () => {
    it("lets the program end in its own way within the grace", async () => {
      await using sandbox = await spawn(service.client, { spec, process: orderly });
      await sandbox.until(/ready/);
      const { sandboxId } = sandbox;
      const stopped = await service.client.sandbox.stopSandbox({ sandboxId, grace: seconds(20) });
      assert.equal(stopped.sandbox?.state, SandboxState.ENDED);
      assert.equal(await sandbox.exit(), "code 3, client");
      assert.match(sandbox.stdout, /bye/);
      const again = await service.client.sandbox.stopSandbox({ sandboxId });
      assert.equal(again.sandbox?.state, SandboxState.ENDED);
    });

    it("kills what is still there after the grace", async () => {
      await using sandbox = await spawn(service.client, { spec, process: stubborn });
      await sandbox.until(/ready/);
      await service.client.sandbox.stopSandbox({ sandboxId: sandbox.sandboxId, grace: seconds(0.2) });
      assert.equal(await sandbox.exit(), "signal 9, client");
    });

    it("kills at once without a grace", async () => {
      await using sandbox = await spawn(service.client, { spec, process: orderly });
      await sandbox.until(/ready/);
      await service.client.sandbox.stopSandbox({ sandboxId: sandbox.sandboxId, grace: seconds(0) });
      assert.equal(await sandbox.exit(), "signal 9, client");
      assert.doesNotMatch(sandbox.stdout, /bye/);
    });

    it("reaches a paused program", async () => {
      await using sandbox = await spawn(service.client, { spec, process: orderly });
      await sandbox.until(/ready/);
      const { sandboxId } = sandbox;
      await service.client.sandbox.pauseSandbox({ sandboxId });
      await service.client.sandbox.stopSandbox({ sandboxId, grace: seconds(20) });
      assert.equal(await sandbox.exit(), "code 3, client");
    });
  });

  describe("the end of the main process", () => {
    it("ends everything else, daemons included", async () => {
      await using sandbox = await spawn(service.client, { spec, process: shell });
      await sandbox.write(`${guest} setsid-double-fork\n`);
      const orphan = await sandbox.number(/(\d+)\n/);
      assert.ok(isAlive(orphan));
      await sandbox.endInput();
      assert.equal(await sandbox.exit(), "code 0, self");
      await untilState(sandbox, SandboxState.ENDED);
      // The kernel tells of a filter's last task while that one is still on its way out.
      await eventually("the daemon is gone", () => !isAlive(orphan));
    });
  });

  describe("signals", () => {
    it("go to the process, its group, or everything", async () => {
      await using sandbox = await spawn(service.client, {
        spec,
        process: {
          argv: ["/bin/sh", "-c", "trap 'echo got' USR1; echo ready; while :; do read x; done"],
          stdin: 2,
        },
      });
      const other = await sandbox.exec({
        argv: ["/bin/sh", "-c", "trap 'echo got; exit 4' USR1; echo ready; while :; do read x; done"],
        stdin: 2,
      });
      await Promise.all([sandbox.until(/ready/), other.until(/ready/)]);
      const { sandboxId } = sandbox;
      const signal = (scope: SignalScope, processId = "") =>
        service.client.sandbox.signalProcess({ requestId: requestId(), sandboxId, processId, signal: 10, scope });
      assert.equal((await signal(SignalScope.PROCESS)).delivered, 1);
      await sandbox.until(/got/);
      assert.equal(other.stdout, "ready\n");
      await signal(SignalScope.SANDBOX);
      await sandbox.until(/got\ngot/);
      assert.equal(await other.exit(), "code 4, self");
      assert.equal((await signal(SignalScope.PROCESS, other.processId)).delivered, 0);
    });

    it("reach the children of a process only by its group", async () => {
      await using sandbox = await spawn(service.client, {
        spec,
        process: {
          argv: ["/bin/sh", "-c", `trap '' USR1; (trap - USR1; exec ${guest} sleep); echo over; cat`],
          stdin: 2,
        },
      });
      const child = await sandbox.number(/(\d+)\n/);
      const request = { sandboxId: sandbox.sandboxId, signal: 10 };
      await service.client.sandbox.signalProcess({ ...request, requestId: requestId(), scope: SignalScope.PROCESS });
      assert.ok(isAlive(child));
      await service.client.sandbox.signalProcess({ ...request, requestId: requestId(), scope: SignalScope.GROUP });
      await sandbox.until(/over/);
    });

    it("that kill say that a client did it", async () => {
      await using sandbox = await spawn(service.client, { spec, process: shell });
      const { sandboxId } = sandbox;
      await service.client.sandbox.signalProcess({ requestId: requestId(), sandboxId, signal: 9 });
      assert.equal(await sandbox.exit(), "signal 9, client");
      await untilState(sandbox, SandboxState.ENDED);
      await refused(service.client.sandbox.signalProcess({ requestId: requestId(), sandboxId, signal: 9 }), {
        code: "FAILED_PRECONDITION",
        reason: "WRONG_STATE",
        metadata: { state: "ended" },
      });
    });

    it("that end the sandbox before it could say so are no errors", async () => {
      for (let round = 0; round < 25; round++) {
        await using sandbox = await spawn(service.client, { spec, process: { argv: ["/bin/sleep", "600"] } });
        await service.client.sandbox.signalProcess({
          requestId: requestId(),
          sandboxId: sandbox.sandboxId,
          signal: 15,
          scope: SignalScope.SANDBOX,
        });
        assert.equal(await sandbox.exit(), "signal 15, self");
      }
    });

    it("with an unknown number are refused", async () => {
      await using sandbox = await spawn(service.client, { spec, process: shell });
      const { sandboxId } = sandbox;
      for (const signal of [0, 65]) {
        await refused(service.client.sandbox.signalProcess({ requestId: requestId(), sandboxId, signal }), {
          code: "INVALID_ARGUMENT",
          reason: "INVALID_FIELD",
          field: "signal",
        });
      }
    });
  });

  describe("a lifetime", () => {
    it("ends the sandbox, and says that a limit did it", async () => {
      await using sandbox = await spawn(service.client, {
        spec: { ...spec, lifetime: { maxDuration: seconds(0.3) } },
        process: shell,
      });
      assert.equal(await sandbox.exit(), "signal 9, limit");
    });

    it("of a year does not", async () => {
      await using sandbox = await spawn(service.client, {
        spec: { ...spec, lifetime: { maxDuration: seconds(365 * 86_400), retainAfterExit: seconds(365 * 86_400) } },
        process: shell,
      });
      await sandbox.write("echo lives\n");
      await sandbox.until(/lives/);
      await sandbox.endInput();
      assert.equal(await sandbox.exit(), "code 0, self");
      await untilState(sandbox, SandboxState.ENDED);
    });
  });

  describe("waiting for a decider", () => {
    const awaiting = {
      spec: { ...spec, holds: { onNoDecider: { grace: seconds(60) } } },
      process: { argv: ["/bin/sh", "-c", "echo started; cat"], stdin: 2 },
      awaitDecider: true,
    };

    it("starts nothing until one is there", async () => {
      const { sandbox } = await service.client.sandbox.spawn({ ...awaiting, requestId: requestId() });
      const sandboxId = sandbox?.sandboxId ?? "";
      assert.equal(sandbox?.state, SandboxState.CREATED);
      assert.equal(sandbox.processes[0]?.pid, 0);
      const decider = service.client.decision.decide();
      await decider.send({
        message: { case: "open", value: { decider: "test", window: 1, selector: { sandboxIds: [sandboxId] } } },
      });
      let found = await service.client.sandbox.getSandbox({ sandboxId });
      while (found.sandbox?.state !== SandboxState.RUNNING)
        found = await service.client.sandbox.getSandbox({ sandboxId });
      assert.ok((found.sandbox.processes[0]?.pid ?? 0) > 0);
      decider.cancel();
      await service.client.sandbox.deleteSandbox({ sandboxId });
    });

    it("gives up after the grace", async () => {
      const { sandbox } = await service.client.sandbox.spawn({
        ...awaiting,
        spec: { ...spec, holds: { onNoDecider: { grace: seconds(0.05) } } },
        requestId: requestId(),
      });
      const sandboxId = sandbox?.sandboxId ?? "";
      const { exit } = await service.client.sandbox.waitProcess({ sandboxId });
      assert.equal(exit?.result.case, "notStarted");
      await service.client.sandbox.deleteSandbox({ sandboxId });
    });

    it("starts after the grace where the static policy is the fallback", async () => {
      const { sandbox } = await service.client.sandbox.spawn({
        ...awaiting,
        process: { argv: ["/bin/true"] },
        spec: {
          ...spec,
          holds: {
            onNoDecider: { grace: seconds(0.05), fallback: { action: { case: "staticPolicy", value: {} } } },
          },
        },
        requestId: requestId(),
      });
      const sandboxId = sandbox?.sandboxId ?? "";
      const { exit } = await service.client.sandbox.waitProcess({ sandboxId });
      assert.deepEqual(exit?.result, { case: "code", value: 0 });
      await service.client.sandbox.deleteSandbox({ sandboxId });
    });

    it("can be stopped before", async () => {
      const { sandbox } = await service.client.sandbox.spawn({ ...awaiting, requestId: requestId() });
      const sandboxId = sandbox?.sandboxId ?? "";
      const waiting = service.client.sandbox.waitProcess({ sandboxId });
      const stopped = await service.client.sandbox.stopSandbox({ sandboxId });
      assert.equal(stopped.sandbox?.state, SandboxState.ENDED);
      assert.equal((await waiting).exit?.result.case, "notStarted");
      await service.client.sandbox.deleteSandbox({ sandboxId });
    });
  });

  it("leaves no process of a sandbox that was deleted while it forked", async () => {
    const marker = `forker-${process.pid}`;
    const sandbox = await spawn(service.client, {
      spec,
      process: { argv: ["/bin/sh", "-c", "echo ready; while :; do (setsid sleep 1000 &) ; done", marker] },
    });
    await sandbox.until(/ready/);
    await sandbox[Symbol.asyncDispose]();
    await eventually("nothing is left", () => !isAlive(sandbox.pid));
  });
});
