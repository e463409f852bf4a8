import assert from "node:assert/strict";
import { formatTraceparent, parseTraceparent } from "../../src/base/traceparent.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const spanId = "b7ad6b7169203331";

describe("a traceparent", () => {
  it("is read and written as W3C Trace Context has it", () => {
    const text = `00-${traceId}-${spanId}-01`;
    assert.deepEqual(parseTraceparent(text), { traceId, spanId, traceFlags: 1 });
    assert.equal(formatTraceparent({ traceId, spanId, traceFlags: 1 }), text);
    assert.deepEqual(parseTraceparent(`cc-${traceId}-${spanId}-00-what.comes.later`), {
      traceId,
      spanId,
      traceFlags: 0,
    });
  });

  it("is none when it is malformed, without an id, or longer than its version may be", () => {
    for (const text of [
      "",
      "nonsense",
      `ff-${traceId}-${spanId}-01`,
      `00-${traceId}-${spanId}-01-more`,
      `00-${traceId.toUpperCase()}-${spanId}-01`,
      `00-${"0".repeat(32)}-${spanId}-01`,
      `00-${traceId}-${"0".repeat(16)}-01`,
      `00-${traceId}-${spanId}`,
    ]) {
      assert.equal(parseTraceparent(text), undefined, text);
    }
  });
});
