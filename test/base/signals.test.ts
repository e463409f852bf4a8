import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { createDeferred, linkedSignal, untilAborted } from "../../src/base/signals.js";

describe("linked signal", () => {
  it("aborts with the reason of whichever comes first", () => {
    const [a, b] = [new AbortController(), new AbortController()];
    using linked = linkedSignal(a.signal, b.signal);
    assert.equal(linked.signal.aborted, false);
    b.abort("second");
    a.abort("first");
    assert.equal(linked.signal.reason, "second");
  });

  it("is aborted from the start when one already is", () => {
    using linked = linkedSignal(new AbortController().signal, AbortSignal.abort("gone"));
    assert.equal(linked.signal.reason, "gone");
  });

  it("leaves no listener behind on a signal that lives on", () => {
    const service = new AbortController();
    for (let call = 0; call < 10; call += 1) {
      using linked = linkedSignal(new AbortController().signal, service.signal);
      assert.equal(getEventListeners(service.signal, "abort").length, 1);
      assert.equal(linked.signal.aborted, false);
    }
    assert.equal(getEventListeners(service.signal, "abort").length, 0);
  });
});

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
