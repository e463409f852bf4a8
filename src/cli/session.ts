import { randomUUID } from "node:crypto";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type ExitStatus, SignalScope } from "../client/client.js";
import { startAttachment } from "./attachment.js";
import type { Connection } from "./connection.js";
import type { SharedInput } from "./input.js";
import { linkOf } from "./links.js";
import { createSinks, OutputClosed } from "./output.js";
import type { OutputGate } from "./prompter.js";
import type { SignalRoute } from "./signal-route.js";

export interface SessionOptions {
  readonly sandboxId: string;
  readonly processId: string;
  readonly terminal: TerminalSource | undefined;
  /** Undefined leaves the program's input alone. */
  readonly input: SharedInput | undefined;
  readonly gate: OutputGate;
  readonly fromStart: boolean;
  /** Signals to this command that go to the program, whose life depends on it; undefined leaves it alone. */
  readonly signals: SignalRoute | undefined;
  /** Called for each SIGINT after it was passed on. */
  readonly onInterrupt?: () => void;
}

export interface TerminalSource {
  size(): { columns: number; rows: number };
}

/** The size of this process's terminal, or the usual one. */
export const localTerminal: TerminalSource = {
  size: () => ({ columns: process.stdout.columns ?? 80, rows: process.stdout.rows ?? 24 }),
};

/** Exit status of a program that SIGPIPE ended, for when our own reader went away. */
export const EXIT_PIPE = 141;

/** Carries streams, signals and the terminal's size until the process ended. */
export async function attendProcess(
  connection: Connection,
  options: SessionOptions,
): Promise<ExitStatus | "output_closed"> {
  const { client } = connection;
  const { sandboxId, processId } = options;
  const attachment = startAttachment(
    linkOf(client.stdio.attach()),
    options,
    createSinks(options.gate, process.stdout, process.stderr),
  );
  const onResize = () => attachment.resize();
  process.on("SIGWINCH", onResize);
  forwardSignals(connection, options);
  try {
    const exit = await attachment.exit;
    if (exit !== undefined) return exit;
    const waited = await client.sandbox.waitProcess({ sandboxId, processId });
    if (waited.exit === undefined) throw new Error("the service reported no exit status");
    return waited.exit;
  } catch (error) {
    if (!(error instanceof OutputClosed)) throw error;
    if (options.signals !== undefined)
      await client.sandbox.stopSandbox({ requestId: randomUUID(), sandboxId, grace: durationFromMs(0) });
    return "output_closed";
  } finally {
    process.off("SIGWINCH", onResize);
  }
}

/** Passes signals on; the second SIGINT kills. */
function forwardSignals({ client }: Connection, { signals, sandboxId, processId, onInterrupt }: SessionOptions): void {
  let interrupts = 0;
  signals?.to((name, signal) => {
    if (name === "SIGINT") interrupts += 1;
    const requestId = randomUUID();
    const sending =
      interrupts > 1
        ? client.sandbox.stopSandbox({ requestId, sandboxId, grace: durationFromMs(0) })
        : client.sandbox.signalProcess({
            requestId,
            sandboxId,
            processId,
            signal,
            // A terminal interrupts a whole group, kill(1) one process.
            scope: name === "SIGTERM" ? SignalScope.PROCESS : SignalScope.GROUP,
          });
    const sent = sending.then(
      () => undefined,
      () => undefined, // the process has ended, which the attachment tells
    );
    // Only then, so that the program meets the signal when its call is refused.
    if (name === "SIGINT") void sent.then(onInterrupt);
  });
}
