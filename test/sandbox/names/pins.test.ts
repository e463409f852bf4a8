import assert from "node:assert/strict";
import {
  createNamePins,
  GRACE_MS,
  type PinnedNames,
  STALE_MS,
  UnresolvedName,
} from "../../../src/sandbox/names/pins.js";
import { NameMissing, type NameResolver } from "../../../src/sandbox/names/resolver.js";
import { createManualClock } from "../../support/clock.js";

/** Answers what it is told to; counts. */
function scripted() {
  const answers = new Map<string, string[] | Error>();
  const state = { asked: 0, ttlMs: 30_000 };
  const resolver: NameResolver = {
    async resolve(name) {
      state.asked++;
      const answer = answers.get(name) ?? new NameMissing("no such name");
      if (answer instanceof Error) throw answer;
      return { addresses: answer.map((ip) => Uint8Array.from(ip.split(".").map(Number))), ttlMs: state.ttlMs };
    },
  };
  return { answers, state, resolver };
}

const reachable = (pinned: PinnedNames, name: string) => [...(pinned.table().get(name) ?? [])].sort();
const shown = (pinned: PinnedNames, name: string) => (pinned.current().get(name) ?? []).map((ip) => ip.join("."));
/** What was started by a timer has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("the addresses that names are pinned to", () => {
  it("are looked up again when their time to live ends, and tell when they changed", async () => {
    const { answers, state, resolver } = scripted();
    const clock = createManualClock();
    answers.set("a.test", ["192.0.2.1"]);
    let changes = 0;
    const pinned = await createNamePins(resolver, clock).open(["a.test"], () => changes++);
    clock.pass(29_999);
    await settled();
    assert.equal(state.asked, 1);
    answers.set("a.test", ["192.0.2.2"]);
    clock.pass(1);
    await settled();
    assert.deepEqual([state.asked, changes], [2, 1]);
    assert.deepEqual(shown(pinned, "a.test"), ["192.0.2.2"]);
    assert.deepEqual(reachable(pinned, "a.test"), ["192.0.2.1", "192.0.2.2"], "the last ones for a while");
    clock.pass(GRACE_MS);
    await settled();
    clock.pass(30_000);
    await settled();
    assert.deepEqual(reachable(pinned, "a.test"), ["192.0.2.2"]);
    assert.equal(changes, 2);
    pinned.close();
    assert.equal(clock.timers, 0);
  });

  it("are looked up no more often than every five seconds, and at least every five minutes", async () => {
    const { answers, state, resolver } = scripted();
    const clock = createManualClock();
    answers.set("a.test", ["192.0.2.1"]);
    state.ttlMs = 0;
    const pinned = await createNamePins(resolver, clock).open(["a.test"], () => undefined);
    clock.pass(4999);
    await settled();
    assert.equal(state.asked, 1);
    state.ttlMs = 86_400_000;
    clock.pass(1);
    await settled();
    assert.equal(state.asked, 2);
    clock.pass(5 * 60_000);
    await settled();
    assert.equal(state.asked, 3);
    pinned.close();
  });

  it("hold without an answer for a bounded time, then nothing is reached, until there is one", async () => {
    const { answers, resolver } = scripted();
    const clock = createManualClock();
    answers.set("a.test", ["192.0.2.1"]);
    let changes = 0;
    const pinned = await createNamePins(resolver, clock).open(["a.test"], () => changes++);
    answers.set("a.test", new Error("no server answers"));
    for (let passedMs = 0; passedMs < STALE_MS - 10_000; passedMs += 5000) {
      clock.pass(5000);
      await settled();
    }
    assert.deepEqual([reachable(pinned, "a.test"), changes], [["192.0.2.1"], 0]);
    for (let passedMs = 0; passedMs < 30_000; passedMs += 5000) {
      clock.pass(5000);
      await settled();
    }
    assert.deepEqual([reachable(pinned, "a.test"), changes], [[], 1]);
    answers.set("a.test", ["192.0.2.7"]);
    clock.pass(5000);
    await settled();
    assert.deepEqual([reachable(pinned, "a.test"), changes], [["192.0.2.7"], 2]);
    pinned.close();
  });

  it("are shared by those who use a name, and forgotten with the last of them", async () => {
    const { answers, state, resolver } = scripted();
    const clock = createManualClock();
    answers.set("a.test", ["192.0.2.1"]).set("b.test", ["192.0.2.2"]);
    const pins = createNamePins(resolver, clock);
    const [one, two] = [
      await pins.open(["a.test"], () => undefined),
      await pins.open(["a.test", "b.test"], () => undefined),
    ];
    assert.equal(state.asked, 2);
    assert.deepEqual(reachable(one, "b.test"), [], "no wider than its own rules");
    one.close();
    assert.equal(clock.timers, 2);
    two.close();
    assert.equal(clock.timers, 0);
  });

  it("say which name has none, and whether asking again may help", async () => {
    const { answers, resolver } = scripted();
    const clock = createManualClock();
    answers.set("a.test", ["192.0.2.1"]).set("slow.test", new Error("no server answers"));
    const pins = createNamePins(resolver, clock);
    const refusal = (name: string, isPassing: boolean) => (error: unknown) =>
      error instanceof UnresolvedName && error.host === name && error.isPassing === isPassing;
    await assert.rejects(
      pins.open(["a.test", "gone.test"], () => undefined),
      refusal("gone.test", false),
    );
    await assert.rejects(
      pins.open(["slow.test"], () => undefined),
      refusal("slow.test", true),
    );
    assert.equal(clock.timers, 0, "nothing is kept of what was refused");
  });
});
