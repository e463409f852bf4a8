import { strict as assert } from "node:assert";
import { closeSync } from "node:fs";
import { createEngineLoop, type Deferred, type Handler, type HandlerTable } from "../../src/engine/loop.js";
import { deferred, type Verdict } from "../../src/engine/verdict.js";
import { createChannels } from "../../src/native/channel.js";
import { createExchange } from "../../src/native/exchange.js";
import { loadLibrary } from "../../src/native/library.js";
import { CALLS, runNotified } from "../support/notified.js";

const ENOENT = 2;

function answering(verdict: Verdict): Handler<number> {
  return { shapes: [], handle: () => verdict };
}

function table(entries: Partial<Record<keyof typeof CALLS, Handler<number>>>): HandlerTable<number> {
  return new Map(Object.entries(entries).map(([name, handler]) => [CALLS[name as keyof typeof CALLS], handler]));
}

describe("the engine's loop", () => {
  it("answers a call with a value, an errno, or lets it run", async () => {
    const value = await runNotified(["once", "getppid"], {
      handlers: () => table({ getppid: answering({ kind: "value", value: 42 }) }),
    });
    assert.equal(value[0]?.output, "42");
    const errno = await runNotified(["once", "getppid"], {
      handlers: () => table({ getppid: answering({ kind: "errno", errno: ENOENT }) }),
    });
    assert.equal(errno[0]?.output, `errno ${ENOENT}`);
    const run = await runNotified(["once", "getppid"], {
      handlers: () => table({ getppid: answering({ kind: "continue", because: "registers_only" }) }),
    });
    assert.equal(run[0]?.output, `${process.pid}`);
  });

  it("refuses a call whose handler throws, reports the error, and goes on", async () => {
    let calls = 0;
    const faulty: Handler<number> = {
      shapes: [],
      handle() {
        calls++;
        if (calls === 1) throw new Error("a bug in a handler");
        return { kind: "value", value: 42 };
      },
    };
    const [first, second] = await runNotified(["once", "getppid"], {
      guests: [["once", "getppid"]],
      handlers: () => table({ getppid: faulty }),
    });
    const outputs = [first?.output, second?.output].sort();
    assert.deepEqual(outputs, ["42", "errno 1"]);
    assert.deepEqual(
      first?.errors.map((error) => (error as Error).message),
      ["a bug in a handler"],
    );
  });

  it("refuses a notified call that has no handler", async () => {
    const [run] = await runNotified(["once", "getppid"], { handlers: () => new Map() });
    assert.equal(run?.output, "errno 1");
    assert.match(String(run?.errors[0]), /no handler/);
  });

  it("spends nothing on a listener whose last task has exited", async () => {
    let afterwards = 0;
    let ended = false;
    let cpuUs = 0;
    let before: NodeJS.CpuUsage | undefined;
    await runNotified(["once", "getppid"], {
      handlers: (loop) =>
        table({
          getppid: {
            shapes: [],
            handle(call) {
              // A deferred call of the second guest is what ends this test: its deadline is the clock.
              if (call.nr !== CALLS.getppid) throw new Error("unexpected call");
              return { kind: "value", value: 42 };
            },
          },
          getsid: {
            shapes: [],
            handle(call) {
              loop.defer(call, {
                timeoutMs: 700,
                openTask: () => -1,
                onExpired: () => undefined,
                onGone: () => undefined,
              });
              return deferred;
            },
          },
        }),
      guests: [["once", "getsid"]],
      events: {
        onListenerEnd(guest) {
          if (guest !== 0) {
            if (before !== undefined) {
              const used = process.cpuUsage(before);
              cpuUs = used.user + used.system;
            }
            return;
          }
          ended = true;
          before = process.cpuUsage();
        },
        onTurnEnd() {
          if (ended) afterwards++;
        },
      },
    });
    assert.ok(ended);
    assert.ok(afterwards < 10, `the loop turned ${afterwards} times although nothing happened`);
    assert.ok(cpuUs < 300_000, `the loop used ${cpuUs} µs although nothing happened`);
  });

  it("lives through callers that die before, while and after their call is received", async () => {
    const [run] = await runNotified(["doomed", "300"], {
      handlers: () => table({ getppid: answering({ kind: "value", value: 42 }) }),
    });
    assert.equal(run?.output, "42");
    assert.deepEqual(run?.errors, []);
  });

  it("answers ten thousand calls of fifty threads although signals arrive", async () => {
    const [run] = await runNotified(["burst", "50", "200"], {
      handlers: () => table({ getppid: answering({ kind: "value", value: 42 }) }),
    });
    assert.equal(run?.output, "10000");
    assert.deepEqual(run?.errors, []);
  });

  it("delays no other call, of the same sandbox or another, by a call that is deferred", async () => {
    let slow: Deferred | undefined;
    let started: Deferred | undefined;
    const order: string[] = [];
    const ended = {
      timeoutMs: 60_000,
      openTask: () => -1,
      onExpired: () => order.push("expired"),
      onGone: () => order.push("gone"),
    };
    const done: Verdict = { kind: "value", value: 0 };
    const [mixed, other] = await runNotified(["mixed", "1000"], {
      guests: [["once", "getppid"]],
      handlers: (loop) =>
        table({
          getpgid: {
            shapes: [],
            handle(call) {
              slow = loop.defer(call, ended);
              started?.answer(done);
              return deferred;
            },
          },
          getppid: answering({ kind: "value", value: 42 }),
          // The guest's main thread asks for this before and after its calls: it makes all of them while the slow
          // one is held.
          getsid: {
            shapes: [],
            handle(call) {
              order.push(order.length === 0 ? "begin" : "fast");
              if (order.length > 1) slow?.answer({ kind: "value", value: 7 });
              else if (slow === undefined) {
                started = loop.defer(call, ended);
                return deferred;
              }
              return done;
            },
          },
        }),
    });
    assert.deepEqual(order, ["begin", "fast"]);
    assert.equal(mixed?.output, "fast\nslow 7");
    assert.equal(other?.output, "42");
  });

  it("refuses a deferred call at its deadline", async () => {
    const events: string[] = [];
    const [run] = await runNotified(["once", "getppid"], {
      handlers: (loop) =>
        table({
          getppid: {
            shapes: [],
            handle(call) {
              loop.defer(call, {
                timeoutMs: 50,
                openTask: () => -1,
                onExpired: () => events.push("expired"),
                onGone: () => events.push("gone"),
              });
              return deferred;
            },
          },
        }),
    });
    assert.equal(run?.output, "errno 1");
    assert.deepEqual(events, ["expired"]);
  });

  it("keeps a channel apart from one that was closed in the same turn as its peer", () => {
    const library = loadLibrary();
    const channels = createChannels(library);
    const wakeFd = channels.event();
    const seen: string[] = [];
    using loop = createEngineLoop<null>({
      exchange: createExchange(library),
      wakeFd,
      spinUs: 0,
      events: {
        onListenerEnd: () => undefined,
        onListenerFault: () => undefined,
        onError: (error) => seen.push(String(error)),
        onWake: () => loop.stop(),
        onTurnEnd: () => undefined,
      },
    });
    const [first, firstPeer] = channels.pair();
    const [second, secondPeer] = channels.pair();
    const [third, thirdPeer] = channels.pair();
    const closing = loop.attachChannel(first, { onPacket: () => undefined, onEnd: () => seen.push("first ended") });
    loop.attachChannel(second, {
      onPacket() {
        closing.close();
        loop.attachChannel(third, {
          onPacket(packet) {
            seen.push(packet.toString());
            channels.signal(wakeFd);
          },
          onEnd: () => seen.push("third ended"),
        });
        channels.send(thirdPeer, Buffer.from("hello"), []);
      },
      onEnd: () => undefined,
    });
    // One turn sees both: the packet that closes the first channel, and the end of that channel.
    channels.send(secondPeer, Buffer.from("now"), []);
    closeSync(firstPeer);
    loop.run();
    assert.deepEqual(seen, ["hello"]);
    for (const fd of [secondPeer, thirdPeer]) closeSync(fd);
  });
});
