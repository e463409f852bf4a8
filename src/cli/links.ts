import type { DuplexCall } from "../client/client.js";

/** Sending without waiting: what makes a send fail also ends `messages`, where it is seen. */
export interface Link<Input, Output> {
  send(message: Input): void;
  readonly messages: AsyncIterable<Output>;
}

export function linkOf<Input, Output>(call: DuplexCall<Input, Output>): Link<Input, Output> {
  return {
    send: (message) => void call.send(message).catch(() => undefined),
    messages: call.messages,
  };
}
