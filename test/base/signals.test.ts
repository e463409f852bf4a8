import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { createDeferred, untilAborted } from "../../src/base/signals.js";

describe("waiting until aborted", () => {
  it("gives the value, or the reason of the abort that came before it", async () => {
    const controller = new AbortController();
    assert.equal(await untilAborted(Promise.resolve("value"), controller.signal), "value");
    const never = createDeferred();
    const waiting = untilAborted(never.promise, controller.signal);
    controller.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
    await assert.rejects(untilAborted(Promise.resolve("value"), controller.signal), /enough/);
    assert.equal(getEventListeners(controller.signal, "abort").length, 0);
  });
});
