import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  connect,
  type DecideRequestSchema,
  type DecideResponse,
  DecisionService,
  ErrorReason,
  EventKind,
  GrantScope,
  OutcomeReporting,
  RemoteError,
  type SandgateClient,
  VerdictSource,
  type WatchResponse,
  WatchService,
  WithdrawalReason,
} from "../../src/client/client.js";
import { createHoldRegistry } from "../../src/sandbox/decisions/registry.js";
import { createJournal, type Journal } from "../../src/sandbox/journal/journal.js";
import type { HoldPolicy, Settlement } from "../../src/sandbox/model.js";
import { bindService } from "../../src/service/bridge.js";
import { createDecisionService } from "../../src/service/decision-service.js";
import { createIdempotency } from "../../src/service/idempotency.js";
import { createServer, type Server } from "../../src/service/server.js";
import { createWatchService } from "../../src/service/watch-service.js";
import { fileCall, policy } from "../sandbox/decisions/support.js";

const tenant = "local";
const self = { pid: process.pid, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

/** The decision and watch services on a socket, with the registry that the engine would talk to. */
interface Fixture extends AsyncDisposable {
  readonly journal: Journal;
  readonly client: SandgateClient;
  readonly path: string;
  hold(holdId: number, path?: string): void;
  /** Resolves with what a call got. */
  settled(holdId: number): Promise<Settlement>;
  isSettled(holdId: number): boolean;
}

async function serve(changes: Partial<HoldPolicy> = {}): Promise<Fixture> {
  const directory = mkdtempSync(join(tmpdir(), "sandgate-"));
  const results = new Map<number, Settlement>();
  const waiters = new Map<number, (settlement: Settlement) => void>();
  const journal = createJournal({ epoch: "run-1", maxEvents: 1000, snapshot: () => [] });
  const registry = createHoldRegistry({
    engine: {
      settle(holdId, settlement) {
        results.set(holdId, settlement);
        waiters.get(holdId)?.(settlement);
      },
      addGrant: () => undefined,
      removeGrant: () => undefined,
    },
    events: journal,
  });
  registry.sandboxCreated({
    sandboxId: "box",
    tenant,
    labels: new Map(),
    policy: { ...policy, verdictTimeoutMs: 20_000, maxHoldMs: 60_000, ...changes },
  });
  const idempotency = createIdempotency({ retentionMs: 60_000, capacity: 100 });
  const server: Server = createServer({
    services: [
      bindService(DecisionService, createDecisionService({ decisions: registry, idempotency }), {
        openEnded: ["decide"],
      }),
      bindService(WatchService, createWatchService({ journal }), { openEnded: ["watch"] }),
    ],
    report: (_id, error) => assert.fail(String(error)),
    peerCredentials: () => self,
  });
  const path = join(directory, "socket");
  await server.listenUnix(path);
  const client = connect(path);
  return {
    journal,
    client,
    path,
    hold: (holdId, file = "/data/file") => registry.held(fileCall(holdId, { path: file, timeMs: Date.now() })),
    isSettled: (holdId) => results.has(holdId),
    settled(holdId) {
      const known = results.get(holdId);
      return known !== undefined ? Promise.resolve(known) : new Promise((resolve) => waiters.set(holdId, resolve));
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await server.drain(0);
      registry.dispose();
      rmSync(directory, { recursive: true });
    },
  };
}

type Request = MessageInitShape<typeof DecideRequestSchema>;
type Open = Extract<NonNullable<Request["message"]>, { case: "open" }>["value"];
type Verdict = Extract<NonNullable<Request["message"]>, { case: "verdicts" }>["value"] extends {
  verdicts?: (infer One)[];
}
  ? One
  : never;

/** A decider with an open stream. */
async function decide(client: SandgateClient, open: Open = {}) {
  const call = client.decision.decide();
  const messages = call.messages[Symbol.asyncIterator]();
  await call.send({ message: { case: "open", value: { decider: "test", window: 10, ...open } } });

  /** The next message of one kind; no other may come before it. */
  async function receive<Case extends NonNullable<DecideResponse["message"]["case"]>>(kind: Case) {
    const next = await messages.next();
    assert.ok(next.done !== true, "the stream ended");
    const { message } = next.value;
    assert.equal(message.case, kind);
    return message.value as Extract<DecideResponse["message"], { case: Case }>["value"];
  }

  return {
    call,
    messages,
    receive,
    opened: await receive("opened"),
    answer: (...verdicts: Verdict[]) => call.send({ message: { case: "verdicts", value: { verdicts } } }),
  };
}

async function collect(
  responses: AsyncIterable<WatchResponse>,
  enough: (responses: readonly WatchResponse[]) => boolean,
): Promise<WatchResponse[]> {
  const found: WatchResponse[] = [];
  for await (const response of responses) {
    found.push(response);
    if (enough(found)) return found;
  }
  throw new Error("the watch ended");
}

const refused = (status: string, reason: string) => (error: unknown) =>
  error instanceof RemoteError && error.code === status && error.reason === reason;

describe("the decision service", () => {
  it("carries a held call to the client with what it is about, and its verdict back", async () => {
    await using fixture = await serve();
    const { client, hold, settled } = fixture;
    const decider = await decide(client);
    assert.equal(decider.opened.mayAllow, true);
    assert.equal(decider.opened.sandboxes, 1);
    hold(1, "/etc/passwd");
    hold(2);
    const { calls } = await decider.receive("calls");
    const [first] = calls;
    assert.deepEqual([first?.holdId, first?.syscall, first?.waiting, first?.attempt], [1n, "openat", 1, 1]);
    assert.equal(first?.detail.case === "file" && first.detail.value.path?.text, "/etc/passwd");
    assert.equal(first?.task?.executable?.text, "/usr/bin/cat");
    assert.ok(Number(first?.timeLeft?.seconds) >= 19);
    await decider.answer(
      { holdId: 1n, action: { case: "allow", value: {} } },
      { holdId: 2n, action: { case: "deny", value: { errorNumber: 13 } } },
    );
    assert.deepEqual(await settled(1), { kind: "allow" });
    assert.deepEqual(await settled(2), { kind: "deny", errno: 13 });
    decider.call.end();
    assert.equal((await decider.messages.next()).done, true);
  });

  it("refuses a stream that does not begin with open, and answers later misuse with a problem on the stream", async () => {
    await using fixture = await serve();
    const { client, hold, settled } = fixture;
    const wrong = client.decision.decide();
    await wrong.send({ message: { case: "window", value: { window: 1 } } });
    await assert.rejects(wrong.messages[Symbol.asyncIterator]().next(), refused("INVALID_ARGUMENT", "INVALID_FIELD"));

    const decider = await decide(client);
    await decider.call.send({ message: { case: "open", value: {} } });
    assert.equal((await decider.receive("problem")).field, "open");
    await decider.call.send({});
    assert.equal((await decider.receive("problem")).reason, ErrorReason.INVALID_FIELD);
    hold(1);
    await decider.receive("calls");
    await decider.answer({ holdId: 1n, action: { case: "allow", value: {} } });
    assert.deepEqual(await settled(1), { kind: "allow" });
  });

  it("names what a later version will do, instead of leaving it out in silence", async () => {
    await using fixture = await serve();
    const { client, hold, settled } = fixture;
    await assert.rejects(
      decide(client, { extraFields: { paths: ["task.ancestors"] } }),
      refused("UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    );
    const decider = await decide(client, { outcomes: OutcomeReporting.ALL });
    for (const holdId of [1, 2, 3]) hold(holdId);
    await decider.receive("calls");
    await decider.answer(
      { holdId: 1n, action: { case: "returnValue", value: { value: 0n } } },
      { holdId: 2n },
      { holdId: 3n, action: { case: "allow", value: {} }, remember: { scope: GrantScope.PROCESS_TREE } },
    );
    const { outcomes } = await decider.receive("outcomes");
    assert.deepEqual(
      outcomes.map(({ holdId, applied, problem }) => [holdId, applied, problem?.reason]),
      [
        [1n, false, ErrorReason.NOT_IMPLEMENTED],
        [2n, false, ErrorReason.INVALID_FIELD],
        [3n, true, ErrorReason.NOT_IMPLEMENTED],
      ],
    );
    assert.deepEqual(
      [await settled(1), await settled(2), await settled(3)],
      [{ kind: "deny", errno: 1 }, { kind: "deny", errno: 1 }, { kind: "allow" }],
    );
  });

  it("allows nothing because a stream ended: by half-close, by cancellation, or with its client killed", async () => {
    await using fixture = await serve();
    const { client, hold, settled, path } = fixture;
    const ended = await decide(client);
    hold(1);
    await ended.receive("calls");
    ended.call.end();
    assert.deepEqual(await settled(1), { kind: "deny", errno: 1 });

    const cancelled = await decide(client);
    hold(2);
    await cancelled.receive("calls");
    cancelled.call.cancel();
    assert.deepEqual(await settled(2), { kind: "deny", errno: 1 });

    // Another process, since a connection that its own process closes is closed in good order.
    const child = fork(fileURLToPath(new URL("../support/mute-decider.js", import.meta.url)), [path]);
    await once(child, "message");
    hold(3);
    await once(child, "message");
    assert.equal(fixture.isSettled(3), false);
    child.kill("SIGKILL");
    assert.deepEqual(await settled(3), { kind: "deny", errno: 1 });
  });

  it("withdraws what no longer needs an answer, with the reason", async () => {
    await using fixture = await serve({ verdictTimeoutMs: 50 });
    const { client, hold } = fixture;
    const decider = await decide(client);
    hold(1);
    await decider.receive("calls");
    const { holdIds, reason } = await decider.receive("withdrawal");
    assert.deepEqual([holdIds, reason], [[1n], WithdrawalReason.TIMEOUT]);
    await decider.answer({ holdId: 1n, action: { case: "allow", value: {} } });
    const { outcomes } = await decider.receive("outcomes");
    assert.equal(outcomes[0]?.problem?.reason, ErrorReason.VERDICT_LATE);
  });

  it("lists held calls by page and resolves one without a stream, once for each request id", async () => {
    await using fixture = await serve({ onNoDecider: { graceMs: 30_000, fallback: { kind: "deny", errno: 1 } } });
    const { client, hold, settled } = fixture;
    for (const holdId of [1, 2, 3]) hold(holdId);
    const first = await client.decision.listHeldCalls({ pageSize: 2 });
    const second = await client.decision.listHeldCalls({ pageSize: 2, pageToken: first.nextPageToken });
    assert.deepEqual(
      [first, second].map(({ calls }) => calls.map(({ holdId }) => holdId)),
      [[1n, 2n], [3n]],
    );
    assert.equal(second.nextPageToken, "");

    const request = {
      requestId: "r-1",
      sandboxId: "box",
      verdict: { holdId: 2n, action: { case: "allow", value: {} } },
    } as const;
    assert.equal((await client.decision.resolveHeldCall(request)).outcome?.applied, true);
    assert.equal((await client.decision.resolveHeldCall(request)).outcome?.applied, true);
    assert.deepEqual(await settled(2), { kind: "allow" });
    await assert.rejects(
      client.decision.resolveHeldCall({ ...request, requestId: "r-2" }),
      refused("FAILED_PRECONDITION", "VERDICT_LATE"),
    );
    await assert.rejects(
      client.decision.resolveHeldCall({ ...request, verdict: { holdId: 3n, action: { case: "allow", value: {} } } }),
      refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"),
    );
  });

  it("lists a remembered verdict and forgets it", async () => {
    await using fixture = await serve();
    const { client, hold } = fixture;
    const decider = await decide(client, { outcomes: OutcomeReporting.ALL });
    hold(1, "/data/x");
    await decider.receive("calls");
    await decider.answer({
      holdId: 1n,
      action: { case: "allow", value: {} },
      remember: { scope: GrantScope.SANDBOX, match: { case: "callMatch", value: { paths: ["/data/**"] } }, maxUses: 5 },
    });
    const { outcomes } = await decider.receive("outcomes");
    const { grants } = await client.decision.listGrants({});
    assert.equal(grants[0]?.grantId, outcomes[0]?.grantId);
    const { verdict, origin, decider: author } = grants[0] ?? {};
    assert.deepEqual([verdict?.action.case, origin?.holdId, author], ["allow", 1n, "test"]);
    assert.deepEqual(verdict?.remember?.match.case === "callMatch" && verdict.remember.match.value.paths, ["/data/**"]);
    await assert.rejects(client.decision.revokeGrants({}), refused("INVALID_ARGUMENT", "INVALID_FIELD"));
    assert.equal((await client.decision.revokeGrants({ selector: {} })).revoked, 1);
    assert.deepEqual((await client.decision.listGrants({})).grants, []);
  });
});

describe("the watch service", () => {
  it("sends what happens to a held call, with what it was about and what it got", async () => {
    await using fixture = await serve();
    const { client, hold } = fixture;
    const watch = client.watch.watch({ include: [{ kinds: [EventKind.CALL_HELD, EventKind.CALL_SETTLED] }] });
    const events: WatchResponse["events"] = [];
    for await (const response of watch) {
      if (response.caughtUp) hold(1, "/etc/passwd");
      events.push(...response.events);
      if (events.length === 2) break;
    }
    const [held, settled] = events;
    assert.ok(held?.event.case === "callHeld" && settled?.event.case === "callSettled");
    assert.deepEqual([held.sandboxId, held.event.value.call?.holdId], ["box", 1n]);
    const { verdict, source, call } = settled.event.value;
    assert.equal(source, VerdictSource.NO_DECIDER);
    assert.deepEqual(verdict?.action.case === "deny" && verdict.action.value.errorNumber, 1);
    assert.equal(call?.detail.case === "file" && call.detail.value.path?.text, "/etc/passwd");
    assert.equal(settled.sequence, held.sequence + 1n);
  });

  it("tells of a verdict that is remembered, and of its end", async () => {
    await using fixture = await serve();
    const { client, hold } = fixture;
    const decider = await decide(client, { outcomes: OutcomeReporting.ALL });
    const changes: [string, boolean, string | undefined][] = [];
    for await (const { events, caughtUp } of client.watch.watch({ include: [{ kinds: [EventKind.GRANT_CHANGED] }] })) {
      if (caughtUp) {
        hold(1);
        await decider.receive("calls");
        await decider.answer({
          holdId: 1n,
          action: { case: "allow", value: {} },
          remember: { scope: GrantScope.SANDBOX, match: { case: "callMatch", value: { paths: ["/data/**"] } } },
        });
        await decider.receive("outcomes");
        await client.decision.revokeGrants({ selector: {} });
      }
      for (const { sandboxId, event } of events) {
        assert.ok(event.case === "grantChanged");
        changes.push([sandboxId, event.value.active, event.value.grant?.verdict?.action.case]);
      }
      if (changes.length === 2) break;
    }
    assert.deepEqual(changes, [
      ["box", true, "allow"],
      ["box", false, "allow"],
    ]);
  });

  it("resumes after a cursor, and refuses one of another run with the reason", async () => {
    await using fixture = await serve();
    const { client, hold } = fixture;
    for (const holdId of [1, 2, 3]) hold(holdId);
    const all = await collect(client.watch.watch({ start: { case: "fromOldest", value: {} } }), (found) =>
      found.some(({ caughtUp }) => caughtUp),
    );
    const sequences = all.flatMap(({ events }) => events.map(({ sequence }) => sequence));
    assert.deepEqual(sequences, [1n, 2n, 3n, 4n, 5n, 6n]);
    const after = { epoch: "run-1", sequence: 4n };
    const rest = await collect(client.watch.watch({ start: { case: "after", value: after } }), (found) =>
      found.some(({ caughtUp }) => caughtUp),
    );
    assert.deepEqual(
      rest.flatMap(({ events }) => events.map(({ sequence }) => sequence)),
      [5n, 6n],
    );
    const old = client.watch.watch({ start: { case: "after", value: { epoch: "run-0", sequence: 4n } } });
    await assert.rejects(
      collect(old, () => true),
      refused("OUT_OF_RANGE", "CURSOR_EPOCH_CHANGED"),
    );
  });

  it("fills the fields of a read mask and no others, and names a field that events do not have", async () => {
    await using fixture = await serve();
    const { client, hold } = fixture;
    hold(1, "/etc/passwd");
    const masked = (...paths: string[]) =>
      collect(client.watch.watch({ readMask: { paths }, start: { case: "fromOldest", value: {} } }), (found) =>
        found.some(({ caughtUp }) => caughtUp),
      ).then((responses) => responses.flatMap(({ events }) => events));
    const [held, settled] = await masked("sequence", "call_settled.call.file.path", "call_settled.source");
    assert.deepEqual([held?.sequence, held?.sandboxId, held?.time, held?.event.case], [1n, "", undefined, undefined]);
    assert.ok(settled?.event.case === "callSettled");
    const { call, source, verdict, held: time } = settled.event.value;
    assert.deepEqual([source, verdict, time], [VerdictSource.NO_DECIDER, undefined, undefined]);
    assert.ok(call?.detail.case === "file");
    assert.deepEqual([call.detail.value.path?.text, call.detail.value.operation, call.syscall], ["/etc/passwd", 0, ""]);
    const [whole] = await masked("*");
    assert.ok(whole?.event.case === "callHeld" && whole.event.value.call?.syscall === "openat");
    for (const path of ["tme", "call_settled.call.file.path.txt", "call_held.call.exec.argv.text"]) {
      await assert.rejects(masked(path), refused("INVALID_ARGUMENT", "INVALID_FIELD"));
    }
  });

  it("folds equal verdicts of a window into one with a count, and refuses a window without length", async () => {
    await using fixture = await serve();
    const { client, hold } = fixture;
    const watch = client.watch.watch({
      aggregation: { window: { nanos: 1_000_000 } },
      include: [{ kinds: [EventKind.CALL_SETTLED] }],
    });
    const total = { "/etc/passwd": 0, "/etc/group": 0 };
    for await (const { caughtUp, events } of watch) {
      if (caughtUp) for (let at = 1; at <= 300; at++) hold(at, at % 3 === 0 ? "/etc/group" : "/etc/passwd");
      for (const { count, event } of events) {
        const detail = event.case === "callSettled" ? event.value.call?.detail : undefined;
        assert.ok(detail?.case === "file");
        total[detail.value.path?.text as keyof typeof total] += Number(count || 1n);
      }
      assert.ok(events.length <= 2, "equal events were sent apart");
      if (total["/etc/group"] + total["/etc/passwd"] === 300) break;
    }
    assert.deepEqual(total, { "/etc/passwd": 200, "/etc/group": 100 });
    await assert.rejects(
      collect(client.watch.watch({ aggregation: {} }), () => true),
      refused("INVALID_ARGUMENT", "INVALID_FIELD"),
    );
  });

  it("does not let a client that never reads hold up the journal or another client, and counts what that one lost", async () => {
    await using fixture = await serve();
    const { client, journal } = fixture;
    const bulky = (at: number) => ({
      timeMs: 1,
      sandboxId: "box",
      tenant,
      labels: new Map(),
      task: undefined,
      body: { kind: "limit_reached", limit: "x".repeat(4000), action: String(at) } as const,
    });
    const slow = client.watch.watch({ buffer: 16 })[Symbol.asyncIterator]();
    await slow.next();
    const quick = client.watch.watch({ start: { case: "after", value: { epoch: "run-1", sequence: 0n } } });
    const total = 2000;
    let appended = 0;
    let read = 0;
    for await (const { events, gaps, caughtUp } of quick) {
      assert.deepEqual(gaps, []);
      read += events.length;
      if (read === total) break;
      if (!caughtUp && read < appended) continue;
      for (const end = appended + 50; appended < end; appended += 1) journal.append(bulky(appended));
    }
    let got = 0;
    let lost = 0;
    while (got + lost < total) {
      const next = await slow.next();
      assert.ok(next.done !== true);
      got += next.value.events.length;
      for (const gap of next.value.gaps) {
        lost += Number(gap.lost);
        assert.deepEqual(gap.lostByKind, { [EventKind.LIMIT_REACHED]: gap.lost });
      }
    }
    assert.equal(got + lost, total);
    assert.ok(lost > 0, "nothing was lost, so nothing was tested");
  });
});
