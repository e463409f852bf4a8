import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { connect, RemoteError, SandboxState } from "../../src/client/client.js";
import { processHandlers } from "../../src/sandbox/handlers/processes.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { eventually, isAlive } from "../support/processes.js";
import {
  describeExit,
  refused,
  requestId,
  run,
  type SpawnInit,
  spawn,
  startTestService,
  type TestService,
} from "../support/service.js";

const guest = guestPath("act");
const sleeper: SpawnInit = { process: { argv: [guest, "sleep"] } };

describe("spawn and run", () => {
  let service: TestService;
  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  describe("a run", () => {
    it("streams both outputs and ends with the exit code", async () => {
      const ran = await run(service.client, {
        process: { argv: ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"] },
      });
      assert.deepEqual([ran.stdout, ran.stderr], ["out\n", "err\n"]);
      assert.equal(describeExit(ran.exit), "code 7, self");
    });

    it("reports the signal that a program died of", async () => {
      const { exit } = await run(service.client, { process: { argv: ["/bin/sh", "-c", "kill -TERM $$"] } });
      assert.equal(describeExit(exit), "signal 15, self");
    });

    it("measures the time and the memory that the program used", async () => {
      const { exit } = await run(service.client, {
        process: { argv: ["/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"] },
      });
      const { cpuTime, peakMemoryBytes = 0n } = exit.usage ?? {};
      assert.ok((cpuTime?.nanos ?? 0) > 10_000_000 || (cpuTime?.seconds ?? 0n) > 0n, "some CPU time");
      assert.ok(peakMemoryBytes > 500_000n, `${peakMemoryBytes} bytes`);
    });

    it("feeds standard input and ends it, and without any the program reads the end at once", async () => {
      const fed = await run(service.client, { process: { argv: ["/bin/cat"] }, stdin: Buffer.from("hello\n") });
      assert.equal(fed.stdout, "hello\n");
      const closed = await run(service.client, { process: { argv: ["/bin/cat"] } });
      assert.equal(describeExit(closed.exit), "code 0, self");
    });

    it("delivers at most the output that was asked for and counts the rest", async () => {
      let output = 0;
      let dropped = 0n;
      for await (const { part } of service.client.sandbox.run({
        process: { argv: [guest, "flood-stdout", "300000"] },
        maxOutputBytes: 100_000n,
      })) {
        if (part.case === "output") output += part.value.data.length;
        if (part.case === "result") dropped = part.value.droppedOutputBytes;
      }
      assert.deepEqual([output, dropped], [100_000, 200_000n]);
    });

    it("is killed when its client cancels, with everything that it started", async () => {
      const cancel = new AbortController();
      const pids: number[] = [];
      await assert.rejects(async () => {
        const program = `${guest} setsid-double-fork; exec ${guest} sleep`;
        for await (const { part } of service.client.sandbox.run(
          { spec: { filesystem: { readable: [guestDirectory] } }, process: { argv: ["/bin/sh", "-c", program] } },
          { signal: cancel.signal },
        )) {
          if (part.case !== "output") continue;
          pids.push(...Buffer.from(part.value.data).toString().trim().split("\n").map(Number));
          if (pids.length < 2) continue;
          assert.deepEqual(pids.map(isAlive), [true, true]);
          cancel.abort();
        }
      }, RemoteError);
      assert.equal(pids.length, 2);
      await eventually("the run's processes are gone", () => !pids.some(isAlive));
    });

    it("is killed at its deadline", async () => {
      let pid = 0;
      const running = async (): Promise<void> => {
        for await (const { part } of service.client.sandbox.run(sleeper, { timeoutMs: 400 })) {
          if (part.case === "output") pid = Number(Buffer.from(part.value.data).toString());
        }
      };
      await assert.rejects(running(), (error: RemoteError) => error.code === "DEADLINE_EXCEEDED");
      assert.ok(pid > 0, "it ran");
      await eventually("the run's process is gone", () => !isAlive(pid));
    });

    it("is forgotten at its end", async () => {
      const { sandboxId } = await run(service.client, { process: { argv: ["/bin/true"] } });
      assert.notEqual(sandboxId, "");
      let known = true;
      while (known) {
        known = await service.client.sandbox.getSandbox({ sandboxId }).then(
          () => true,
          () => false,
        );
        await turn();
      }
      await refused(service.client.sandbox.getSandbox({ sandboxId }), {
        code: "NOT_FOUND",
        reason: "SANDBOX_NOT_FOUND",
        field: "sandbox_id",
      });
    });
  });

  describe("a spawn", () => {
    it("answers once the program runs, with its pid, state and plan", async () => {
      await using sandbox = await spawn(service.client, { ...sleeper, sandboxId: "chosen-1" });
      assert.equal(sandbox.sandboxId, "chosen-1");
      assert.equal(sandbox.sandbox.state, SandboxState.RUNNING);
      assert.equal(await sandbox.number(/(\d+)\n/), sandbox.pid);
      const [main, ...others] = (await sandbox.get()).processes;
      assert.deepEqual([main?.processId, main?.pid, others.length], ["main", sandbox.pid, 0]);
      assert.deepEqual(main?.spec?.argv, sleeper.process?.argv);
    });

    it("takes an id once, and takes it again when its sandbox was deleted", async () => {
      const first = await spawn(service.client, { ...sleeper, sandboxId: "taken" });
      await refused(service.client.sandbox.spawn({ ...sleeper, sandboxId: "taken", requestId: requestId() }), {
        code: "ALREADY_EXISTS",
        reason: "SANDBOX_EXISTS",
        field: "sandbox_id",
        metadata: { sandbox_id: "taken" },
      });
      await first[Symbol.asyncDispose]();
      await using again = await spawn(service.client, { ...sleeper, sandboxId: "taken" });
      assert.equal(again.sandboxId, "taken");
      assert.notEqual(again.pid, first.pid);
    });

    it("chooses another id for each sandbox when none is given", async () => {
      await using one = await spawn(service.client, sleeper);
      await using other = await spawn(service.client, sleeper);
      assert.match(one.sandboxId, /^[\w.-]{20,64}$/);
      assert.notEqual(one.sandboxId, other.sandboxId);
    });

    it("makes one sandbox of one request id, however often and however fast it is repeated", async () => {
      const request = { ...sleeper, requestId: requestId(), spec: { labels: { test: "idempotent" } } };
      const answers = await Promise.all(Array.from({ length: 8 }, () => service.client.sandbox.spawn(request)));
      answers.push(await service.client.sandbox.spawn(request));
      const ids = new Set(answers.map(({ sandbox }) => sandbox?.sandboxId));
      const { sandboxes } = await service.client.sandbox.listSandboxes({
        selector: { labels: { test: "idempotent" } },
      });
      assert.deepEqual([ids.size, sandboxes.length], [1, 1]);
      await refused(service.client.sandbox.spawn({ ...request, process: { argv: ["/bin/true"] } }), {
        code: "ALREADY_EXISTS",
        reason: "REQUEST_ID_REUSED",
        field: "request_id",
      });
      await service.client.sandbox.deleteSandbox({ sandboxId: sandboxes[0]?.sandboxId ?? "" });
    });

    it("outlives the client that made it", async () => {
      const client = connect(service.address);
      const { sandbox } = await client.sandbox.spawn({ ...sleeper, requestId: requestId() });
      client.close();
      const sandboxId = sandbox?.sandboxId ?? "";
      const found = await service.client.sandbox.getSandbox({ sandboxId });
      assert.equal(found.sandbox?.state, SandboxState.RUNNING);
      assert.ok(isAlive(found.sandbox?.processes[0]?.pid ?? 0));
      await service.client.sandbox.deleteSandbox({ sandboxId });
    });

    it("keeps the record, the exit and the output of an ended sandbox", async () => {
      const { sandbox } = await service.client.sandbox.spawn({
        requestId: requestId(),
        spec: { labels: { test: "kept" } },
        process: { argv: ["/bin/sh", "-c", "echo kept; exit 3"] },
      });
      const sandboxId = sandbox?.sandboxId ?? "";
      const { exit } = await service.client.sandbox.waitProcess({ sandboxId });
      assert.ok(exit);
      assert.equal(describeExit(exit), "code 3, self");
      const selector = { labels: { test: "kept" } };
      let ended = await service.client.sandbox.getSandbox({ sandboxId });
      while (ended.sandbox?.state !== SandboxState.ENDED)
        ended = await service.client.sandbox.getSandbox({ sandboxId });
      assert.ok(ended.sandbox.endTime, "it has an end time");
      const live = await service.client.sandbox.listSandboxes({ selector });
      const over = await service.client.sandbox.listSandboxes({ selector, states: [SandboxState.ENDED] });
      assert.deepEqual([live.sandboxes.length, over.sandboxes.length], [0, 1]);
      const attachment = service.client.stdio.attach();
      await attachment.send({ message: { case: "open", value: { sandboxId, offsets: { 1: 0n, 2: 0n } } } });
      let output = "";
      for await (const { message } of attachment.messages) {
        if (message.case === "output") output += Buffer.from(message.value.data).toString();
      }
      assert.equal(output, "kept\n");
      assert.deepEqual(await service.client.sandbox.deleteSandbox({ sandboxId }).then(({ existed }) => existed), true);
      assert.deepEqual(await service.client.sandbox.deleteSandbox({ sandboxId }).then(({ existed }) => existed), false);
    });

    it("forgets an ended sandbox at once where nothing is to be retained, and still tells who waits", async () => {
      const { sandbox } = await service.client.sandbox.spawn({
        requestId: requestId(),
        spec: { lifetime: { retainAfterExit: { seconds: 0n, nanos: 0 } } },
        process: { argv: ["/bin/cat"], stdin: 2 },
      });
      const sandboxId = sandbox?.sandboxId ?? "";
      const waiting = service.client.sandbox.waitProcess({ sandboxId });
      await service.client.sandbox.stopSandbox({ sandboxId, grace: { seconds: 0n, nanos: 0 } });
      const { exit } = await waiting;
      assert.ok(exit);
      assert.equal(describeExit(exit), "signal 9, client");
      await refused(service.client.sandbox.getSandbox({ sandboxId }), {
        code: "NOT_FOUND",
        reason: "SANDBOX_NOT_FOUND",
        field: "sandbox_id",
      });
    });

    it("only checks when asked to, and tells what it would do", async () => {
      const request = {
        requestId: requestId(),
        validateOnly: true,
        spec: { labels: { test: "checked" }, holds: { triggers: [{ syscalls: ["execve"] }] } },
        process: { argv: [guest, "sleep"] },
      };
      const { sandbox } = await service.client.sandbox.spawn(request);
      assert.deepEqual([sandbox?.sandboxId, sandbox?.processes], ["", []]);
      const notified = sandbox?.plan?.notifiedSyscalls.filter((name) => processHandlers[name] === undefined);
      assert.deepEqual(notified, ["execve", "inotify_add_watch", "execveat"]);
      const { sandboxes } = await service.client.sandbox.listSandboxes({ selector: { labels: request.spec.labels } });
      assert.deepEqual(sandboxes, []);
      await refused(service.client.sandbox.spawn({ ...request, requestId: requestId(), process: { argv: [] } }), {
        code: "INVALID_ARGUMENT",
        reason: "INVALID_FIELD",
        field: "process.argv",
      });
    });
  });

  it("lists by label and by page, oldest first", async () => {
    const labels = { test: "pages" };
    const made: string[] = [];
    for (let index = 0; index < 5; index++) {
      const { sandbox } = await service.client.sandbox.spawn({ ...sleeper, requestId: requestId(), spec: { labels } });
      made.push(sandbox?.sandboxId ?? "");
    }
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await service.client.sandbox.listSandboxes({ selector: { labels }, pageSize: 2, pageToken });
      assert.ok(page.sandboxes.length <= 2);
      seen.push(...page.sandboxes.map(({ sandboxId }) => sandboxId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.deepEqual([...seen].sort(), [...made].sort());
    await Promise.all(made.map((sandboxId) => service.client.sandbox.deleteSandbox({ sandboxId })));
  });

  it("answers a hundred spawns at once, each with the output of its own program", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): number => warnings.push(warning);
    process.on("warning", onWarning);
    const ran = await Promise.all(
      Array.from({ length: 100 }, (_, index) =>
        run(service.client, { process: { argv: ["/bin/echo", `number ${index}`] } }),
      ),
    );
    assert.deepEqual(
      ran.map(({ stdout }) => stdout),
      Array.from({ length: 100 }, (_, index) => `number ${index}\n`),
    );
    process.removeListener("warning", onWarning);
    assert.deepEqual(warnings, [], "Node has nothing to warn of");
  });
});

describe("the quota of a tenant", () => {
  it("refuses one sandbox more, and lets it in when another was deleted", async () => {
    await using service = await startTestService({ maxSandboxes: 2 });
    const one = await spawn(service.client, sleeper);
    await using _two = await spawn(service.client, sleeper);
    await refused(service.client.sandbox.spawn({ ...sleeper, requestId: requestId() }), {
      code: "RESOURCE_EXHAUSTED",
      reason: "QUOTA_EXHAUSTED",
      metadata: { limit: "2" },
    });
    await one[Symbol.asyncDispose]();
    await using three = await spawn(service.client, sleeper);
    assert.ok(isAlive(three.pid));
  });
});
