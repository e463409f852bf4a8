import assert from "node:assert/strict";
import fc from "fast-check";
import { noDeadline } from "../../../src/base/deadlines.js";
import { createDeadlines } from "../../../src/sandbox/decisions/deadlines.js";
import type { VerdictAction } from "../../../src/sandbox/decisions/decider.js";
import type { Fallback } from "../../../src/sandbox/model.js";
import { createManualClock } from "../../support/clock.js";
import { type Client, createBench, idsOf, verdict } from "./support.js";

type Step =
  | { readonly do: "hold"; readonly path: number; readonly racy: boolean }
  | { readonly do: "gone"; readonly pick: number }
  | { readonly do: "answer"; readonly client: number; readonly pick: number; readonly action: VerdictAction }
  | { readonly do: "resolve"; readonly pick: number; readonly action: VerdictAction }
  | { readonly do: "open"; readonly role: "primary" | "standby"; readonly window: number; readonly takeOver: boolean }
  | { readonly do: "read" | "close" | "drain"; readonly client: number }
  | { readonly do: "window"; readonly client: number; readonly window: number }
  | { readonly do: "extend"; readonly client: number; readonly pick: number; readonly ms: number }
  | { readonly do: "pass"; readonly ms: number }
  | { readonly do: "pause"; readonly paused: boolean };

const small = fc.nat({ max: 7 });
const action: fc.Arbitrary<VerdictAction> = fc.oneof(
  fc.constant<VerdictAction>({ kind: "allow" }),
  fc.record({ kind: fc.constant("deny" as const), errno: fc.nat({ max: 5000 }) }),
  fc.constant<VerdictAction>({ kind: "abstain" }),
  fc.constant<VerdictAction>({ kind: "kill", scope: "process", signal: 9 }),
  fc.constant<VerdictAction>({ kind: "unsupported", field: "substitute" }),
  fc.constant<VerdictAction>({ kind: "unknown" }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("hold" as const), path: fc.nat({ max: 2 }), racy: fc.boolean() }),
  },
  fc.record({ do: fc.constant("gone" as const), pick: small }),
  { weight: 4, arbitrary: fc.record({ do: fc.constant("answer" as const), client: small, pick: small, action }) },
  fc.record({ do: fc.constant("resolve" as const), pick: small, action }),
  fc.record({
    do: fc.constant("open" as const),
    role: fc.constantFrom("primary" as const, "standby" as const),
    window: fc.nat({ max: 3 }),
    takeOver: fc.boolean(),
  }),
  { weight: 4, arbitrary: fc.record({ do: fc.constant("read" as const), client: small }) },
  fc.record({ do: fc.constantFrom("close" as const, "drain" as const), client: small }),
  fc.record({ do: fc.constant("window" as const), client: small, window: fc.nat({ max: 3 }) }),
  fc.record({ do: fc.constant("extend" as const), client: small, pick: small, ms: fc.nat({ max: 3000 }) }),
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.nat({ max: 1500 }) }) },
  fc.record({ do: fc.constant("pause" as const), paused: fc.boolean() }),
);
const fallback = fc.constantFrom<Fallback>({ kind: "deny", errno: 1 }, { kind: "static_policy" });

