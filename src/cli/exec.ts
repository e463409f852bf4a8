import { randomUUID } from "node:crypto";
import { type Connection, connectTo, withConnection } from "./connection.js";
import { shellStatus } from "./exit-status.js";
import { Exit, UsageError } from "./failure.js";
import { createSharedInput, passOutputUnchanged } from "./input.js";
import { createOutputGate } from "./prompter.js";
import { buildProcess, type ProcessOptions } from "./run-spec.js";
import { attendProcess, EXIT_PIPE, localTerminal, type SessionOptions } from "./session.js";
import { createSignalRoute } from "./signal-route.js";

export interface ExecOptions extends ProcessOptions {
  readonly address?: string | undefined;
  readonly tty?: boolean;
}

/** Starts one more process in a sandbox and ends as it did, by throwing Exit. */
export async function exec(sandboxId: string, words: readonly string[], options: ExecOptions): Promise<void> {
  const argv = words[0] === "--" ? words.slice(1) : words; // commander leaves it in behind a first argument
  if (argv.length === 0) throw new UsageError("exec needs a program after the sandbox's id");
  const attached = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const terminal = (options.tty ?? attached) ? localTerminal : undefined;
  const processSpec = buildProcess(argv, options, {
    callerCwd: process.cwd(),
    callerEnv: process.env,
    defaultCwd: "/",
    terminal: terminal?.size(),
    stdin: true,
  });
  const signals = createSignalRoute(process, (status) => process.exit(status));
  const status = await withConnection(connectTo(options.address), async (connection) => {
    const { client } = connection;
    const started = await client.sandbox.exec({ requestId: randomUUID(), sandboxId, process: processSpec });
    const processId = started.process?.processId ?? "";
    return attend(connection, { sandboxId, processId, terminal, fromStart: true, signals }, true);
  });
  throw new Exit(status);
}

export interface AttachOptions {
  readonly address?: string | undefined;
  readonly process?: string;
  /** False with --no-stdin. */
  readonly stdin?: boolean;
}

/** Connects to a running process; interrupting this command leaves the process alone. */
export async function attach(sandboxId: string, options: AttachOptions): Promise<void> {
  const processId = options.process ?? "";
  const status = await withConnection(connectTo(options.address), async (connection) => {
    const { sandbox } = await connection.client.sandbox.getSandbox({ sandboxId });
    const spec = sandbox?.processes.find((each) => each.processId === (processId === "" ? "main" : processId))?.spec;
    const terminal = spec?.terminal === undefined ? undefined : localTerminal;
    return attend(
      connection,
      { sandboxId, processId, terminal, fromStart: false, signals: undefined },
      options.stdin !== false,
    );
  });
  throw new Exit(status);
}

type AttendOptions = Omit<SessionOptions, "input" | "gate">;

async function attend(connection: Connection, options: AttendOptions, takesInput: boolean): Promise<number> {
  const input = takesInput ? createSharedInput(process.stdin, passOutputUnchanged) : undefined;
  try {
    const exit = await attendProcess(connection, { ...options, input, gate: createOutputGate() });
    return exit === "output_closed" ? EXIT_PIPE : shellStatus(exit);
  } finally {
    input?.close();
  }
}
