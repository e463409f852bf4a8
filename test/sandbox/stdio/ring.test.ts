import assert from "node:assert/strict";
import fc from "fast-check";
import { appendToRing, createRing, readRing } from "../../../src/sandbox/stdio/ring.js";

const pieces = fc.array(fc.uint8Array({ maxLength: 5000 }), { maxLength: 20 });

describe("output ring", () => {
  it("keeps exactly the newest bytes, up to its capacity", () => {
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 9000 }), (appended, capacity) => {
        const ring = createRing(capacity);
        for (const piece of appended) appendToRing(ring, piece, ring.next + piece.length);
        const all = Buffer.concat(appended);
        assert.equal(ring.next, all.length);
        assert.equal(ring.oldest, Math.max(0, all.length - capacity));
        assert.deepEqual(readRing(ring, ring.oldest, capacity), all.subarray(ring.oldest));
      }),
    );
  });

  it("keeps everything from the given offset on, even beyond its capacity", () => {
    fc.assert(
      fc.property(
        pieces,
        fc.integer({ min: 1, max: 3000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (appended, capacity, part) => {
          const ring = createRing(capacity);
          const all = Buffer.concat(appended);
          const keepFrom = Math.floor(all.length * part);
          for (const piece of appended) appendToRing(ring, piece, keepFrom);
          assert.ok(ring.oldest <= keepFrom);
          assert.deepEqual(readRing(ring, keepFrom, all.length), all.subarray(keepFrom));
        },
      ),
    );
  });

  it("gives copies that later output does not change, and nothing that is not kept", () => {
    const ring = createRing(4);
    appendToRing(ring, Buffer.from("abcd"), 4);
    const copy = readRing(ring, 0, 4);
    appendToRing(ring, Buffer.from("efgh"), 8);
    assert.equal(copy.toString(), "abcd");
    assert.equal(readRing(ring, 4, 4).toString(), "efgh");
    assert.throws(() => readRing(ring, 3, 1), RangeError);
    assert.throws(() => readRing(ring, 9, 1), RangeError);
  });
});
