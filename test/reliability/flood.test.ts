import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { EventKind, GapCause, OutputOverflow } from "../../src/client/client.js";
import { guestPath } from "../support/guests.js";
import { eventually, statusOf } from "../support/processes.js";
import { requestId, startTestService } from "../support/service.js";

const FLOOD_BYTES = 256 * 1024 * 1024;
const KEPT_BYTES = 64 * 1024;
const GROWTH_BYTES = 64 * 1024 * 1024;

describe("output that nobody reads", () => {
  it("costs bounded memory, and says how much of it was dropped", async () => {
    await using test = await startTestService();
    const before = process.memoryUsage.rss();
    const { sandbox } = await test.client.sandbox.spawn({
      requestId: requestId(),
      spec: { filesystem: { readable: [guestPath("act")] }, journal: { maxOutputBytes: KEPT_BYTES } },
      process: { argv: [guestPath("act"), "flood-stdout", `${FLOOD_BYTES}`] },
    });
    const sandboxId = sandbox?.sandboxId ?? "";
    const { exit } = await test.client.sandbox.waitProcess({ sandboxId });
    assert.deepEqual(exit?.result, { case: "code", value: 0 });
    assert.ok(process.memoryUsage.rss() - before < GROWTH_BYTES, "the service grew with what nobody read");

    const attach = test.client.stdio.attach();
    await attach.send({ message: { case: "open", value: { sandboxId, offsets: { 1: 0n, 2: 0n } } } });
    let kept = 0;
    let dropped = 0n;
    for await (const { message } of attach.messages) {
      if (message.case !== "output") continue;
      kept += message.value.data.length;
      dropped += message.value.dropped;
    }
    assert.equal(BigInt(kept) + dropped, BigInt(FLOOD_BYTES));
    assert.ok(kept > 0 && kept <= KEPT_BYTES);
  });

  it("makes the program wait where that was asked for, and then loses nothing", async () => {
    await using test = await startTestService();
    const bytes = 8 * 1024 * 1024;
    const { sandbox } = await test.client.sandbox.spawn({
      requestId: requestId(),
      spec: { filesystem: { readable: [guestPath("act")] }, journal: { maxOutputBytes: KEPT_BYTES } },
      process: { argv: [guestPath("act"), "flood-stdout", `${bytes}`], outputOverflow: OutputOverflow.WAIT },
    });
    const sandboxId = sandbox?.sandboxId ?? "";
    const pid = sandbox?.processes[0]?.pid ?? 0;
    // Asleep in its write, which it is once the ring and the pipe are full.
    await eventually("the program waits", () => statusOf(pid)?.state === "S");
    const attach = test.client.stdio.attach();
    await attach.send({ message: { case: "open", value: { sandboxId, offsets: { 1: 0n } } } });
    let received = 0;
    for await (const { message } of attach.messages) {
      if (message.case === "exit") assert.deepEqual(message.value.result, { case: "code", value: 0 });
      if (message.case !== "output") continue;
      assert.equal(message.value.dropped, 0n);
      received += message.value.data.length;
      await attach.send({ message: { case: "credit", value: { bytes: message.value.data.length } } });
    }
    assert.equal(received, bytes);
  });
});

describe("recorded calls that the service is too slow for", () => {
  const CALLS = 20_000;

  it("delay no program and cost bounded memory: they are a gap with their number", async () => {
    await using test = await startTestService();
    const flag = join(test.directory, "done");
    const watching = test.client.watch.watch({ include: [{ kinds: [EventKind.CALL_SETTLED] }] });
    const responses = watching[Symbol.asyncIterator]();
    assert.ok((await responses.next()).value?.caughtUp);
    const script = `import os
for i in range(${CALLS}): os.kill(0, 0)
open(${JSON.stringify(flag)}, "w")`;
    await test.client.sandbox.spawn({
      requestId: requestId(),
      spec: {
        filesystem: { writable: [test.directory] },
        rules: [{ name: "kills", match: { syscalls: ["kill"] }, action: { case: "allow", value: {} } }],
        journal: { recordAutomatic: true },
      },
      process: { argv: ["python3", "-c", script] },
    });
    // The main thread takes nothing until the program is done; nothing of it waits for that.
    while (!existsSync(flag)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    let recorded = 0;
    let lost = 0;
    while (recorded + lost < CALLS) {
      const { value } = await responses.next();
      recorded += value.events.length;
      for (const gap of value.gaps) {
        assert.equal(gap.cause, GapCause.JOURNAL);
        lost += Number(gap.lost);
      }
    }
    assert.equal(recorded + lost, CALLS);
    assert.ok(recorded >= 1000 && lost >= 1000, `${recorded} recorded, ${lost} lost`);
    await responses.return?.();
  });
});
