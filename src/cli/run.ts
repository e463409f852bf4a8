import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { ExitStatusSchema, type ProcessSpec, RemoteError, type SandboxSpec } from "../client/client.js";
import { EndCause, type ExitStatus, OutputOverflow, StdinMode } from "../gen/sandgate/v1/process_pb.js";
import { isLocalSocket } from "./address.js";
import { createPrompter } from "./ask-setup.js";
import { type Asker, startAsker } from "./asker.js";
import { type Connection, connectOrEmbed, withConnection } from "./connection.js";
import { parseDurationMs } from "./duration.js";
import { describeExit, shellStatus } from "./exit-status.js";
import { Exit, UsageError } from "./failure.js";
import { createSharedInput, passOutputUnchanged, type SharedInput } from "./input.js";
import { linkOf } from "./links.js";
import { writeJsonLine } from "./output.js";
import { explainPlan } from "./plan.js";
import { openProfiles, readProfile } from "./profile-store.js";
import { createOutputGate, type OutputGate, type Prompter } from "./prompter.js";
import { buildProcess, buildSpec, type PolicyOptions, type ProcessOptions } from "./run-spec.js";
import { attendProcess, EXIT_PIPE, localTerminal, type TerminalSource } from "./session.js";
import { createSignalRoute, type SignalRoute } from "./signal-route.js";
import { readSpecFile } from "./spec-file.js";

export interface RunOptions extends PolicyOptions, ProcessOptions {
  readonly address?: string | undefined;
  readonly answers?: string;
  readonly timeout?: string;
  readonly hold?: string;
  readonly spec?: string;
  readonly profile?: string;
  readonly detach?: boolean;
  readonly explain?: boolean;
  readonly json?: boolean;
  readonly tty?: boolean;
}

/** Runs a program in a sandbox of its own and ends as it did, by throwing Exit. */
export async function run(argv: readonly string[], options: RunOptions): Promise<void> {
  const named = options.address ?? process.env.SANDGATE_ADDRESS ?? "";
  const detach = options.detach === true;
  const ask = options.ask === true || options.answers !== undefined;
  if (detach && named === "") throw new UsageError("--detach needs a service that stays: name it with --address");
  if (detach && ask) throw new UsageError("--detach leaves nobody to ask: leave out --ask");
  const timeoutMs = options.timeout === undefined ? 0 : parseDurationMs(options.timeout);
  const base = baseSpec(options);
  const holdMs = options.hold === undefined ? undefined : parseDurationMs(options.hold);
  const spec = buildSpec(base, { ...options, ask, holdMs }, process.cwd(), timeoutMs);
  const terminal = chooseTerminal(options.tty, detach);
  const hasRoot = (spec.filesystem?.root ?? "") !== "";
  const isLocal = named === "" || isLocalSocket(named) || named.startsWith("/");
  const processSpec = buildProcess(argv, options, {
    callerCwd: process.cwd(),
    callerEnv: process.env,
    ...(hasRoot ? { insideCwd: "/" } : {}),
    defaultCwd: isLocal && !hasRoot ? process.cwd() : "/",
    terminal: terminal?.size(),
    stdin: !detach && options.answers !== "-",
  });
  const signals = createSignalRoute(process, (status) => process.exit(status));
  const status = await withConnection(connectOrEmbed(options.address), async (connection) => {
    if (options.explain === true) await explainPlan(connection, spec, processSpec, options.json === true);
    return detach
      ? runDetached(connection, spec, processSpec)
      : runAttended(connection, spec, processSpec, terminal, signals, { ...options, ask });
  });
  throw new Exit(status);
}

/** Throws UsageError. */
function baseSpec({ spec, profile }: RunOptions): SandboxSpec | undefined {
  if (profile === undefined) return spec === undefined ? undefined : readSpecFile(spec);
  if (spec !== undefined) throw new UsageError("start from --spec or from --profile, not from both");
  return readProfile(openProfiles(process.env), profile);
}

function chooseTerminal(wanted: boolean | undefined, detach: boolean): TerminalSource | undefined {
  const attached = process.stdin.isTTY === true && process.stdout.isTTY === true && !detach;
  return (wanted ?? attached) ? localTerminal : undefined;
}

