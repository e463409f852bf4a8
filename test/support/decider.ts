import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DecideOpenSchema,
  HeldCall,
  SandgateClient,
  VerdictOutcome,
  VerdictSchema,
  WithdrawalReason,
} from "../../src/client/client.js";

export type VerdictInit = MessageInitShape<typeof VerdictSchema>;
export type Action = NonNullable<VerdictInit["action"]>;

// These are actions of rules too, and the refusals also of fallbacks.
export const allow = { case: "allow", value: {} } as const;
export const deny = (errorNumber = 0) => ({ case: "deny", value: { errorNumber } }) as const;
export const kill = (scope = 0, signal = 0) => ({ case: "kill", value: { scope, signal } }) as const;

export interface DeciderInit {
  readonly open?: MessageInitShape<typeof DecideOpenSchema>;
  /** Answers by itself what it returns something for. */
  readonly judge?: (call: HeldCall) => VerdictInit["action"] | undefined;
  readonly remember?: VerdictInit["remember"];
}

/** A decider over a real stream, with all that came in. */
export interface TestDecider extends AsyncDisposable {
  readonly calls: readonly HeldCall[];
  readonly withdrawn: ReadonlyMap<bigint, WithdrawalReason>;
  readonly outcomes: readonly VerdictOutcome[];
  /** Resolves once the condition holds; it is looked at whenever something came in. */
  until(what: string, condition: () => boolean): Promise<void>;
  /** The call with this number, from 0, once it is there. */
  call(index: number): Promise<HeldCall>;
  answer(call: HeldCall, action: Action, more?: VerdictInit): Promise<void>;
  /** Ends the stream as a client does that goes away. */
  leave(): void;
}

/** Connects a decider; it decides for the sandboxes of `open.selector`, or for all. */
export async function connectDecider(client: SandgateClient, init: DeciderInit = {}): Promise<TestDecider> {
  const stream = client.decision.decide();
  const calls: HeldCall[] = [];
  const outcomes: VerdictOutcome[] = [];
  const withdrawn = new Map<bigint, WithdrawalReason>();
  const listeners = new Set<() => void>();
  let opened = false;
  let ended: Error | undefined;

  const answer = (call: HeldCall, action: Action, more: VerdictInit = {}): Promise<void> =>
    stream.send({
      message: { case: "verdicts", value: { verdicts: [{ holdId: call.holdId, action, ...more }] } },
    });

  await stream.send({
    message: { case: "open", value: { decider: "test", window: 1024, outcomes: 2, takeOver: true, ...init.open } },
  });
  const reading = (async () => {
    try {
      for await (const { message } of stream.messages) {
        switch (message.case) {
          case "opened":
            opened = true;
            break;
          case "calls":
            for (const call of message.value.calls) {
              calls.push(call);
              const action = init.judge?.(call);
              if (action?.case === undefined) continue;
              await answer(call, action, init.remember === undefined ? {} : { remember: init.remember });
            }
            break;
          case "withdrawal":
            for (const holdId of message.value.holdIds) withdrawn.set(holdId, message.value.reason);
            break;
          case "outcomes":
            outcomes.push(...message.value.outcomes);
            break;
          case "problem":
            throw new Error(message.value.message);
          default:
        }
        for (const listener of listeners) listener();
      }
      ended = new Error("the stream ended");
    } catch (error) {
      ended = error as Error;
    }
    for (const listener of listeners) listener();
  })();

  const until = (what: string, condition: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (condition()) resolve();
        else if (ended !== undefined) reject(new Error(`no ${what}`, { cause: ended }));
        else return;
        listeners.delete(look);
      };
      listeners.add(look);
      look();
    });
  await until("opened", () => opened);

  return {
    calls,
    withdrawn,
    outcomes,
    until,
    async call(index) {
      await until(`call ${index}`, () => calls.length > index);
      const found = calls[index];
      assert.ok(found);
      return found;
    },
    answer,
    leave: () => stream.cancel(),
    async [Symbol.asyncDispose]() {
      stream.cancel();
      await reading;
    },
  };
}
