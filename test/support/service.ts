import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { pino } from "pino";
import {
  type AttachOpenSchema,
  type CallOptions,
  connect,
  EndCause,
  type ErrorReason,
  ErrorReason as ErrorReasons,
  type ExecRequestSchema,
  type ExitStatus,
  type FallbackSchema,
  type HoldPolicySchema,
  type ProcessInfo,
  type ProcessSpecSchema,
  RemoteError,
  type RunRequestSchema,
  type Sandbox,
  type SandboxSpecSchema,
  type SandgateClient,
  type SpawnRequestSchema,
  type StatusName,
  StdioStream,
} from "../../src/client/client.js";
import { type Service, type ServiceOptions, startService } from "../../src/service/main.js";
import { guestPath } from "./guests.js";

/** As a caller writes it, which spreads better than what may be a message already. */
type Init<Schema extends DescMessage> = Exclude<MessageInitShape<Schema>, MessageShape<Schema>>;
export type Spec = Init<typeof SandboxSpecSchema>;
export type Process = Init<typeof ProcessSpecSchema>;
export type Holds = Init<typeof HoldPolicySchema>;
export type FallbackAction = NonNullable<Init<typeof FallbackSchema>["action"]>;
type AttachOpen = Init<typeof AttachOpenSchema>;

/** A line that the service logged. Levels as in pino: 50 is an error. */
interface LogLine {
  readonly level: number;
  readonly msg: string;
}

/** A real service on a private socket, in this process, with a client. */
export interface TestService extends AsyncDisposable {
  readonly service: Service;
  readonly client: SandgateClient;
  readonly address: string;
  /** Directory of this service's own, which everybody may read; removed with the service. */
  readonly directory: string;
  /** Errors that the service logged so far. At the end there must be none but those that were taken from here. */
  readonly errors: string[];
}

export async function startTestService(options: Omit<ServiceOptions, "log"> = {}): Promise<TestService> {
  // Tests of what is refused put files here that only Landlock keeps a program from.
  const directory = mkdtempSync(join(tmpdir(), "sandgate-service-"));
  chmodSync(directory, 0o755);
  const errors: string[] = [];
  const log = pino(
    { level: "error" },
    {
      write(text: string) {
        const { msg, ...rest } = JSON.parse(text) as LogLine;
        errors.push(`${msg} ${JSON.stringify(rest)}`);
      },
    },
  );
  const service = await startService({ log, ...options });
  const address = await service.listenUnix(join(directory, "service.sock"));
  const client = connect(address);
  return {
    service,
    client,
    address,
    directory,
    errors,
    async [Symbol.asyncDispose]() {
      client.close();
      await service.close(0);
      rmSync(directory, { recursive: true, force: true });
      assert.deepEqual(errors, [], "the service logged errors");
    },
  };
}

// ---------------------------------------------------------------------------------------------- runs

export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
  readonly exit: ExitStatus;
  readonly sandboxId: string;
}

export type RunInit = Init<typeof RunRequestSchema> & { process: Process };

/** Runs to the end. */
export async function run(client: SandgateClient, request: RunInit, options: CallOptions = {}): Promise<Ran> {
  const text = { stdout: "", stderr: "" };
  let sandboxId = "";
  for await (const { part } of client.sandbox.run(request, options)) {
    if (part.case === "started") sandboxId = part.value.sandboxId;
    else if (part.case === "output") {
      text[part.value.stream === StdioStream.STDERR ? "stderr" : "stdout"] += Buffer.from(part.value.data).toString();
    } else if (part.case === "result") {
      assert.ok(part.value.exit, "a result has an exit");
      return { ...text, exit: part.value.exit, sandboxId };
    }
  }
  assert.fail("the run ended without a result");
}

/** Runs one act of the guest and returns what it printed: `ok` or the name of an errno, for most. */
export async function act(client: SandgateClient, spec: Spec, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr, exit } = await run(client, { spec, process: { argv: [guestPath("act"), ...args] } });
  if (stdout === "" && exit.result.case === "signal") return `signal ${exit.result.value}`;
  assert.equal(stderr, "");
  return stdout.trimEnd();
}

/** How a process ended, in one line. */
export function describeExit({ result, cause }: ExitStatus): string {
  const what =
    result.case === "notStarted"
      ? `not started: ${ErrorReasons[result.value.reason]}`
      : `${result.case} ${result.value ?? ""}`;
  return `${what}, ${EndCause[cause].toLowerCase()}`;
}

// -------------------------------------------------------------------------------------------- spawns

let lastRequest = 0;

/** A request id that was not used before. */
export function requestId(): string {
  return `request-${process.pid}-${++lastRequest}`;
}

