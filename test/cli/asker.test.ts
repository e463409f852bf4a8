import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Asker, type DecideLink, startAsker } from "../../src/cli/asker.js";
import { createSharedInput } from "../../src/cli/input.js";
import type { Prompter } from "../../src/cli/prompter.js";
import type { Answer } from "../../src/cli/question.js";
import {
  ArgumentIntegrity,
  type DecideRequestSchema,
  type DecideResponse,
  DecideResponseSchema,
  GrantScope,
  type HeldCallSchema,
  NetworkOperation,
  WithdrawalReason,
} from "../../src/client/api.js";

type Sent = MessageInitShape<typeof DecideRequestSchema>["message"];

/** The service's side of a Decide stream, and the person's side of the questions. */
function openDesk() {
  const sent: Sent[] = [];
  const notes: string[] = [];
  const asked: { lines: readonly string[]; answer: (answer: Answer | undefined) => void }[] = [];
  const incoming: DecideResponse[] = [];
  let wake: (() => void) | undefined;
  let ended = false;
  const changed = new Set<() => void>();
  const notify = () => {
    for (const look of changed) look();
  };
  const link: DecideLink = {
    send(message) {
      sent.push(message.message);
      notify();
    },
    messages: (async function* () {
      for (;;) {
        const next = incoming.shift();
        if (next !== undefined) yield next;
        else if (ended) return;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    })(),
  };
  const prompter: Prompter = {
    ask: (lines, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        asked.push({ lines, answer: resolve });
        notify();
      }),
    note(line) {
      notes.push(line);
      notify();
    },
    close: () => undefined,
  };
  const asker: Asker = startAsker(link, { sandboxIds: ["box"], namesSandbox: false }, prompter, () => 0);
  return {
    asker,
    sent,
    notes,
    asked,
    receive(message: MessageInitShape<typeof DecideResponseSchema>["message"]) {
      incoming.push(create(DecideResponseSchema, { message: message as NonNullable<typeof message> }));
      wake?.();
    },
    end() {
      ended = true;
      wake?.();
    },
    /** Resolves once the condition holds. */
    until: (condition: () => boolean) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (!condition()) return;
          changed.delete(look);
          resolve();
        };
        changed.add(look);
        look();
      }),
  };
}

type CallInit = MessageInitShape<typeof HeldCallSchema>;

function connectCall(holdId: bigint, lastByte: number, integrity = ArgumentIntegrity.COPIED): CallInit {
  return {
    holdId,
    syscall: "connect",
    integrity,
    timeLeft: durationFromMs(60_000),
    task: { pid: 7, command: { text: "tool" }, executable: { text: "/usr/bin/tool" } },
    detail: {
      case: "network",
      value: {
        operation: NetworkOperation.CONNECT,
        address: { address: { case: "ip", value: Uint8Array.of(127, 0, 0, lastByte) }, port: 80 },
      },
    },
  };
}

function verdictsOf(sent: readonly Sent[]) {
  return sent.flatMap((message) => (message?.case === "verdicts" ? (message.value.verdicts ?? []) : []));
}

