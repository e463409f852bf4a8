import assert from "node:assert/strict";
import { createBoundedQueue } from "../../src/base/queue.js";

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe("bounded queue", () => {
  it("gives the items in order, to a reader that came first as to one that comes later", async () => {
    const early = createBoundedQueue<number>(4, "refuse");
    const reading = collect(early);
    for (const item of [1, 2, 3]) assert.equal(early.push(item), true);
    early.end();
    assert.deepEqual(await reading, [1, 2, 3]);

    const late = createBoundedQueue<number>(4, "refuse");
    for (const item of [1, 2, 3]) late.push(item);
    late.end();
    assert.deepEqual(await collect(late), [1, 2, 3]);
  });

  it("refuses the item that does not fit and takes it once there is room", async () => {
    const queue = createBoundedQueue<number>(2, "refuse");
    assert.deepEqual([queue.push(1), queue.push(2), queue.push(3)], [true, true, false]);
    const reader = queue[Symbol.asyncIterator]();
    assert.equal((await reader.next()).value, 1);
    assert.equal(queue.push(3), true);
    assert.deepEqual([(await reader.next()).value, (await reader.next()).value], [2, 3]);
  });

  it("drops and counts the oldest where asked to", async () => {
    const queue = createBoundedQueue<number>(3, "drop_oldest");
    for (let item = 0; item < 100; item += 1) assert.equal(queue.push(item), true);
    queue.end();
    assert.equal(queue.size, 3);
    assert.equal(queue.dropped, 97);
    assert.deepEqual(await collect(queue), [97, 98, 99]);
  });

  it("delivers what is queued before an error, and takes nothing after it", async () => {
    const queue = createBoundedQueue<number>(3, "refuse");
    queue.push(1);
    queue.fail(new Error("broken"));
    assert.equal(queue.push(2), false);
    const reader = queue[Symbol.asyncIterator]();
    assert.equal((await reader.next()).value, 1);
    await assert.rejects(reader.next(), /broken/);
  });

  it("takes nothing more once its reader has left", async () => {
    const queue = createBoundedQueue<number>(3, "refuse");
    queue.push(1);
    for await (const item of queue) {
      assert.equal(item, 1);
      break;
    }
    assert.equal(queue.push(2), false);
  });

  it("refuses a second reader", async () => {
    const queue = createBoundedQueue<number>(3, "refuse");
    const first = collect(queue);
    await assert.rejects(collect(queue), /one reader/);
    queue.end();
    assert.deepEqual(await first, []);
  });
});