/** A process of a sandbox and its streams from their beginning. */
export interface TestProcess {
  readonly sandboxId: string;
  readonly processId: string;
  readonly pid: number;
  /** Resolves with everything on stdout so far once that matches. Rejects when the process ends before. */
  until(pattern: RegExp): Promise<string>;
  /** The first match's first group, as a number. */
  number(pattern: RegExp): Promise<number>;
  write(text: string): Promise<void>;
  /** Ends standard input. */
  endInput(): Promise<void>;
  /** The end of the process, in one line. */
  exit(): Promise<string>;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running sandbox, deleted at the end. */
export interface TestSandbox extends TestProcess, AsyncDisposable {
  readonly sandbox: Sandbox;
  /** Starts one more process in it. */
  exec(process: Process, processId?: string): Promise<TestProcess>;
  get(): Promise<Sandbox>;
}

/** Follows a process's output from its beginning. */
function follow(client: SandgateClient, sandboxId: string, info: ProcessInfo, open: AttachOpen = {}): TestProcess {
  const call = client.stdio.attach();
  const text = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  let inputOffset = 0n;
  let failure: unknown;
  let over = false;
  const opened = call.send({
    message: {
      case: "open",
      value: {
        sandboxId,
        processId: info.processId,
        offsets: { 1: 0n, 2: 0n, 3: 0n },
        input: info.spec?.stdin === 2 || info.spec?.terminal !== undefined,
        ...open,
      },
    },
  });
  opened.catch(() => undefined);
  void (async () => {
    try {
      for await (const { message } of call.messages) {
        if (message.case === "output") {
          const { stream, data } = message.value;
          text[stream === StdioStream.STDERR ? "stderr" : "stdout"] += Buffer.from(data).toString();
          call.send({ message: { case: "credit", value: { bytes: data.length } } }).catch(() => undefined);
        } else if (message.case === "problem") failure = new Error(message.value.message);
        for (const listener of listeners) listener();
      }
    } catch (error) {
      failure = error;
    }
    over = true;
    for (const listener of listeners) listener();
  })();

  const until = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!pattern.test(text.stdout)) {
          if (!over && failure === undefined) return;
          listeners.delete(look);
          reject(new Error(`no ${pattern} in ${JSON.stringify(text)}`, { cause: failure }));
          return;
        }
        listeners.delete(look);
        resolve(text.stdout);
      };
      listeners.add(look);
      look();
    });

  async function input(data: string, end: boolean): Promise<void> {
    await opened;
    const bytes = Buffer.from(data);
    const offset = inputOffset;
    inputOffset += BigInt(bytes.length);
    await call.send({ message: { case: "input", value: { data: bytes, offset, end } } });
  }

  return {
    sandboxId,
    processId: info.processId,
    pid: info.pid,
    until,
    async number(pattern) {
      return Number(pattern.exec(await until(pattern))?.[1]);
    },
    write: (data) => input(data, false),
    endInput: () => input("", true),
    async exit() {
      const { exit } = await client.sandbox.waitProcess({ sandboxId, processId: info.processId });
      assert.ok(exit);
      if (!over) await new Promise<void>((resolve) => listeners.add(() => over && resolve()));
      return describeExit(exit);
    },
    get stdout() {
      return text.stdout;
    },
    get stderr() {
      return text.stderr;
    },
  };
}

export type SpawnInit = Init<typeof SpawnRequestSchema>;
type ExecInit = Init<typeof ExecRequestSchema>;

/** Spawns and follows the main process. */
export async function spawn(client: SandgateClient, request: SpawnInit): Promise<TestSandbox> {
  const { sandbox } = await client.sandbox.spawn({ requestId: requestId(), ...request });
  const info = sandbox?.processes[0];
  assert.ok(sandbox && info, "a spawn answers with its sandbox and the main process");
  const { sandboxId } = sandbox;
  const main = follow(client, sandboxId, info);
  const extra = {
    sandbox,
    async exec(process: Process, processId = ""): Promise<TestProcess> {
      const init: ExecInit = { requestId: requestId(), sandboxId, processId, process };
      const { process: started } = await client.sandbox.exec(init);
      assert.ok(started);
      return follow(client, sandboxId, started);
    },
    async get(): Promise<Sandbox> {
      const found = (await client.sandbox.getSandbox({ sandboxId })).sandbox;
      assert.ok(found);
      return found;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await client.sandbox.deleteSandbox({ sandboxId });
    },
  };
  // Not spread: what was written so far is read through getters.
  return Object.defineProperties(main, Object.getOwnPropertyDescriptors(extra)) as TestProcess & typeof extra;
}

// ------------------------------------------------------------------------------------------ failures

export interface Refusal {
  readonly code: StatusName;
  readonly reason: keyof typeof ErrorReason | "";
  readonly field?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Asserts that a call fails as said; metadata may hold more than is named. Returns the failure. */
export async function refused(call: Promise<unknown>, expected: Refusal): Promise<RemoteError> {
  const error = await call.then(
    () => assert.fail("the call succeeded"),
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof RemoteError, String(error));
  const { code, reason, field } = error;
  const metadata = Object.fromEntries(Object.keys(expected.metadata ?? {}).map((key) => [key, error.metadata[key]]));
  const wanted = { field: "", metadata: {}, ...expected };
  assert.deepEqual({ code, reason, field: expected.field === undefined ? "" : field, metadata }, wanted, error.message);
  return error;
}

/** Skips the test, with the reason in its title. */
export function skip(context: Mocha.Context, reason: string): never {
  if (context.test !== undefined) context.test.title += ` (skipped: ${reason})`;
  context.skip();
}
