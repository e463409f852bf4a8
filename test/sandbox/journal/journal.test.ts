import assert from "node:assert/strict";
import fc from "fast-check";
import { SandboxError } from "../../../src/base/errors.js";
import type { LostEvents } from "../../../src/sandbox/journal/entry.js";
import { createJournal, type Journal, type JournalOptions } from "../../../src/sandbox/journal/journal.js";
import type { Gap, WatchBatch, WatchOptions } from "../../../src/sandbox/journal/watch.js";
import type { DomainEvent, EventBody, HeldCall, SandboxInfo } from "../../../src/sandbox/model.js";
import { createManualClock } from "../../support/clock.js";
import { fileCall } from "../decisions/support.js";

const everything: WatchOptions = {
  selector: { sandboxIds: new Set(), labels: new Map() },
  start: { kind: "now" },
  include: [],
  exclude: [],
  progressIntervalMs: 15_000,
  maxDelayMs: 0,
  maxBatch: 0,
  buffer: 0,
  overflow: "report_gap",
  aggregation: undefined,
};
const noMatch = {
  syscalls: [],
  categories: [],
  paths: [],
  writesOnly: false,
  destinations: [],
  executables: [],
  programs: [],
  arguments: [],
};

function happening(body: EventBody, changes: Partial<DomainEvent> = {}): DomainEvent {
  return { timeMs: 1, sandboxId: "box", tenant: "tenant", labels: new Map(), task: undefined, body, ...changes };
}

const limit = (name: string): EventBody => ({ kind: "limit_reached", limit: name, action: "" });
const heldCall = (call: HeldCall): EventBody => ({ kind: "call_held", call });
const settledCall = (call: HeldCall, kind: "allow" | "deny"): EventBody => ({
  kind: "call_settled",
  call,
  settlement: kind === "allow" ? { kind } : { kind, errno: 1 },
  source: kind === "allow" ? "decider" : "timeout",
  sourceName: "",
  reason: "",
  heldMs: 0,
});

/** A sandbox as far as a journal looks at one. */
function sandbox(sandboxId: string): SandboxInfo {
  const info: Pick<SandboxInfo, "sandboxId" | "state"> & { spec: Pick<SandboxInfo["spec"], "labels"> } = {
    sandboxId,
    state: "running",
    spec: { labels: new Map() },
  };
  return info as SandboxInfo;
}

function createBench(options: Partial<JournalOptions> = {}) {
  const clock = createManualClock();
  const journal = createJournal({ epoch: "run-1", maxEvents: 100, clock, snapshot: () => [], ...options });
  return { clock, journal, watch: (changes: Partial<WatchOptions> = {}) => open(journal, changes) };
}

/** A watcher that takes everything that is there. */
function open(journal: Journal, changes: Partial<WatchOptions> = {}, tenant = "tenant") {
  const stop = new AbortController();
  const batches = journal.watch(tenant, { ...everything, ...changes }, stop.signal);
  let pending: Promise<IteratorResult<WatchBatch>> | undefined;

  /** Takes one batch, if there is one within the turn. */
  async function readOne(): Promise<WatchBatch | undefined> {
    pending ??= batches.next();
    const next = await Promise.race([pending, new Promise<undefined>((resolve) => setImmediate(resolve, undefined))]);
    if (next === undefined || next.done === true) return undefined;
    pending = undefined;
    return next.value;
  }

  return {
    readOne,
    stop: () => stop.abort(),
    next: () => batches.next(),
    async read(): Promise<WatchBatch[]> {
      const found: WatchBatch[] = [];
      for (let batch = await readOne(); batch !== undefined; batch = await readOne()) found.push(batch);
      return found;
    },
  };
}

const sequences = (batches: readonly WatchBatch[]): number[] =>
  batches.flatMap(({ events }) => events.map(({ sequence }) => sequence));
const gapsOf = (batches: readonly WatchBatch[]): Gap[] => batches.flatMap(({ gaps }) => gaps);
const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, at) => first + at);

function failsWith(reason: SandboxError["reason"]): (error: unknown) => boolean {
  return (error) => error instanceof SandboxError && error.reason === reason;
}

