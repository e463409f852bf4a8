import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { createEngineLoop, type EngineLoop, type HandlerTable, type LoopEvents } from "../../src/engine/loop.js";
import { createChannels } from "../../src/native/channel.js";
import { createExchange } from "../../src/native/exchange.js";
import { loadLibrary } from "../../src/native/library.js";
import { guestPath } from "./guests.js";

/** x86_64 numbers of the calls that `guests/notified.c` has notified. */
export const CALLS = { getppid: 110, getpgid: 121, getsid: 124 } as const;

export interface NotifiedRun {
  readonly output: string;
  readonly errors: readonly unknown[];
  /** Turns of the loop in all. */
  readonly turns: number;
}

export interface NotifiedOptions {
  /** More guests of the same kind in the same loop. */
  readonly guests?: readonly (readonly string[])[];
  readonly handlers: (loop: EngineLoop<number>) => HandlerTable<number>;
  readonly events?: Partial<LoopEvents<number>>;
  /** Called with the loop once all guests' listeners ended; by default it stops the loop. */
  readonly onAllEnded?: (loop: EngineLoop<number>) => void;
}

/**
 * Runs real guests under a real filter with the engine's loop in this thread: the loop blocks it until
 * the last guest's listener ended. A listener's "sandbox" is its guest's index.
 */
export async function runNotified(args: readonly string[], options: NotifiedOptions): Promise<NotifiedRun[]> {
  const library = loadLibrary();
  const channels = createChannels(library);
  const all = [args, ...(options.guests ?? [])];
  const errors: unknown[] = [];
  let turns = 0;
  let left = all.length;
  using loop = createEngineLoop<number>({
    exchange: createExchange(library),
    wakeFd: channels.event(),
    spinUs: 0,
    events: {
      onListenerFault: (_guest, errno) => errors.push(new Error(`listener fault ${errno}`)),
      onError: (error) => errors.push(error),
      onWake: () => undefined,
      ...options.events,
      onListenerEnd(guest) {
        options.events?.onListenerEnd?.(guest);
        left--;
        if (left > 0) return;
        if (options.onAllEnded === undefined) loop.stop();
        else options.onAllEnded(loop);
      },
      onTurnEnd() {
        turns++;
        options.events?.onTurnEnd?.();
      },
    },
  });
  loop.handle(options.handlers(loop));
  const closed = all.map((guestArgs, guest) => {
    const [ours, theirs] = channels.pair();
    const child = spawn(guestPath("notified"), guestArgs, { stdio: ["ignore", "pipe", "inherit", theirs] });
    closeSync(theirs);
    const channel = loop.attachChannel(ours, {
      onPacket(_packet, fds) {
        const [listener] = fds;
        if (listener === undefined) throw new Error("the guest sent no listener");
        loop.attachListener(listener, guest);
        channel.send(Buffer.from("g"), []);
      },
      onEnd: () => undefined,
    });
    let output = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    return once(child, "close").then(() => output);
  });
  loop.run();
  const outputs = await Promise.all(closed);
  return outputs.map((output) => ({ output: output.trim(), errors, turns }));
}