async function runDetached({ client }: Connection, spec: SandboxSpec, processSpec: ProcessSpec): Promise<number> {
  // Nobody reads, so a program that waited for a reader would wait for ever.
  const detached = { ...processSpec, outputOverflow: OutputOverflow.DROP_OLDEST, stdin: StdinMode.CLOSED };
  const { sandbox, warnings } = await client.sandbox.spawn({ requestId: randomUUID(), spec, process: detached });
  for (const { message } of warnings) process.stderr.write(`sandgate: ${message}\n`);
  process.stdout.write(`${sandbox?.sandboxId ?? ""}\n`);
  return 0;
}

async function runAttended(
  connection: Connection,
  spec: SandboxSpec,
  processSpec: ProcessSpec,
  terminal: TerminalSource | undefined,
  signals: SignalRoute,
  options: RunOptions & { readonly ask: boolean },
): Promise<number> {
  const { client } = connection;
  const sandboxId = `run-${randomUUID()}`;
  const gate = createOutputGate();
  const input = createSharedInput(process.stdin, passOutputUnchanged);
  const questions = options.ask ? await openQuestions(connection, sandboxId, input, gate, options.answers) : undefined;
  try {
    const { warnings } = await client.sandbox.spawn({ requestId: randomUUID(), sandboxId, spec, process: processSpec });
    for (const { message } of warnings) process.stderr.write(`sandgate: ${message}\n`);
    const takesInput = processSpec.stdin === StdinMode.PIPE || terminal !== undefined;
    const exit = await attendProcess(connection, {
      sandboxId,
      processId: "",
      terminal,
      input: takesInput && options.answers !== "-" ? input : undefined,
      gate,
      fromStart: true,
      signals,
      ...(questions === undefined ? {} : { onInterrupt: () => questions.asker.interrupt() }),
    });
    input.close();
    if (exit === "output_closed") return EXIT_PIPE;
    if (options.json === true) await writeJsonLine(process.stderr, report(sandboxId, exit));
    else if (isNoteworthy(exit, signals)) process.stderr.write(`sandgate: ${describeExit(exit)}\n`);
    return shellStatus(exit);
  } catch (error) {
    if (options.json === true && error instanceof RemoteError)
      await writeJsonLine(process.stderr, failureReport(error));
    throw error;
  } finally {
    input.close();
    questions?.close();
    // The record is of no use once its exit was told. An embedded service forgets it by ending.
    await client.sandbox.deleteSandbox({ requestId: randomUUID(), sandboxId }).catch(() => undefined);
  }
}

/** Whether the person may wonder why it ended: not when it ended by itself or as they asked with a signal. */
function isNoteworthy({ cause, result }: ExitStatus, signals: SignalRoute): boolean {
  if (cause === EndCause.CLIENT) return result.case === "signal" && signals.delivered === 0;
  return cause !== EndCause.SELF && cause !== EndCause.UNSPECIFIED;
}

interface Questions {
  readonly asker: Asker;
  close(): void;
}

/** Connects as a decider before the program starts, so that its first held call finds one. */
async function openQuestions(
  { client }: Connection,
  sandboxId: string,
  input: SharedInput,
  gate: OutputGate,
  answers: string | undefined,
): Promise<Questions> {
  const prompter: Prompter = createPrompter({
    answers,
    input,
    stdin: process.stdin,
    stderr: process.stderr,
    gate,
    env: process.env,
  });
  const call = client.decision.decide();
  const asker = startAsker(linkOf(call), { sandboxIds: [sandboxId], namesSandbox: false }, prompter);
  // A refused stream says why in `done`, and only that it ended in `opened`.
  await Promise.race([asker.opened, asker.done.then(() => asker.opened)]);
  return {
    asker,
    close() {
      call.cancel();
      prompter.close();
    },
  };
}

function report(sandboxId: string, exit: ExitStatus): unknown {
  const { usage, ...rest } = toJson(ExitStatusSchema, exit) as Record<string, unknown>;
  return { sandboxId, status: shellStatus(exit), exit: rest, usage: usage ?? {} };
}

function failureReport({ code, reason, field, message, metadata }: RemoteError): unknown {
  return { error: { code, reason, field, message, metadata } };
}
