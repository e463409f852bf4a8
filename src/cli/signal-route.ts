import type { EventEmitter } from "node:events";

export type ForwardedSignal = "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGQUIT";

const FORWARDED: readonly ForwardedSignal[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];

/** Signals to this command that are meant for the program. Those that come before there is one wait for it. */
export interface SignalRoute {
  /** Gives what waited, and what comes from now on, to `handler`. */
  to(handler: (name: ForwardedSignal, signal: number) => void): void;
  /** Signals that the handler got so far. */
  readonly delivered: number;
  /** Gives the signals their usual meaning again. */
  close(): void;
}

/** `source` is the process. A second signal that still finds no program ends this command through `leave`. */
export function createSignalRoute(source: EventEmitter, leave: (status: number) => void): SignalRoute {
  const waiting: { name: ForwardedSignal; signal: number }[] = [];
  let delivered = 0;
  let target: ((name: ForwardedSignal, signal: number) => void) | undefined;
  const listener = (name: ForwardedSignal, signal: number) => {
    if (target !== undefined) {
      delivered += 1;
      target(name, signal);
    } else if (waiting.length === 0) waiting.push({ name, signal });
    else leave(128 + signal);
  };
  for (const name of FORWARDED) source.on(name, listener);
  return {
    to(handler) {
      target = handler;
      for (const { name, signal } of waiting.splice(0)) listener(name, signal);
    },
    get delivered() {
      return delivered;
    },
    close() {
      for (const name of FORWARDED) source.off(name, listener);
    },
  };
}
