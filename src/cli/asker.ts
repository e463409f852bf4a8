import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type DecideRequestSchema,
  type DecideResponse,
  type HeldCall,
  OutcomeReporting,
  WithdrawalReason,
} from "../gen/sandgate/v1/decision_pb.js";
import type { Prompter } from "./prompter.js";
import { type Answer, describeCall, describeTask, memoryKey, questionLines, verdictFor } from "./question.js";

/** The client's side of an open Decide stream. */
export interface DecideLink {
  send(message: MessageInitShape<typeof DecideRequestSchema>): void;
  readonly messages: AsyncIterable<DecideResponse>;
}

export interface Asker {
  /** Resolves once the service counts this decider. Rejects when the stream ends before. */
  readonly opened: Promise<void>;
  /** Denies the question on the screen and those behind it, as Ctrl-C means. */
  interrupt(): void;
  /** Resolves when the stream has ended, however. */
  readonly done: Promise<void>;
}

interface Waiting {
  readonly call: HeldCall;
  readonly deadlineMs: number;
  readonly withdrawn: AbortController;
}

class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/** Questions the terminal may have waiting; the service keeps what is beyond. */
const WINDOW = 64;

/** Which calls are asked about: of these sandboxes, or of all. */
export interface AskerScope {
  readonly sandboxIds: readonly string[];
  /** Shows with each question which sandbox it comes from. */
  readonly namesSandbox: boolean;
}

/**
 * Decides by asking. Questions come one at a time in the order in which they were held; an equal call of the same
 * sandbox that was answered "remember" is released without asking.
 */
export function startAsker(
  link: DecideLink,
  { sandboxIds, namesSandbox }: AskerScope,
  prompter: Prompter,
  now: () => number = Date.now,
): Asker {
  const queue: Waiting[] = [];
  const remembered = new Set<string>();
  let current: Waiting | undefined;
  let exhausted = false;
  const openedGate = gate();

  const answer = (call: HeldCall, verdict: Answer, reason: string) => {
    link.send({ message: { case: "verdicts", value: { verdicts: [verdictFor(call, verdict, reason)] } } });
  };

  const keyOf = (call: HeldCall): string | undefined => {
    const key = memoryKey(call);
    return key === undefined ? undefined : `${call.task?.sandboxId ?? ""} ${key}`;
  };

  const settleRemembered = (call: HeldCall): boolean => {
    const key = keyOf(call);
    if (key === undefined || !remembered.has(key)) return false;
    answer(call, "allow", "allowed before at the terminal");
    return true;
  };

  const askNext = async (): Promise<void> => {
    if (current !== undefined) return;
    for (current = queue.shift(); current !== undefined; current = queue.shift()) {
      const { call, deadlineMs, withdrawn } = current;
      const { signal } = withdrawn;
      const interrupted = signal.reason instanceof Interrupted;
      if ((signal.aborted && !interrupted) || settleRemembered(call)) continue;
      const given = exhausted || interrupted ? "deny" : await ask(call, deadlineMs, signal);
      if (given === "withdrawn") continue;
      if (given === "remember") {
        const key = keyOf(call);
        if (key === undefined) prompter.note("this call cannot be recognized again: allowed once");
        else remembered.add(key);
      }
      answer(call, given, exhausted ? "nobody to ask" : "answered at the terminal");
    }
  };

  const ask = async (call: HeldCall, deadlineMs: number, signal: AbortSignal): Promise<Answer | "withdrawn"> => {
    try {
      const given = await prompter.ask(questionLines(call, deadlineMs - now(), queue.length, namesSandbox), signal);
      if (given !== undefined) return given;
      exhausted = true;
      prompter.note("there is nobody to ask: this call and all further ones are denied");
      prompter.note(`denied: ${describeTask(call.task)} wanted to ${describeCall(call)}`);
      return "deny";
    } catch (error) {
      if (error instanceof Interrupted) return "deny";
      if (signal.aborted) return "withdrawn";
      throw error;
    }
  };

  const withdraw = (holdIds: readonly bigint[], reason: WithdrawalReason) => {
    const ids = new Set(holdIds);
    for (const waiting of current === undefined ? queue : [current, ...queue]) {
      if (!ids.has(waiting.call.holdId) || waiting.withdrawn.signal.aborted) continue;
      waiting.withdrawn.abort(new Error("withdrawn"));
      prompter.note(`no answer needed any more, ${withdrawalText(reason)}: ${describeCall(waiting.call)}`);
    }
  };

  const handle = (response: DecideResponse) => {
    const { message } = response;
    switch (message.case) {
      case "opened":
        if (!message.value.mayAllow) prompter.note("you may deny calls here, but not allow them");
        openedGate.open();
        return;
      case "calls":
        for (const call of message.value.calls) {
          const leftMs = call.timeLeft === undefined ? 0 : durationMs(call.timeLeft);
          queue.push({ call, deadlineMs: now() + leftMs, withdrawn: new AbortController() });
        }
        askNext().catch((error: unknown) => prompter.note(`asking failed: ${String(error)}`));
        return;
      case "withdrawal":
        withdraw(message.value.holdIds, message.value.reason);
        return;
      case "outcomes":
        for (const { applied, problem } of message.value.outcomes) {
          if (!applied) prompter.note(`the answer was not applied: ${problem?.message ?? "no reason given"}`);
        }
        return;
      case "problem":
        prompter.note(message.value.message);
        return;
      case "heartbeat":
      case undefined:
        return;
    }
  };

  const pump = async () => {
    try {
      for await (const response of link.messages) handle(response);
    } finally {
      for (const { withdrawn } of current === undefined ? queue : [current, ...queue]) {
        withdrawn.abort(new Error("the decision stream ended"));
      }
      openedGate.fail(new Error("the decision stream ended before it was open"));
    }
  };

  link.send({
    message: {
      case: "open",
      value: {
        decider: "terminal",
        selector: { sandboxIds: [...sandboxIds] },
        window: WINDOW,
        outcomes: OutcomeReporting.FAILURES,
      },
    },
  });
  const done = pump();
  done.catch(() => undefined); // callers that only await `opened` learn of it there
  return {
    opened: openedGate.promise,
    interrupt() {
      for (const { withdrawn } of current === undefined ? queue : [current, ...queue])
        withdrawn.abort(new Interrupted());
    },
    done,
  };
}

function withdrawalText(reason: WithdrawalReason): string {
  switch (reason) {
    case WithdrawalReason.TIMEOUT:
      return "time is over and it was denied";
    case WithdrawalReason.TARGET_GONE:
      return "the process is gone";
    case WithdrawalReason.ANSWERED:
      return "it was answered elsewhere";
    case WithdrawalReason.REASSIGNED:
      return "another decider has it";
    case WithdrawalReason.SANDBOX_ENDED:
      return "the sandbox ended";
    default:
      return "the service took it back";
  }
}

function gate(): { promise: Promise<void>; open: () => void; fail: (error: Error) => void } {
  let open: () => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const promise = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  promise.catch(() => undefined);
  return { promise, open, fail };
}