describe("a watch", () => {
  it("begins now, says at once that it has caught up, and gets what follows in order", async () => {
    const { journal, watch } = createBench();
    journal.append(happening(limit("before")));
    const watcher = watch();
    const [first, ...others] = await watcher.read();
    assert.deepEqual(
      [first?.caughtUp, first?.cursor, first?.events, others],
      [true, { epoch: "run-1", sequence: 1 }, [], []],
    );
    for (const name of ["a", "b", "c"]) journal.append(happening(limit(name)));
    const batches = await watcher.read();
    assert.deepEqual(sequences(batches), [2, 3, 4]);
    assert.ok(batches.every(({ caughtUp }) => !caughtUp));
  });

  it("begins with the oldest event kept", async () => {
    const { journal, watch } = createBench({ maxEvents: 5 });
    for (let at = 1; at <= 12; at += 1) journal.append(happening(limit("x")));
    assert.deepEqual(sequences(await watch({ start: { kind: "oldest" } }).read()), [8, 9, 10, 11, 12]);
  });

  it("begins with a snapshot of the selected sandboxes, then what follows", async () => {
    const names = range(1, 150).map((at) => `box-${at}`);
    const { journal, watch } = createBench({ snapshot: (tenant) => (tenant === "tenant" ? names.map(sandbox) : []) });
    journal.append(happening(limit("before")));
    const watcher = watch({ start: { kind: "snapshot" } });
    journal.append(happening(limit("after")));
    const batches = await watcher.read();
    const ids = batches.flatMap(({ events }) => events.map(({ event }) => event.sandboxId));
    assert.deepEqual(ids, [...names, "box"]);
    assert.equal(batches.filter(({ caughtUp }) => caughtUp).length, 1);
    assert.equal(batches.at(-1)?.caughtUp, true);
    const selector = { sandboxIds: new Set(["box-7"]), labels: new Map<string, string>() };
    assert.equal((await watch({ start: { kind: "snapshot" }, selector }).read())[0]?.events.length, 1);
  });

  it("resumes after any cursor without loss and without a duplicate", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ append: fc.nat({ max: 200 }), reads: fc.nat({ max: 4 }) }), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.integer({ min: 1, max: 64 }),
        async (turns, maxBatch) => {
          const { journal } = createBench({ maxEvents: 4096 });
          const seen: number[] = [];
          let cursor = journal.cursor();
          for (const { append, reads } of turns) {
            const watcher = open(journal, { start: { kind: "after", cursor }, maxBatch });
            for (let at = 0; at < append; at += 1) journal.append(happening(limit("x")));
            for (let at = 0; at < reads; at += 1) {
              const batch = await watcher.readOne();
              if (batch === undefined) break;
              seen.push(...sequences([batch]));
              cursor = batch.cursor;
            }
            watcher.stop();
          }
          const rest = await open(journal, { start: { kind: "after", cursor } }).read();
          assert.deepEqual([...seen, ...sequences(rest)], range(1, journal.cursor().sequence));
        },
      ),
      { numRuns: 50 },
    );
  });

  it("refuses a cursor of another run, one that is too old, and one from the future", () => {
    const { journal, watch } = createBench({ maxEvents: 5 });
    for (let at = 1; at <= 12; at += 1) journal.append(happening(limit("x")));
    const resume = (epoch: string, sequence: number) => () =>
      watch({ start: { kind: "after", cursor: { epoch, sequence } } });
    assert.throws(resume("run-0", 12), failsWith("CURSOR_EPOCH_CHANGED"));
    assert.throws(resume("run-1", 6), failsWith("CURSOR_COMPACTED"));
    assert.throws(resume("run-1", 13), failsWith("INVALID_FIELD"));
    resume("run-1", 7)();
  });

  it("moves its cursor past events that it does not want, and tells so when it is quiet for long", async () => {
    const { journal, watch, clock } = createBench();
    const watcher = watch({
      include: [{ kinds: ["call_held"], match: undefined, sources: [], refusalsOnly: false }],
      progressIntervalMs: 1000,
    });
    await watcher.read();
    journal.append(happening(limit("x")));
    assert.deepEqual(await watcher.read(), []);
    clock.pass(1000);
    assert.deepEqual(
      (await watcher.read()).map(({ cursor, events }) => [cursor.sequence, events.length]),
      [[1, 0]],
    );
  });

  it("waits max_delay for a fuller message, but not when it is full", async () => {
    const { journal, watch, clock } = createBench();
    const watcher = watch({ maxDelayMs: 5, maxBatch: 4 });
    await watcher.read();
    journal.append(happening(limit("x")));
    assert.deepEqual(await watcher.read(), []);
    journal.append(happening(limit("x")));
    clock.pass(4);
    assert.deepEqual(await watcher.read(), []);
    clock.pass(1);
    assert.deepEqual(
      (await watcher.read()).map(({ events }) => events.length),
      [2],
    );
    for (let at = 0; at < 4; at += 1) journal.append(happening(limit("x")));
    assert.deepEqual(
      (await watcher.read()).map(({ events }) => events.length),
      [4],
    );
  });

  it("gets no event of another tenant, and only those of the sandboxes it selected", async () => {
    const { journal } = createBench();
    const byId = open(journal, { selector: { sandboxIds: new Set(["b"]), labels: new Map() } });
    const byLabel = open(journal, { selector: { sandboxIds: new Set(), labels: new Map([["team", "red"]]) } });
    const stranger = open(journal, {}, "other tenant");
    journal.append(happening(limit("1"), { sandboxId: "a", labels: new Map([["team", "red"]]) }));
    journal.append(happening(limit("2"), { sandboxId: "b", labels: new Map([["team", "blue"]]) }));
    journal.append(happening(limit("3"), { sandboxId: "b", tenant: "third tenant" }));
    assert.deepEqual(sequences(await byId.read()), [2]);
    assert.deepEqual(sequences(await byLabel.read()), [1]);
    assert.deepEqual(sequences(await stranger.read()), []);
  });

  it("filters by kind, by source, by refusal and by what a call is about, and leaves out what is excluded", async () => {
    const { journal } = createBench();
    const filter = { kinds: [], match: undefined, sources: [], refusalsOnly: false };
    const cases: [Partial<WatchOptions>, number[]][] = [
      [{ include: [{ ...filter, kinds: ["call_held"] }] }, [2, 3]],
      [{ include: [{ ...filter, sources: ["timeout"] }] }, [5]],
      [{ include: [{ ...filter, refusalsOnly: true }] }, [5]],
      [{ include: [{ ...filter, match: { ...noMatch, paths: ["/etc/*"] } }] }, [2, 4]],
      [
        {
          include: [
            { ...filter, refusalsOnly: true },
            { ...filter, kinds: ["limit_reached"] },
          ],
        },
        [1, 5],
      ],
      [{ exclude: [{ ...filter, kinds: ["call_held"] }] }, [1, 4, 5]],
      [{ include: [{ ...filter, kinds: ["call_settled"] }], exclude: [{ ...filter, refusalsOnly: true }] }, [4]],
      [{}, [1, 2, 3, 4, 5]],
    ];
    const watchers = cases.map(([changes, wanted]) => ({ watcher: open(journal, changes), wanted }));
    journal.append(happening(limit("x")));
    journal.append(happening(heldCall(fileCall(1, { path: "/etc/passwd" }))));
    journal.append(happening(heldCall(fileCall(2, { path: "/tmp/x" }))));
    journal.append(happening(settledCall(fileCall(1, { path: "/etc/passwd" }), "allow")));
    journal.append(happening(settledCall(fileCall(2, { path: "/tmp/x" }), "deny")));
    for (const { watcher, wanted } of watchers) assert.deepEqual(sequences(await watcher.read()), wanted);
  });

  it("ends with its signal, also when it waits for nothing", async () => {
    const { watch } = createBench();
    const watcher = watch();
    await watcher.next();
    const waiting = watcher.next();
    watcher.stop();
    assert.equal((await waiting).done, true);
    assert.equal((await watcher.next()).done, true);
  });

  it("shares each event with every other watcher instead of copying it", async () => {
    const { journal, watch } = createBench();
    const [one, other] = [watch(), watch()];
    journal.append(happening(limit("x")));
    const [first] = (await one.read()).flatMap(({ events }) => events);
    const [second] = (await other.read()).flatMap(({ events }) => events);
    assert.ok(first !== undefined && first === second);
  });
});