describe("any schedule of held calls", () => {
  it("settles each call exactly once, and allows none without a verdict that allows it", async () => {
    const schedule = fc.record({
      steps: fc.array(step, { minLength: 1, maxLength: 80, size: "max" }),
      coalesce: fc.boolean(),
      maxHeld: fc.integer({ min: 1, max: 6 }),
      graceMs: fc.constantFrom(0, 700),
      onTimeout: fallback,
      onNoDecider: fallback,
    });
    await fc.assert(
      fc.asyncProperty(schedule, async ({ steps, coalesce, maxHeld, graceMs, onTimeout, onNoDecider }) => {
        const { registry, clock, hold, open, settled, events, bodies } = createBench({
          coalesce,
          maxHeld,
          onTimeout,
          onNoDecider: { graceMs, fallback: onNoDecider },
          maxHoldMs: 4000,
        });
        const clients: Client[] = [];
        const shown = new Map<Client, number[]>();
        const paths = new Map<number, number>();
        const gone = new Set<number>();
        /** Paths for which somebody said allow: equal calls may share that. */
        const allowedPaths = new Set<number>();
        const allowedIds = new Set<number>();
        let lastId = 0;
        // The first decider is there before the first call; others come and go.
        clients.push(open({ window: 3 }));
        const clientOf = (index: number): Client | undefined => clients[index % Math.max(1, clients.length)];
        const holdIdOf = (pick: number): number => Math.max(1, lastId - pick);
        const note = (holdId: number, chosen: VerdictAction): void => {
          if (chosen.kind !== "allow") return;
          allowedIds.add(holdId);
          const path = paths.get(holdId);
          if (path !== undefined) allowedPaths.add(path);
        };

        for (const current of steps) {
          switch (current.do) {
            case "hold":
              lastId += 1;
              paths.set(lastId, current.path);
              hold(lastId, { path: `/path/${current.path}`, integrity: current.racy ? "racy" : "copied" });
              break;
            case "gone":
              registry.gone(holdIdOf(current.pick));
              gone.add(holdIdOf(current.pick));
              break;
            case "answer": {
              const client = clientOf(current.client);
              const ids = (client !== undefined && shown.get(client)) || [];
              // Mostly one that it was shown, else any.
              const holdId = ids.at(-1 - (current.pick % 4)) ?? holdIdOf(current.pick);
              note(holdId, current.action);
              client?.session.answer([verdict(holdId, current.action)]);
              break;
            }
            case "resolve":
              try {
                registry.resolve("tenant", "someone", "box", verdict(holdIdOf(current.pick), current.action), true);
                note(holdIdOf(current.pick), current.action);
              } catch {
                // Settled before, or an abstention: refused to the caller, and nothing happened.
              }
              break;
            case "open":
              try {
                const { role, window, takeOver } = current;
                clients.push(open({ role, window, takeOver }));
              } catch {
                // Another holds the lease.
              }
              break;
            case "read": {
              const client = clientOf(current.client);
              if (client !== undefined)
                shown.set(client, [...(shown.get(client) ?? []), ...idsOf(await client.read())]);
              break;
            }
            case "close":
              clientOf(current.client)?.session.close();
              break;
            case "drain":
              clientOf(current.client)?.session.drain(false);
              break;
            case "window":
              clientOf(current.client)?.session.setWindow(current.window);
              break;
            case "extend":
              clientOf(current.client)?.session.extend([holdIdOf(current.pick)], current.ms);
              break;
            case "pass":
              clock.pass(current.ms);
              break;
            case "pause":
              registry.paused("box", current.paused);
              break;
            default:
              current satisfies never;
          }
          assert.ok(registry.counts("box").held <= maxHeld);
        }
        registry.paused("box", false);
        clock.pass(4000);
        assert.equal(registry.counts("box").held, 0, "nothing outlives max_hold");
        registry.sandboxEnded("box");
        for (const { session } of clients) session.close();
        registry.dispose();
        assert.equal(clock.timers, 0);

        const ends = bodies("call_settled");
        assert.deepEqual(
          ends.map(({ call }) => call.holdId).sort((one, other) => one - other),
          Array.from({ length: lastId }, (_, index) => index + 1),
        );
        assert.equal(new Set(settled.map(({ holdId }) => holdId)).size, settled.length);
        for (const { call, settlement, source } of ends) {
          const told = settled.filter(({ holdId }) => holdId === call.holdId);
          if (source === "target_gone") assert.ok(gone.has(call.holdId));
          else assert.deepEqual(told, [{ holdId: call.holdId, settlement }]);
          if (settlement.kind === "allow") {
            assert.equal(source, "decider");
            const path = paths.get(call.holdId) ?? -1;
            assert.ok(coalesce ? allowedPaths.has(path) : allowedIds.has(call.holdId));
          }
          if (settlement.kind === "static") {
            assert.ok(source === "timeout" || source === "no_decider");
            assert.equal((source === "timeout" ? onTimeout : onNoDecider).kind, "static_policy");
          }
        }
        assert.ok(events.every(({ tenant }) => tenant === "tenant"));
      }),
      { numRuns: 400 },
    );
  });
});

describe("deadlines", () => {
  it("expire each at its own moment, in order, whatever is set, moved and cleared", () => {
    const change = fc.record({ entry: fc.nat({ max: 9 }), atMs: fc.option(fc.nat({ max: 1000 }), { nil: undefined }) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
        const clock = createManualClock();
        const expired: { readonly name: number; readonly atMs: number }[] = [];
        const entries = Array.from({ length: 10 }, (_, name) => ({ name, ...noDeadline }));
        const deadlines = createDeadlines<(typeof entries)[number]>(clock, ({ name }) =>
          expired.push({ name, atMs: clock.now() }),
        );
        const expected = new Map<number, number>();
        for (const { entry, atMs } of changes) {
          const chosen = entries[entry];
          assert.ok(chosen);
          if (atMs === undefined) {
            deadlines.clear(chosen);
            expected.delete(entry);
          } else {
            deadlines.set(chosen, atMs);
            expected.set(entry, atMs);
          }
        }
        clock.pass(1000);
        assert.deepEqual(new Map(expired.map(({ name, atMs }) => [name, atMs])), expected);
        assert.equal(expired.length, expected.size);
        assert.deepEqual(
          expired.map(({ atMs }) => atMs),
          [...expected.values()].sort((one, other) => one - other),
        );
        assert.equal(clock.timers, 0);
      }),
    );
  });
});
