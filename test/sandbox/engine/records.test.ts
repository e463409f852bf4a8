import assert from "node:assert/strict";
import type { FromEngine } from "../../../src/sandbox/engine/protocol.js";
import { createRecords } from "../../../src/sandbox/engine/records.js";
import type { AutomaticSettlement } from "../../../src/sandbox/ports.js";

function createBench(counting = true) {
  const posted: FromEngine[] = [];
  const timers: (() => void)[] = [];
  const taken = new Int32Array(new SharedArrayBuffer(4));
  const records = createRecords({
    post: (message) => posted.push(message),
    after: (_delayMs, act) => timers.push(act),
    taken,
    counting,
  });
  return {
    records,
    taken,
    add: (sandboxId: string) => records.add(sandboxId, () => ({ sandboxId }) as unknown as AutomaticSettlement),
    timers,
    take: (kind: FromEngine["kind"]) => posted.splice(0).filter((message) => message.kind === kind),
    pass: () => timers.splice(0).forEach((act) => void act()),
  };
}

describe("records of calls that the engine settles", () => {
  it("go to the main thread as far as it takes them, and the others are counted by sandbox", () => {
    const { add, taken, take, pass, timers } = createBench();
    for (let at = 0; at < 9000; at++) add(at % 3 === 0 ? "one" : "two");
    const sent = take("automatic").length;
    assert.ok(sent > 0 && sent < 9000);
    assert.equal(timers.length, 1, "losses are told together");
    pass();
    const [told] = take("records_lost");
    assert.ok(told?.kind === "records_lost");
    assert.equal((told.bySandbox.get("one") ?? 0) + (told.bySandbox.get("two") ?? 0), 9000 - sent);
    Atomics.add(taken, 0, 10);
    for (let at = 0; at < 20; at++) add("one");
    assert.equal(take("automatic").length, 10);
    pass();
    const [later] = take("records_lost");
    assert.deepEqual(later?.kind === "records_lost" && [...later.bySandbox], [["one", 10]]);
  });

  it("are not made where there is no room for them", () => {
    const { add, records, take } = createBench();
    for (let at = 0; at < 9000; at++) add("one");
    take("automatic");
    records.add("one", () => assert.fail("made in vain"));
  });

  it("are counted by source and outcome only for somebody who looks", () => {
    const { records, take, pass } = createBench();
    records.count("rule", "deny");
    records.count("rule", "deny");
    records.count("static", "static");
    pass();
    const [told] = take("settled");
    assert.deepEqual(told?.kind === "settled" && [...told.counts], [
      ["rule deny", 2],
      ["static static", 1],
    ]);
    const unwatched = createBench(false);
    unwatched.records.count("rule", "deny");
    assert.equal(unwatched.timers.length, 0);
  });
});
