import assert from "node:assert/strict";
import { SandboxError } from "../../../src/base/errors.js";
import type { DeciderMessage, Problem, VerdictOutcome } from "../../../src/sandbox/decisions/decider.js";
import { createBench, idsOf, policy, verdict } from "./support.js";

const EPERM = { kind: "deny", errno: 1 } as const;
const allowed = { kind: "allow" };
const everything = { sandboxIds: new Set<string>(), labels: new Map<string, string>() };
const sameCall = { kind: "grant", scope: "sandbox", match: "same_call", ttlMs: undefined, maxUses: 0 } as const;

function outcomes(messages: readonly DeciderMessage[]): VerdictOutcome[] {
  return messages.flatMap((message) => (message.kind === "outcomes" ? message.outcomes : []));
}

function withdrawals(messages: readonly DeciderMessage[]): [number, string][] {
  return messages.flatMap((message) =>
    message.kind === "withdrawal" ? message.holdIds.map((holdId): [number, string] => [holdId, message.reason]) : [],
  );
}

function refusedWith(reason: Problem["reason"]): (error: unknown) => boolean {
  return (error) => error instanceof SandboxError && error.reason === reason;
}

describe("held calls", () => {
  describe("answered by a decider", () => {
    it("are allowed, refused with the chosen errno, and killed as the verdict says", async () => {
      const { registry, open, hold, got } = createBench();
      const client = open();
      for (const holdId of [1, 2, 3, 4]) hold(holdId);
      assert.deepEqual(idsOf(await client.read()), [1, 2, 3, 4]);
      client.session.answer([
        verdict(4, { kind: "kill", scope: "group", signal: 0 }),
        verdict(2, { kind: "deny", errno: 13 }),
        verdict(1, "allow"),
        verdict(3, { kind: "deny", errno: 0 }),
      ]);
      assert.deepEqual(
        [got(1), got(2), got(3), got(4)],
        [allowed, { kind: "deny", errno: 13 }, EPERM, { kind: "kill", scope: "group", signal: 9 }],
      );
      assert.deepEqual(await client.read(), []);
      assert.equal(registry.counts("box").held, 0);
    });

    it("say who answered and why in the journal, with the verdict's labels", async () => {
      const { open, hold, bodies, clock } = createBench();
      const client = open({ name: "reviewer" });
      hold(1);
      await client.read();
      clock.pass(40);
      client.session.answer([verdict(1, "allow", { reason: "looks good", labels: new Map([["ticket", "7"]]) })]);
      assert.equal(bodies("call_held").length, 1);
      const [settled] = bodies("call_settled");
      assert.deepEqual(
        [settled?.source, settled?.sourceName, settled?.reason, settled?.heldMs, settled?.verdictLabels?.get("ticket")],
        ["decider", "reviewer", "looks good", 40, "7"],
      );
    });

    it("come together in one message, and no more of them than max_batch says", async () => {
      const { open, hold } = createBench();
      const client = open({ maxBatch: 2 });
      await client.read();
      for (const holdId of [1, 2, 3]) hold(holdId);
      const messages = await client.read();
      assert.deepEqual(
        messages.map((message) => (message.kind === "calls" ? message.calls.length : message.kind)),
        [2, 1],
      );
    });

    it("are refused by a verdict without an action, and by one that this version cannot carry out", async () => {
      const { open, hold, got } = createBench();
      const client = open();
      for (const holdId of [1, 2, 3, 4, 5]) hold(holdId);
      await client.read();
      client.session.answer([
        verdict(1, { kind: "unknown" }),
        verdict(2, { kind: "unsupported", field: "return_value" }),
        verdict(3, "allow", { narrows: true }),
        verdict(4, { kind: "deny", errno: 4096 }),
        verdict(5, "allow"),
      ]);
      assert.deepEqual([1, 2, 3, 4, 5].map(got), [EPERM, EPERM, EPERM, EPERM, allowed]);
      assert.deepEqual(
        outcomes(await client.read()).map(({ holdId, applied, problem }) => [
          holdId,
          applied,
          problem?.reason,
          problem?.field,
        ]),
        [
          [1, false, "INVALID_FIELD", "action"],
          [2, false, "NOT_IMPLEMENTED", "return_value"],
          [3, false, "NOT_IMPLEMENTED", "narrow"],
          [4, false, "INVALID_FIELD", "deny.error_number"],
        ],
      );
    });

    it("are refused when a decider without the right to allow allows", async () => {
      const { open, hold, got } = createBench();
      const client = open({ mayAllow: false });
      hold(1);
      hold(2);
      await client.read();
      client.session.answer([verdict(1, "allow"), verdict(2, { kind: "deny", errno: 2 })]);
      assert.deepEqual([got(1), got(2)], [EPERM, { kind: "deny", errno: 2 }]);
    });
  });

  describe("without an answer in time", () => {
    it("get the on_timeout fallback after the verdict timeout, counted from the delivery", async () => {
      const { open, hold, got, bodies, clock } = createBench();
      const client = open({ window: 1 });
      hold(1);
      hold(2);
      assert.deepEqual(idsOf(await client.read()), [1]);
      clock.pass(999);
      assert.equal(got(1), undefined);
      clock.pass(1);
      assert.deepEqual(got(1), EPERM);
      const messages = await client.read();
      assert.deepEqual(withdrawals(messages), [[1, "timeout"]]);
      assert.deepEqual(idsOf(messages), [2]);
      clock.pass(999);
      assert.equal(got(2), undefined);
      assert.equal(bodies("call_settled")[0]?.source, "timeout");
    });

    it("get it after max_hold although no decider took them, counted from the call", async () => {
      const { open, hold, got, clock } = createBench({ maxHoldMs: 5000 });
      open({ window: 0 });
      hold(1, { timeMs: clock.wall() - 2000 });
      clock.pass(2999);
      assert.equal(got(1), undefined);
      clock.pass(1);
      assert.deepEqual(got(1), EPERM);
    });

    it("can be given more time, but never more than max_hold", async () => {
      const { open, hold, got, clock } = createBench({ maxHoldMs: 3000 });
      const client = open();
      hold(1);
      await client.read();
      clock.pass(900);
      client.session.extend([1], 60_000);
      clock.pass(2099);
      assert.equal(got(1), undefined);
      clock.pass(1);
      assert.deepEqual(got(1), EPERM);
    });

    it("get the fallback that was chosen: another errno, a kill, or the static policy", async () => {
      for (const [onTimeout, expected] of [
        [
          { kind: "deny", errno: 38 },
          { kind: "deny", errno: 38 },
        ],
        [
          { kind: "kill", scope: "sandbox", signal: 9 },
          { kind: "kill", scope: "sandbox", signal: 9 },
        ],
        [{ kind: "static_policy" }, { kind: "static" }],
      ] as const) {
        const { open, hold, got, clock } = createBench({ onTimeout });
        const client = open();
        hold(1);
        await client.read();
        clock.pass(1000);
        assert.deepEqual(got(1), expected);
      }
    });

    it("do not lose time while the sandbox is paused", async () => {
      const { registry, open, hold, got, clock } = createBench();
      const client = open();
      hold(1);
      await client.read();
      clock.pass(600);
      registry.paused("box", true);
      clock.pass(1_000_000);
      assert.equal(got(1), undefined);
      registry.paused("box", false);
      clock.pass(399);
      assert.equal(got(1), undefined);
      clock.pass(1);
      assert.deepEqual(got(1), EPERM);
    });

    it("are shown to the next decider with the time that is left of max_hold and the number of the attempt", async () => {
      const { open, hold, clock } = createBench({ maxHoldMs: 1200 });
      const first = open();
      const second = open({ role: "standby" });
      await second.read();
      hold(1);
      await first.read();
      clock.pass(500);
      first.session.close();
      const [message] = await second.read();
      assert.ok(message?.kind === "calls");
      assert.deepEqual(
        message.calls.map(({ timeLeftMs, attempt }) => [timeLeftMs, attempt]),
        [[700, 2]],
      );
    });
  });

  describe("without a decider", () => {
    it("are refused at once, and held when there is one", async () => {
      const { open, hold, got, bodies } = createBench();
      hold(1);
      assert.deepEqual(got(1), EPERM);
      assert.equal(bodies("call_settled")[0]?.source, "no_decider");
      open();
      hold(2);
      assert.equal(got(2), undefined);
    });

    it("wait for the grace time, and go to a decider that comes within it", async () => {
      const { open, hold, got, clock } = createBench({
        onNoDecider: { graceMs: 500, fallback: { kind: "deny", errno: 11 } },
      });
      hold(1);
      clock.pass(499);
      assert.equal(got(1), undefined);
      clock.pass(1);
      assert.deepEqual(got(1), { kind: "deny", errno: 11 });
      hold(2);
      clock.pass(499);
      const client = open();
      const messages = await client.read();
      assert.equal(messages[0]?.kind === "opened" && messages[0].backlog, 1);
      assert.deepEqual(idsOf(messages), [2]);
      clock.pass(999);
      assert.equal(got(2), undefined);
    });

    it("get that fallback too when no decider's match wants them", async () => {
      const { open, hold, got } = createBench();
      const empty = {
        syscalls: [],
        paths: [],
        writesOnly: false,
        destinations: [],
        executables: [],
        programs: [],
        arguments: [],
      };
      open({ match: { ...empty, categories: ["network"] } });
      hold(1);
      assert.deepEqual(got(1), EPERM);
    });
  });

  describe("when the decider's stream ends", () => {
    it("go to a standby, which is asked nothing before", async () => {
      const { open, hold, got } = createBench();
      const primary = open();
      const standby = open({ name: "standby", role: "standby" });
      hold(1);
      hold(2);
      assert.deepEqual(idsOf(await primary.read()), [1, 2]);
      assert.deepEqual(idsOf(await standby.read()), []);
      primary.session.close();
      const messages = await standby.read();
      assert.deepEqual(idsOf(messages), [1, 2]);
      assert.deepEqual(
        messages.flatMap((m) => (m.kind === "calls" ? m.calls.map(({ attempt }) => attempt) : [])),
        [2, 2],
      );
      standby.session.answer([verdict(1, "allow")]);
      assert.deepEqual(got(1), allowed);
      assert.equal(got(2), undefined);
    });

    it("get the no-decider fallback when there is no other, and nothing is allowed", async () => {
      const { open, hold, got, bodies } = createBench();
      const client = open({ selector: { sandboxIds: new Set(["box"]), labels: new Map() } });
      hold(1);
      hold(2);
      await client.readOne();
      await client.readOne();
      client.session.close();
      assert.deepEqual([got(1), got(2)], [EPERM, EPERM]);
      assert.deepEqual(
        bodies("decider_changed").map(({ connected, leased }) => [connected, leased]),
        [
          [true, 0],
          [false, 2],
        ],
      );
    });

    it("by leaving the loop over its messages, its calls are handed on as well", async () => {
      const { registry, hold, got } = createBench();
      const session = registry.openDecider("tenant", "someone", {
        name: "short",
        selector: everything,
        match: undefined,
        window: 10,
        role: "primary",
        takeOver: false,
        reportOutcomes: "failures",
        maxBatch: 0,
        mayAllow: true,
      });
      hold(1);
      for await (const message of session.messages()) if (message.kind === "calls") break;
      assert.deepEqual(got(1), EPERM);
      assert.equal(registry.counts("box").deciders, 0);
    });

    it("by a drain, calls are handed back, late verdicts count for nothing, and the stream can end by itself", async () => {
      const { open, hold, got } = createBench();
      const primary = open();
      const standby = open({ name: "standby", role: "standby" });
      hold(1);
      await primary.read();
      primary.session.drain(false);
      primary.session.answer([verdict(1, "allow")]);
      const messages = await primary.read();
      assert.deepEqual(withdrawals(messages), [[1, "reassigned"]]);
      assert.deepEqual(
        outcomes(messages).map(({ applied, problem }) => [applied, problem?.reason]),
        [[false, "LEASE_HELD"]],
      );
      assert.equal(got(1), undefined);
      assert.deepEqual(idsOf(await standby.read()), [1]);
      primary.session.drain(true);
      await assert.rejects(primary.readOne(), /the stream ended/);
    });
  });

  describe("with several deciders", () => {
    it("go to the standby when the primary abstains, and to the fallback when it does too", async () => {
      const { open, hold, got } = createBench();
      const primary = open();
      const standby = open({ role: "standby" });
      hold(1);
      await primary.read();
      primary.session.answer([verdict(1, { kind: "abstain" })]);
      assert.deepEqual(idsOf(await standby.read()), [1]);
      assert.equal(got(1), undefined);
      standby.session.answer([verdict(1, { kind: "abstain" })]);
      assert.deepEqual(got(1), EPERM);
    });

    it("refuse a second primary for the same calls, unless it takes over, or wants other calls", async () => {
      const { open, hold, got } = createBench();
      const first = open({ name: "first" });
      hold(1);
      assert.deepEqual(idsOf(await first.read()), [1]);
      assert.throws(() => open({ name: "second" }), refusedWith("LEASE_HELD"));
      open({
        name: "elsewhere",
        selector: { sandboxIds: new Set(), labels: new Map([["team", "blue"]]) },
        takeOver: true,
      });
      const second = open({ name: "second", takeOver: true });
      assert.deepEqual(withdrawals(await first.read()), [[1, "reassigned"]]);
      assert.deepEqual(idsOf(await second.read()), [1]);
      first.session.answer([verdict(1, "allow")]);
      assert.equal(outcomes(await first.read())[0]?.problem?.reason, "LEASE_HELD");
      assert.equal(got(1), undefined);
      second.session.close();
      assert.deepEqual(idsOf(await first.read()), [1]);
    });

    it("never show one tenant's calls to another, nor take its verdicts", async () => {
      const { registry, open, hold, got } = createBench();
      const own = open();
      const other = open({}, "other tenant");
      hold(1);
      await own.read();
      assert.deepEqual(idsOf(await other.read()), []);
      other.session.answer([verdict(1, "allow")]);
      assert.equal(outcomes(await other.read())[0]?.problem?.reason, "HOLD_NOT_FOUND");
      assert.equal(got(1), undefined);
      assert.deepEqual(registry.listHeld("other tenant", everything, 0, 10), []);
      assert.throws(
        () => registry.resolve("other tenant", "someone", "box", verdict(1, "allow"), true),
        refusedWith("HOLD_NOT_FOUND"),
      );
    });

    it("reach only deciders whose selector chose the sandbox", async () => {
      const { open, hold } = createBench();
      const red = open({ selector: { sandboxIds: new Set(), labels: new Map([["team", "red"]]) } });
      const blue = open({ selector: { sandboxIds: new Set(), labels: new Map([["team", "blue"]]) } });
      hold(1);
      assert.deepEqual([idsOf(await red.read()), idsOf(await blue.read())], [[1], []]);
    });
  });

  describe("and the window", () => {
    it("are at most as many out as it says; a verdict, a withdrawal and a timeout each free a place", async () => {
      const { registry, open, hold, clock } = createBench();
      const client = open({ window: 2 });
      for (const holdId of [1, 2, 3, 4, 5, 6]) hold(holdId);
      assert.deepEqual(idsOf(await client.read()), [1, 2]);
      client.session.answer([verdict(2, "allow")]);
      assert.deepEqual(idsOf(await client.read()), [3]);
      registry.gone(1);
      assert.deepEqual(idsOf(await client.read()), [4]);
      clock.pass(1000);
      assert.deepEqual(idsOf(await client.read()), [5, 6]);
    });

    it("wait while it is zero, and come when it opens", async () => {
      const { open, hold } = createBench();
      const client = open({ window: 0 });
      hold(1);
      assert.deepEqual(idsOf(await client.read()), []);
      client.session.setWindow(1);
      assert.deepEqual(idsOf(await client.read()), [1]);
    });

    it("a decider that never reads is sent nothing more than its window", async () => {
      const { registry, open, hold } = createBench({ maxHeld: 1000 });
      const client = open({ window: 8 });
      await client.readOne();
      for (let holdId = 1; holdId <= 500; holdId += 1) hold(holdId);
      await client.readOne();
      for (let holdId = 1; holdId <= 500; holdId += 1) registry.gone(holdId);
      assert.equal(withdrawals(await client.read()).length, 8);
    });

    it("a decider that sends and never reads is read no further", async () => {
      const { open } = createBench();
      const { session, read } = open();
      session.answer(Array.from({ length: 2000 }, (_, index) => verdict(index + 1, "allow")));
      let isReady = false;
      const ready = session.ready().then(() => (isReady = true));
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(isReady, false);
      assert.equal(outcomes(await read()).length, 2000);
      await ready;
    });
  });

  describe("in too great a number", () => {
    it("get the on_timeout fallback at once, which is reported once until there is room", async () => {
      const { open, hold, got, bodies } = createBench({ maxHeld: 2, onTimeout: { kind: "deny", errno: 12 } });
      const client = open();
      for (const holdId of [1, 2, 3, 4]) hold(holdId);
      assert.deepEqual([1, 2, 3, 4].map(got), [
        undefined,
        undefined,
        { kind: "deny", errno: 12 },
        { kind: "deny", errno: 12 },
      ]);
      assert.deepEqual(
        bodies("limit_reached").map(({ limit }) => limit),
        ["max_held"],
      );
      await client.read();
      client.session.answer([verdict(1, "allow")]);
      hold(5);
      assert.equal(got(5), undefined);
    });
  });

  describe("that vanish", () => {
    it("are withdrawn, and a verdict for one is told so", async () => {
      const { registry, open, hold, got, bodies } = createBench();
      const client = open();
      hold(1);
      await client.read();
      registry.gone(1);
      client.session.answer([verdict(1, "allow")]);
      const messages = await client.read();
      assert.deepEqual(withdrawals(messages), [[1, "target_gone"]]);
      assert.equal(outcomes(messages)[0]?.problem?.reason, "TARGET_GONE");
      assert.equal(got(1), undefined);
      assert.equal(bodies("call_settled")[0]?.source, "target_gone");
    });

    it("with their sandbox are withdrawn and refused", async () => {
      const { registry, open, hold, got } = createBench();
      const client = open();
      hold(1);
      await client.read();
      registry.sandboxEnded("box");
      assert.deepEqual(got(1), EPERM);
      assert.deepEqual(withdrawals(await client.read()), [[1, "sandbox_ended"]]);
      hold(2);
      assert.deepEqual(got(2), EPERM);
    });
  });

  it("keep their first verdict: a second is late, and one for a call that never was is not found", async () => {
    const { open, hold, settled, clock } = createBench();
    const client = open();
    hold(1);
    hold(2);
    await client.read();
    client.session.answer([verdict(1, { kind: "deny", errno: 1 }), verdict(1, "allow"), verdict(77, "allow")]);
    clock.pass(1000);
    client.session.answer([verdict(2, "allow")]);
    assert.deepEqual(
      outcomes(await client.read()).map(({ holdId, problem }) => [holdId, problem?.reason]),
      [
        [1, "VERDICT_LATE"],
        [77, "HOLD_NOT_FOUND"],
        [2, "VERDICT_LATE"],
      ],
    );
    assert.deepEqual(
      settled.map(({ settlement }) => settlement),
      [EPERM, EPERM],
    );
  });

  it("are confirmed one by one where all outcomes are wanted", async () => {
    const { open, hold } = createBench();
    const client = open({ reportOutcomes: "all" });
    hold(1);
    await client.read();
    client.session.answer([verdict(1, "allow")]);
    assert.deepEqual(outcomes(await client.read()), [
      { holdId: 1, applied: true, problem: undefined, grantId: undefined },
    ]);
  });

  describe("that are equal", () => {
    it("are asked about once and share the answer", async () => {
      const { open, hold, got, bodies } = createBench({ coalesce: true });
      const client = open({ window: 0 });
      hold(1, { path: "/same" });
      hold(2, { path: "/same" });
      hold(3, { path: "/other" });
      client.session.setWindow(10);
      const messages = await client.read();
      assert.deepEqual(
        messages.flatMap((m) => (m.kind === "calls" ? m.calls.map(({ call, waiting }) => [call.holdId, waiting]) : [])),
        [
          [1, 2],
          [3, 1],
        ],
      );
      client.session.answer([verdict(1, "allow")]);
      assert.deepEqual([got(1), got(2), got(3)], [allowed, allowed, undefined]);
      assert.equal(bodies("call_held").length, 3);
    });

    it("are asked about anew when the one that was shown vanishes", async () => {
      const { registry, open, hold, got } = createBench({ coalesce: true });
      const client = open();
      hold(1, { path: "/same" });
      hold(2, { path: "/same" });
      await client.read();
      registry.gone(1);
      const messages = await client.read();
      assert.deepEqual(withdrawals(messages), [[1, "target_gone"]]);
      assert.deepEqual(idsOf(messages), [2]);
      client.session.answer([verdict(2, "allow")]);
      assert.deepEqual(got(2), allowed);
      assert.equal(registry.counts("box").held, 0);
    });

    it("are asked about one by one when the program or its executable differs, or nothing is to be coalesced", async () => {
      const { open, hold } = createBench({ coalesce: true });
      const client = open();
      const call = hold(1, { path: "/same" });
      hold(2, { path: "/same", task: { ...call.task, executable: Buffer.from("/usr/bin/tee") } });
      hold(3, { path: "/same", integrity: "racy" });
      assert.deepEqual(idsOf(await client.read()), [1, 2, 3]);
      const apart = createBench();
      const reader = apart.open();
      apart.hold(1, { path: "/same" });
      apart.hold(2, { path: "/same" });
      assert.deepEqual(idsOf(await reader.read()), [1, 2]);
    });
  });

  describe("with a verdict to remember", () => {
    it("become a grant of the engine, which is listed, counted and revoked", async () => {
      const { registry, open, hold, grants } = createBench();
      const client = open({ reportOutcomes: "all", name: "reviewer" });
      hold(1);
      await client.read();
      client.session.answer([verdict(1, "allow", { remember: sameCall })]);
      const [outcome] = outcomes(await client.read());
      assert.equal(outcome?.applied, true);
      const grantId = outcome.grantId ?? "";
      assert.deepEqual([...grants.keys()], [grantId]);
      registry.grantUsed(grantId, 3);
      const [record] = registry.listGrants("tenant", everything, "", 10);
      assert.deepEqual([record?.uses, record?.decider, record?.grant.settlement], [3, "reviewer", allowed]);
      assert.deepEqual(registry.listGrants("other tenant", everything, "", 10), []);
      assert.equal(registry.revokeGrants("other tenant", [grantId], everything), 0);
      assert.equal(registry.revokeGrants("tenant", [grantId], everything), 1);
      assert.equal(grants.size, 0);
    });

    it("end with their time, their uses and their sandbox", async () => {
      const { registry, open, hold, grants, clock } = createBench();
      const client = open();
      for (const holdId of [1, 2, 3]) hold(holdId);
      await client.read();
      client.session.answer([
        verdict(1, "allow", { remember: { ...sameCall, ttlMs: 5000 } }),
        verdict(2, "allow", { remember: { ...sameCall, maxUses: 2 } }),
        verdict(3, "allow", { remember: sameCall }),
      ]);
      assert.equal(grants.size, 3);
      clock.pass(5000);
      assert.equal(grants.size, 2);
      registry.grantUsed("grant-2", 2);
      assert.equal(grants.size, 1);
      registry.sandboxEnded("box");
      assert.equal(grants.size, 0);
      assert.deepEqual(registry.listGrants("tenant", everything, "", 10), []);
    });

    it("are never remembered as allowed while the program can change its arguments, but may be as refused", async () => {
      const { open, hold, got, grants } = createBench();
      const client = open();
      hold(1, { integrity: "racy" });
      hold(2, { integrity: "racy" });
      await client.read();
      client.session.answer([
        verdict(1, "allow", { remember: sameCall }),
        verdict(2, { kind: "deny", errno: 13 }, { remember: sameCall }),
      ]);
      assert.deepEqual(got(1), allowed);
      const [outcome, ...others] = outcomes(await client.read());
      assert.deepEqual([outcome?.holdId, outcome?.applied, outcome?.problem?.reason], [1, true, "CEILING_EXCEEDED"]);
      assert.deepEqual(others, []);
      assert.deepEqual(
        [...grants.values()].map(({ settlement }) => settlement),
        [{ kind: "deny", errno: 13 }],
      );
    });

    it("for the executable name the one that made the call, and settle no call of another that waits", async () => {
      const { open, hold, got, grants } = createBench();
      const client = open({ window: 1 });
      const first = hold(1, { path: "/same" });
      hold(2, { path: "/same", task: { ...first.task, executable: Buffer.from("/usr/bin/other") } });
      hold(3, { path: "/same" });
      await client.read();
      client.session.answer([verdict(1, "allow", { remember: { ...sameCall, scope: "executable" } })]);
      assert.deepEqual([2, 3].map(got), [undefined, allowed]);
      assert.deepEqual(
        [...grants.values()].map(({ executable }) => executable),
        [first.task.executable],
      );
      const unknown = createBench();
      const other = unknown.open();
      unknown.hold(1, { task: { ...first.task, executable: new Uint8Array(0) } });
      await other.read();
      other.session.answer([verdict(1, "allow", { remember: { ...sameCall, scope: "executable" } })]);
      assert.deepEqual([unknown.got(1), unknown.grants.size], [allowed, 0]);
    });

    it("for the selector hold in every sandbox of it, there or still to come, until the stream ends", async () => {
      const { registry, open, hold, grants } = createBench();
      const addBox = (sandboxId: string, tenant = "tenant", team = "red") =>
        registry.sandboxCreated({ sandboxId, tenant, labels: new Map([["team", team]]), policy });
      addBox("before");
      addBox("foreign", "other");
      addBox("blue", "tenant", "blue");
      const selector = { sandboxIds: new Set<string>(), labels: new Map([["team", "red"]]) };
      const client = open({ selector });
      hold(1);
      await client.read();
      client.session.answer([verdict(1, "allow", { remember: { ...sameCall, scope: "selector" } })]);
      const boxes = () => [...grants.values()].map(({ sandboxId }) => sandboxId);
      assert.deepEqual(boxes(), ["box", "before"]);
      addBox("after");
      assert.deepEqual(boxes(), ["box", "before", "after"]);
      client.session.close();
      assert.deepEqual(boxes(), []);
      addBox("late");
      assert.deepEqual(boxes(), []);
    });

    it("for the selector end everywhere when one of them is revoked", async () => {
      const { registry, open, hold, grants } = createBench();
      registry.sandboxCreated({ sandboxId: "second", tenant: "tenant", labels: new Map(), policy });
      const client = open();
      hold(1);
      await client.read();
      client.session.answer([verdict(1, "allow", { remember: { ...sameCall, scope: "selector" } })]);
      assert.equal(grants.size, 2);
      assert.equal(registry.revokeGrants("tenant", ["grant-2"], everything), 1);
      assert.equal(grants.size, 0);
      registry.sandboxCreated({ sandboxId: "third", tenant: "tenant", labels: new Map(), policy });
      assert.equal(grants.size, 0);
    });

    it("for a selector that nobody has hold once, and say so", () => {
      const { registry, hold, got, grants } = createBench({ onNoDecider: { graceMs: 1000, fallback: EPERM } });
      hold(1);
      const answer = verdict(1, "allow", { remember: { ...sameCall, scope: "selector" } });
      const { applied, problem } = registry.resolve("tenant", "someone", "box", answer, true);
      assert.deepEqual([applied, problem?.reason, got(1), grants.size], [true, "CEILING_EXCEEDED", allowed, 0]);
    });

    it("for a scope of a later version hold once, and say so", async () => {
      const { open, hold, got, grants } = createBench();
      const client = open();
      hold(1);
      await client.read();
      client.session.answer([verdict(1, "allow", { remember: { ...sameCall, scope: "process" } })]);
      assert.deepEqual(got(1), allowed);
      assert.equal(grants.size, 0);
      assert.deepEqual(
        outcomes(await client.read()).map(({ applied, problem }) => [applied, problem?.reason]),
        [[true, "NOT_IMPLEMENTED"]],
      );
    });

    it("settle equal calls that nobody was asked about, and leave those that are out with a decider", async () => {
      const { open, hold, got, bodies } = createBench();
      const client = open({ window: 2 });
      for (const holdId of [1, 2, 3, 4]) hold(holdId, { path: holdId === 4 ? "/other" : "/same" });
      assert.deepEqual(idsOf(await client.read()), [1, 2]);
      client.session.answer([verdict(1, "allow", { remember: sameCall })]);
      assert.deepEqual([2, 3, 4].map(got), [undefined, allowed, undefined]);
      assert.deepEqual(
        bodies("call_settled").map(({ source }) => source),
        ["decider", "grant"],
      );
    });
  });

  describe("without a stream", () => {
    it("are listed oldest first and by page", () => {
      const { registry, open, hold } = createBench();
      open({ window: 0 });
      for (const holdId of [3, 5, 9]) hold(holdId);
      const ids = (after: number, limit: number): number[] =>
        registry.listHeld("tenant", everything, after, limit).map(({ call }) => call.holdId);
      assert.deepEqual(ids(0, 2), [3, 5]);
      assert.deepEqual(ids(5, 2), [9]);
    });

    it("are resolved by anyone of the tenant, which withdraws them from their decider", async () => {
      const { registry, open, hold, got, bodies } = createBench();
      const client = open();
      hold(1);
      await client.read();
      const outcome = registry.resolve("tenant", "anna", "box", verdict(1, "allow"), true);
      assert.equal(outcome.applied, true);
      assert.deepEqual(got(1), allowed);
      assert.deepEqual(withdrawals(await client.read()), [[1, "answered"]]);
      assert.equal(bodies("call_settled")[0]?.sourceName, "anna");
      assert.throws(
        () => registry.resolve("tenant", "anna", "box", verdict(1, "allow"), true),
        refusedWith("VERDICT_LATE"),
      );
      hold(2);
      assert.throws(
        () => registry.resolve("tenant", "anna", "elsewhere", verdict(2, "allow"), true),
        refusedWith("HOLD_NOT_FOUND"),
      );
      assert.throws(
        () => registry.resolve("tenant", "anna", "box", verdict(2, { kind: "abstain" }), true),
        refusedWith("INVALID_FIELD"),
      );
      assert.equal(got(2), undefined);
    });
  });

  it("a wait for a decider ends when one comes, with the sandbox, and with the caller's signal", async () => {
    const { registry, open } = createBench();
    const never = new AbortController();
    const waiting = registry.whenDecider("box", never.signal);
    const aborted = new AbortController();
    const abandoned = registry.whenDecider("box", aborted.signal);
    aborted.abort(new Error("no longer wanted"));
    await assert.rejects(abandoned, /no longer wanted/);
    const client = open();
    await waiting;
    client.session.close();
    const unmet = registry.whenDecider("box", never.signal);
    registry.sandboxEnded("box");
    await assert.rejects(unmet, refusedWith("WRONG_STATE"));
  });

  it("a quiet stream carries heartbeats", async () => {
    const { open, clock } = createBench({}, { heartbeatIntervalMs: 1000 });
    const client = open();
    await client.read();
    clock.pass(999);
    assert.deepEqual(await client.read(), []);
    clock.pass(1);
    assert.deepEqual(await client.read(), [{ kind: "heartbeat", inFlight: 0, queued: 0 }]);
  });

  it("share one timer, and leave none behind", async () => {
    const { registry, open, hold, clock } = createBench();
    const client = open();
    for (let holdId = 1; holdId <= 90; holdId += 1) hold(holdId);
    await client.read();
    assert.ok(clock.timers <= 2, `${clock.timers} timers`);
    registry.dispose();
    assert.equal(clock.timers, 0);
  });
});