describe("a watcher that does not read", () => {
  it("gets a gap with the exact number of what it wanted and lost, by kind, before what follows", async () => {
    const { journal, watch } = createBench({ maxEvents: 1000 });
    const watcher = watch({
      buffer: 10,
      exclude: [{ kinds: ["decider_changed"], match: undefined, sources: [], refusalsOnly: false }],
    });
    await watcher.readOne();
    const unwanted: EventBody = { kind: "decider_changed", decider: "d", connected: true, leased: 0, identity: "" };
    for (let at = 1; at <= 30; at += 1) {
      const body = at % 3 === 0 ? unwanted : at % 3 === 1 ? limit("x") : heldCall(fileCall(at));
      journal.append(happening(body));
    }
    const batches = await watcher.read();
    const [gap, ...others] = gapsOf(batches);
    assert.deepEqual(others, []);
    assert.deepEqual([gap?.first, gap?.last, gap?.lost], [1, 20, 14]);
    assert.deepEqual(
      gap?.lostByKind,
      new Map([
        ["limit_reached", 7],
        ["call_held", 7],
      ]),
    );
    assert.equal(batches[0]?.gaps.length, 1);
    assert.deepEqual(sequences(batches), [22, 23, 25, 26, 28, 29]);
  });

  it("of any speed and filter gets or is told of each event exactly once", async () => {
    const turn = fc.record({ appended: fc.nat({ max: 40 }), reads: fc.nat({ max: 3 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(turn, { maxLength: 15 }),
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 64 }),
        fc.boolean(),
        async (turns, buffer, maxEvents, maxBatch, callsOnly) => {
          const { journal, watch } = createBench({ maxEvents });
          const include = callsOnly
            ? [{ kinds: ["call_held"] as const, match: undefined, sources: [], refusalsOnly: false }]
            : [];
          const watcher = watch({ buffer, maxBatch, include });
          const appended: number[] = [];
          const batches: WatchBatch[] = [];
          for (const { appended: count, reads } of turns) {
            for (let at = 0; at < count; at += 1) {
              const isCall = (appended.length + at) % 3 === 0;
              journal.append(happening(isCall ? heldCall(fileCall(at)) : limit("x")));
              if (isCall || !callsOnly) appended.push(journal.cursor().sequence);
            }
            for (let at = 0; at < reads; at += 1) {
              const batch = await watcher.readOne();
              if (batch !== undefined) batches.push(batch);
            }
          }
          batches.push(...(await watcher.read()));
          const got = sequences(batches);
          const lost = gapsOf(batches).flatMap(({ first, last, lost: count }) => {
            const within = appended.filter((sequence) => sequence >= first && sequence <= last);
            assert.equal(within.length, count);
            return within;
          });
          assert.deepEqual(
            [...got, ...lost].sort((one, other) => one - other),
            appended,
          );
          assert.deepEqual(
            got,
            [...got].sort((one, other) => one - other),
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  it("is disconnected with READER_TOO_SLOW where it asked for that, and finds the events by its cursor", async () => {
    const { journal, watch } = createBench();
    const watcher = watch({ buffer: 4, overflow: "disconnect" });
    const first = await watcher.readOne();
    for (let at = 0; at < 5; at += 1) journal.append(happening(limit("x")));
    await assert.rejects(watcher.next(), failsWith("READER_TOO_SLOW"));
    assert.ok(first);
    const again = watch({ start: { kind: "after", cursor: first.cursor }, overflow: "disconnect" });
    assert.deepEqual(sequences(await again.read()), [1, 2, 3, 4, 5]);
  });

  it("costs another watcher nothing", async () => {
    const { journal, watch } = createBench({ maxEvents: 50 });
    watch({ buffer: 1 });
    const reader = watch();
    const seen: WatchBatch[] = [];
    for (let at = 0; at < 200; at += 1) {
      journal.append(happening(limit("x")));
      if (at % 20 === 0) seen.push(...(await reader.read()));
    }
    seen.push(...(await reader.read()));
    assert.deepEqual(sequences(seen), range(1, 200));
    assert.deepEqual(gapsOf(seen), []);
  });
});

describe("events that were lost before the journal", () => {
  const loss = (count: number, changes: Partial<LostEvents> = {}): LostEvents => ({
    tenant: "tenant",
    sandboxId: "box",
    labels: new Map(),
    kind: "call_settled",
    count,
    ...changes,
  });
  const told = (batches: readonly WatchBatch[]): unknown[] =>
    batches.flatMap(({ gaps, events }) => [
      ...gaps.map(({ lost, cause, lostByKind, first }) => [first, cause, lost, ...lostByKind.keys()]),
      ...events.map(({ sequence }) => sequence),
    ]);

  it("are a gap in their place, also for who comes later, and beside one of the reader's own", async () => {
    const { journal, watch } = createBench();
    const early = watch({ maxDelayMs: 5 });
    await early.read();
    journal.append(happening(limit("before")));
    journal.lost(loss(7));
    journal.append(happening(limit("after")));
    const late = watch({ start: { kind: "oldest" } });
    const expected = [1, [2, "journal", 7, "call_settled"], 3];
    assert.deepEqual(told(await late.read()), expected);
    const slow = watch({ start: { kind: "after", cursor: { epoch: "run-1", sequence: 1 } }, buffer: 1 });
    await slow.read();
    for (let at = 0; at < 3; at++) journal.append(happening(limit("flood")));
    journal.lost(loss(2));
    journal.append(happening(limit("last")));
    const rest = await slow.read();
    assert.deepEqual(told(rest), [[4, "reader", 3, "limit_reached"], [7, "journal", 2, "call_settled"], 8]);
    assert.deepEqual(journal.counts().lost, { reader: 3, journal: 16 });
    assert.equal(rest.at(-1)?.cursor.sequence, 8);
    for (const watcher of [early, late, slow]) watcher.stop();
  });

  it("are told to those who might have wanted them, and to no other", async () => {
    const { journal } = createBench();
    journal.lost(loss(1));
    const none = { kinds: [], match: undefined, sources: [], refusalsOnly: false };
    const askedOf = async (changes: Partial<WatchOptions>, tenant = "tenant"): Promise<number> => {
      const watcher = open(journal, { start: { kind: "oldest" }, ...changes }, tenant);
      const lost = gapsOf(await watcher.read()).length;
      watcher.stop();
      return lost;
    };
    assert.equal(await askedOf({}), 1);
    assert.equal(await askedOf({ include: [{ ...none, kinds: ["call_settled"], refusalsOnly: true }] }), 1);
    assert.equal(await askedOf({ include: [{ ...none, kinds: ["process_ended"] }] }), 0);
    assert.equal(await askedOf({ exclude: [{ ...none, kinds: ["call_settled"] }] }), 0);
    assert.equal(await askedOf({ exclude: [{ ...none, refusalsOnly: true }] }), 1);
    assert.equal(await askedOf({ selector: { sandboxIds: new Set(["other"]), labels: new Map() } }), 0);
    assert.equal(await askedOf({}, "another"), 0);
    assert.equal(await askedOf({ aggregation: { windowMs: 1000, kinds: new Set() } }), 1);
  });
});

describe("a journal", () => {
  it("keeps fewer events when they are large", async () => {
    const { journal, watch } = createBench({ maxEvents: 1000, maxBytes: 20_000 });
    for (let at = 1; at <= 50; at += 1)
      journal.append(happening(heldCall(fileCall(at, { path: `/${"x".repeat(4000)}` }))));
    const kept = sequences(await watch({ start: { kind: "oldest" } }).read());
    assert.ok(kept.length >= 3 && kept.length <= 5, `${kept.length} kept`);
    assert.equal(kept.at(-1), 50);
  });

  it("leaves no timer behind when its watchers are gone", async () => {
    const { clock, watch } = createBench();
    const watchers = [watch(), watch(), watch({ maxDelayMs: 5 })];
    for (const watcher of watchers) await watcher.read();
    assert.equal(clock.timers, 3);
    for (const watcher of watchers) watcher.stop();
    assert.equal(clock.timers, 0);
  });
});

describe("a watch with an aggregation", () => {
  const aggregation = { windowMs: 1000, kinds: new Set(["call_settled"] as const) };
  const settled = (path: string, kind: "allow" | "deny" = "deny", timeMs = 1): DomainEvent =>
    happening(settledCall(fileCall(1, { path }), kind), { timeMs });
  /** Path and count of each event, or the name of its limit. */
  const folded = ({ events, counts }: WatchBatch): unknown[] =>
    events.map((entry) => {
      const { body } = entry.event;
      if (body.kind === "limit_reached") return body.limit;
      assert.ok(body.kind === "call_settled" && body.call.detail.kind === "file");
      return [Buffer.from(body.call.detail.path).toString(), body.settlement.kind, counts.get(entry) ?? 1];
    });

  it("waits for the window, and sends equal events as one, each at the place of its first", async () => {
    const { journal, watch, clock } = createBench();
    const watcher = watch({ aggregation });
    await watcher.read();
    for (const path of ["/a", "/b", "/a", "/a"]) journal.append(settled(path));
    journal.append(settled("/a", "allow"));
    journal.append(happening(limit("not folded")));
    journal.append(happening(limit("not folded")));
    assert.deepEqual(await watcher.read(), []);
    clock.pass(999);
    assert.deepEqual(await watcher.read(), []);
    clock.pass(1);
    const [batch] = await watcher.read();
    assert.ok(batch !== undefined);
    assert.deepEqual(folded(batch), [
      ["/a", "deny", 3],
      ["/b", "deny", 1],
      ["/a", "allow", 1],
      "not folded",
      "not folded",
    ]);
    assert.deepEqual([batch.cursor.sequence, batch.pending, sequences([batch])], [7, 0, [1, 2, 5, 6, 7]]);
    watcher.stop();
    assert.equal(clock.timers, 0);
  });

  it("ends a window early when the message is full, so that its cursor resumes without loss or duplicate", async () => {
    const { journal, watch, clock } = createBench();
    const watcher = watch({ aggregation, maxBatch: 2 });
    await watcher.read();
    for (const path of ["/a", "/b", "/a", "/c", "/a"]) journal.append(settled(path));
    const [full] = await watcher.read();
    assert.ok(full !== undefined);
    assert.deepEqual(
      [folded(full), full.cursor.sequence],
      [
        [
          ["/a", "deny", 2],
          ["/b", "deny", 1],
        ],
        3,
      ],
    );
    watcher.stop();
    const resumed = watch({ aggregation, start: { kind: "after", cursor: full.cursor } });
    const [rest] = await resumed.read();
    assert.ok(rest !== undefined);
    assert.deepEqual(
      [folded(rest), rest.cursor.sequence, rest.caughtUp],
      [
        [
          ["/c", "deny", 1],
          ["/a", "deny", 1],
        ],
        5,
        true,
      ],
    );
    resumed.stop();
    assert.equal(clock.timers, 0);
  });

  it("lets progress during a window resume before it", async () => {
    const { journal, watch, clock } = createBench();
    const watcher = watch({ aggregation, progressIntervalMs: 400 });
    await watcher.read();
    journal.append(happening(limit("before")));
    await watcher.read();
    clock.pass(1000);
    await watcher.read();
    for (let at = 0; at < 3; at++) journal.append(settled("/a"));
    await watcher.read();
    clock.pass(400);
    const [progress] = await watcher.read();
    assert.deepEqual([progress?.events.length, progress?.cursor.sequence, progress?.pending], [0, 1, 3]);
    clock.pass(600);
    const [batch] = await watcher.read();
    assert.deepEqual([batch && folded(batch), batch?.cursor.sequence], [[["/a", "deny", 3]], 4]);
    watcher.stop();
  });

  it("folds the backlog by the time of its events", async () => {
    const { journal, watch } = createBench();
    for (const timeMs of [1, 500, 1000, 1001, 1500, 2001]) journal.append(settled("/a", "deny", timeMs));
    const watcher = watch({ aggregation, start: { kind: "oldest" } });
    const batches = await watcher.read();
    assert.deepEqual(
      batches.map((batch) => folded(batch)),
      [[["/a", "deny", 3]], [["/a", "deny", 2]], [["/a", "deny", 1]]],
    );
    assert.deepEqual(
      batches.map(({ caughtUp }) => caughtUp),
      [false, false, true],
    );
    watcher.stop();
  });

  it("sends what was folded before a gap first, and loses no count between them", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.constantFrom("/a", "/b", "/c"), fc.constant("read"), fc.constant("pass")), {
          maxLength: 200,
        }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 3 }),
        async (steps, buffer, maxBatch) => {
          const { journal, watch, clock } = createBench();
          const watcher = watch({ aggregation, buffer, maxBatch });
          const batches = await watcher.read();
          let appended = 0;
          for (const step of steps) {
            if (step === "read") batches.push(...(await watcher.read()));
            else if (step === "pass") clock.pass(1000);
            else {
              journal.append(settled(step));
              appended += 1;
            }
          }
          batches.push(...(await watcher.read()));
          clock.pass(1000);
          batches.push(...(await watcher.read()));
          let before = 0;
          let counted = 0;
          for (const { gaps, events, counts, cursor } of batches) {
            for (const gap of gaps) {
              assert.ok(gap.first > before, "the gap comes after what came before it");
              counted += gap.lost;
              before = gap.last;
            }
            for (const entry of events) {
              assert.ok(entry.sequence > before);
              counted += counts.get(entry) ?? 1;
            }
            assert.ok(cursor.sequence >= before);
            before = cursor.sequence;
          }
          assert.deepEqual([counted, before], [appended, appended]);
          watcher.stop();
        },
      ),
      { numRuns: 200 },
    );
  });
});