describe("the questions of a decider at a terminal", () => {
  it("come one at a time, in order, with what waits behind them", async () => {
    const desk = openDesk();
    desk.receive({ case: "opened", value: { mayAllow: true } });
    await desk.asker.opened;
    desk.receive({ case: "calls", value: { calls: [connectCall(1n, 1), connectCall(2n, 2)] } });
    await desk.until(() => desk.asked.length === 1);
    assert.match(
      desk.asked[0]?.lines.join("\n") ?? "",
      /tool \(pid 7\) wants to connect to 127\.0\.0\.1:80[\s\S]*1m left · 1 more waiting/,
    );
    desk.asked[0]?.answer("deny");
    await desk.until(() => desk.asked.length === 2);
    desk.asked[1]?.answer("allow");
    await desk.until(() => verdictsOf(desk.sent).length === 2);
    assert.deepEqual(
      verdictsOf(desk.sent).map(({ holdId, action }) => [holdId, action?.case]),
      [
        [1n, "deny"],
        [2n, "allow"],
      ],
    );
    desk.end();
  });

  it("are not repeated for what is remembered, which the service remembers too", async () => {
    const desk = openDesk();
    desk.receive({ case: "calls", value: { calls: [connectCall(1n, 1), connectCall(2n, 1), connectCall(3n, 2)] } });
    await desk.until(() => desk.asked.length === 1);
    desk.asked[0]?.answer("remember");
    await desk.until(() => desk.asked.length === 2);
    assert.match(desk.asked[1]?.lines[0] ?? "", /127\.0\.0\.2:80/);
    const [first, second] = verdictsOf(desk.sent);
    assert.equal(first?.remember?.scope, GrantScope.EXECUTABLE);
    assert.deepEqual([second?.holdId, second?.action?.case], [2n, "allow"]);
    desk.end();
  });

  it("are remembered here alone when the service must not: the arguments could still change", async () => {
    const desk = openDesk();
    desk.receive({ case: "calls", value: { calls: [connectCall(1n, 1, ArgumentIntegrity.RACY)] } });
    await desk.until(() => desk.asked.length === 1);
    assert.match(desk.asked[0]?.lines.join("\n") ?? "", /could still change these arguments/);
    desk.asked[0]?.answer("remember");
    await desk.until(() => verdictsOf(desk.sent).length === 1);
    assert.equal(verdictsOf(desk.sent)[0]?.remember, undefined);
    desk.end();
  });

  it("end by themselves when nobody waits for the answer, and the next one comes", async () => {
    const desk = openDesk();
    desk.receive({ case: "calls", value: { calls: [connectCall(1n, 1), connectCall(2n, 2)] } });
    await desk.until(() => desk.asked.length === 1);
    desk.receive({ case: "withdrawal", value: { holdIds: [1n], reason: WithdrawalReason.TIMEOUT } });
    await desk.until(() => desk.asked.length === 2);
    assert.match(desk.notes[0] ?? "", /time is over and it was denied: connect to 127\.0\.0\.1:80/);
    assert.deepEqual(verdictsOf(desk.sent), []);
    desk.end();
  });

  it("are all denied by an interrupt", async () => {
    const desk = openDesk();
    desk.receive({ case: "calls", value: { calls: [connectCall(1n, 1), connectCall(2n, 2)] } });
    await desk.until(() => desk.asked.length === 1);
    desk.asker.interrupt();
    await desk.until(() => verdictsOf(desk.sent).length === 2);
    assert.deepEqual(
      verdictsOf(desk.sent).map(({ action }) => action?.case),
      ["deny", "deny"],
    );
    assert.equal(desk.asked.length, 1);
    desk.end();
  });

  it("fail to open where the stream ends first", async () => {
    const desk = openDesk();
    desk.end();
    await assert.rejects(desk.asker.opened, /ended before it was open/);
  });
});

describe("an input shared between a program and questions", () => {
  it("gives a question only what was typed after it was asked, and the rest to the program", async () => {
    const stream = new PassThrough();
    const input = createSharedInput(stream);
    const got: string[] = [];
    input.connect((chunk) => got.push(chunk === undefined ? "end" : Buffer.from(chunk).toString()), false);
    stream.write("for the program\n");
    const borrowed = await input.borrow();
    assert.deepEqual(got, ["for the program\n"]);
    stream.write("ans");
    stream.write("wer\n");
    assert.equal(await borrowed.readLine(new AbortController().signal), "answer");
    borrowed.release();
    stream.write("again for it");
    stream.end();
    await new Promise((resolve) => stream.once("end", resolve));
    assert.deepEqual(got, ["for the program\n", "again for it", "end"]);
  });

  it("reads a question's answer although the program takes no more input", async () => {
    const stream = new PassThrough();
    const input = createSharedInput(stream);
    input.connect(() => undefined, false);
    input.setProgramPaused(true);
    const borrowed = await input.borrow();
    stream.write("yes\n");
    assert.equal(await borrowed.readLine(new AbortController().signal), "yes");
    borrowed.release();
    assert.equal(stream.isPaused(), true);
  });

  it("stops waiting for a line when the question is withdrawn", async () => {
    const input = createSharedInput(new PassThrough());
    const borrowed = await input.borrow();
    const withdrawn = new AbortController();
    const line = borrowed.readLine(withdrawn.signal);
    withdrawn.abort(new Error("withdrawn"));
    await assert.rejects(line, /withdrawn/);
  });
});
