import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { SandboxError } from "../../../src/base/errors.js";
import { connect, type SandgateClient } from "../../../src/client/client.js";
import { StdioStream } from "../../../src/gen/sandgate/v1/process_pb.js";
import {
  type AttachOpenSchema,
  type AttachRequestSchema,
  type AttachResponse,
  StdioService,
} from "../../../src/gen/sandgate/v1/stdio_pb.js";
import type { ExitStatus, ProcessSpec } from "../../../src/sandbox/model.js";
import { bindService } from "../../../src/service/bridge.js";
import { createServer } from "../../../src/service/server.js";
import { type AttachTarget, createStdioService } from "../../../src/service/stdio-service.js";
import { processSpec, type StreamedProcess, startScript } from "../../support/streams.js";

type Message = AttachResponse["message"];
type Case = NonNullable<Message["case"]>;
type ValueOf<Name extends Case> = Extract<Message, { case: Name }>["value"];

const self = { pid: process.pid, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

interface Served extends AsyncDisposable {
  readonly client: SandgateClient;
  readonly run: StreamedProcess;
  /** Signals that reached the process's group, not a terminal. */
  readonly signals: number[];
  readonly bugs: unknown[];
}

/** A server with one real process, under the id "box", and a client connected to it. */
async function serve(script: string, options: Partial<ProcessSpec> = {}, heartbeatMs = 10_000): Promise<Served> {
  const run = startScript(script, options);
  const signals: number[] = [];
  const bugs: unknown[] = [];
  const target: AttachTarget = {
    streams: run.streams,
    info: () => ({
      processId: "main",
      pid: run.child.pid ?? 0,
      spec: processSpec(["/bin/sh"], options),
      startTimeMs: 0,
      exit: undefined,
    }),
    exit: run.exit.then(
      (code): ExitStatus => ({
        result: { kind: "code", code: Number(code) },
        cause: "self",
        endTimeMs: 0,
        cpuTimeMs: 0,
        peakMemoryBytes: 0,
      }),
    ),
    signalForeground(signal) {
      if (!run.streams.signalForeground(signal)) signals.push(signal);
    },
  };
  const service = createStdioService({
    heartbeatMs,
    lookup: {
      streams(_tenant, sandboxId, processId) {
        if (sandboxId === "box" && processId === "main") return target;
        throw new SandboxError("not_found", "no such process", { reason: "PROCESS_NOT_FOUND" });
      },
    },
  });
  const directory = mkdtempSync(join(tmpdir(), "sandgate-"));
  const server = createServer({
    services: [bindService(StdioService, service)],
    report: (_id, error) => bugs.push(error),
    peerCredentials: () => self,
  });
  const client = connect(await server.listenUnix(join(directory, "socket")));
  return {
    client,
    run,
    signals,
    bugs,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.drain(0);
      run[Symbol.dispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

interface Attached {
  send(message: NonNullable<MessageInitShape<typeof AttachRequestSchema>["message"]>): Promise<void>;
  /** The next message of this kind; those of other kinds before it are passed over. */
  next<Name extends Case>(name: Name): Promise<ValueOf<Name>>;
  /** All output up to the exit, by stream number, and the exit code. */
  rest(): Promise<{ readonly text: ReadonlyMap<number, string>; readonly code: unknown }>;
  end(): void;
  cancel(): void;
}

function attach({ client }: Served, open: MessageInitShape<typeof AttachOpenSchema> = {}): Attached {
  const call = client.stdio.attach();
  const messages = call.messages[Symbol.asyncIterator]();
  const send: Attached["send"] = (message) => call.send({ message });
  void send({ case: "open", value: { sandboxId: "box", offsets: { 1: 0n, 2: 0n }, ...open } });

  async function any(): Promise<Message> {
    const { value, done } = await messages.next();
    if (done === true) throw new Error("the attachment ended");
    return value.message;
  }

  return {
    send,
    async next<Name extends Case>(name: Name) {
      for (;;) {
        const message = await any();
        if (message.case === name) return message.value as ValueOf<Name>;
      }
    },
    async rest() {
      const text = new Map<number, string>();
      for (;;) {
        const message = await any();
        if (message.case === "output") {
          const { stream, data } = message.value;
          text.set(stream, (text.get(stream) ?? "") + Buffer.from(data).toString());
        }
        if (message.case === "exit") {
          assert.deepEqual(await messages.next(), { value: undefined, done: true });
          return { text, code: message.value.result.value };
        }
      }
    },
    end: () => call.end(),
    cancel: () => call.cancel(),
  };
}

describe("attaching to a process", () => {
  it("opens, brings all output and then the exit, last", async () => {
    await using served = await serve("printf out; printf err >&2; exit 7");
    const attached = attach(served);
    const opened = await attached.next("opened");
    assert.equal(opened.process?.pid, served.run.child.pid);
    assert.deepEqual(opened.oldest, { [StdioStream.STDOUT]: 0n, [StdioStream.STDERR]: 0n });
    assert.equal(opened.heartbeatInterval?.seconds, 10n);
    const { text, code } = await attached.rest();
    assert.deepEqual([text.get(StdioStream.STDOUT), text.get(StdioStream.STDERR), code], ["out", "err", 7]);
    assert.deepEqual(served.bugs, []);
  });

  it("must begin with open, and needs a process that exists", async () => {
    await using served = await serve("sleep 60");
    const call = served.client.stdio.attach();
    await call.send({ message: { case: "credit", value: { bytes: 1 } } });
    await assert.rejects(call.messages[Symbol.asyncIterator]().next(), { code: "INVALID_ARGUMENT" });
    await assert.rejects(attach(served, { sandboxId: "other" }).next("opened"), { code: "NOT_FOUND" });
    await assert.rejects(attach(served, { streams: [StdioStream.TERMINAL] }).next("opened"), {
      code: "INVALID_ARGUMENT",
    });
    await assert.rejects(attach(served, { offsets: { 9: 0n } }).next("opened"), { field: "open.offsets[9]" });
    await assert.rejects(attach(served, { offsets: { 1: 5n } }).next("opened"), { code: "OUT_OF_RANGE" });
    await attach(served).next("opened");
  });

  it("takes input, acknowledges it and shows its end to the program", async () => {
    await using served = await serve("cat", { stdin: "pipe" });
    const attached = attach(served, { input: true });
    await attached.send({ case: "input", value: { data: Buffer.from("hello"), offset: 0n } });
    assert.equal((await attached.next("inputAck")).offset, 5n);
    await attached.send({ case: "input", value: { data: Buffer.from("lo, world"), offset: 3n, end: true } });
    const { text } = await attached.rest();
    assert.equal(text.get(StdioStream.STDOUT), "hello, world");
  });

  it("goes on after messages that cannot be used", async () => {
    await using served = await serve("cat; exit 5", { stdin: "pipe" });
    const attached = attach(served, { input: true });
    await attached.send({ case: "input", value: { data: Buffer.from("x"), offset: 4n } });
    const gap = await attached.next("problem");
    assert.deepEqual([gap.field, gap.metadata.expected], ["input.offset", "0"]);
    await attached.send({ case: "open", value: { sandboxId: "box" } });
    assert.equal((await attached.next("problem")).field, "open");
    await attached.send({ case: "resize", value: { columns: 80, rows: 24 } });
    assert.match((await attached.next("problem")).message, /no terminal/);
    await attached.send({ case: "signal", value: { signal: 99 } });
    assert.equal((await attached.next("problem")).field, "signal.signal");
    await attached.send({ case: "input", value: { data: Buffer.from("fine"), offset: 0n, end: true } });
    const { text, code } = await attached.rest();
    assert.deepEqual([text.get(StdioStream.STDOUT), code], ["fine", 5]);
  });

  it("lets only the attachment with the input write, resize and signal, and hands the input over", async () => {
    await using served = await serve("cat", { stdin: "pipe" });
    const first = attach(served, { input: true });
    await first.next("opened");
    await assert.rejects(attach(served, { input: true }).next("opened"), { reason: "LEASE_HELD" });
    const reader = attach(served);
    await reader.next("opened");
    await reader.send({ case: "input", value: { data: Buffer.from("x"), offset: 0n } });
    assert.match((await reader.next("problem")).message, /does not have the input/);
    await reader.send({ case: "signal", value: { signal: 15 } });
    assert.match((await reader.next("problem")).message, /cannot send a signal/);
    await first.send({ case: "signal", value: { signal: 1 } });
    const second = attach(served, { input: true, takeOverInput: true });
    await second.next("opened");
    assert.match((await first.next("problem")).message, /another attachment took the input/);
    assert.deepEqual(served.signals, [1]);
    await second.send({ case: "input", value: { data: Buffer.from("y"), offset: 0n, end: true } });
    for (const attached of [first, second, reader]) {
      assert.equal((await attached.rest()).text.get(StdioStream.STDOUT), "y");
    }
  });

  it("is resumed where the last one ended, and detaching does not end the process", async () => {
    await using served = await serve("printf 12345; read x; printf 67890", { stdin: "pipe" });
    const first = attach(served);
    assert.equal(Buffer.from((await first.next("output")).data).toString(), "12345");
    first.cancel();
    const second = attach(served, { offsets: { 1: 3n }, input: true });
    assert.equal(Buffer.from((await second.next("output")).data).toString(), "45");
    await second.send({ case: "input", value: { data: Buffer.from("\n"), offset: 0n } });
    const { text, code } = await second.rest();
    assert.deepEqual([text.get(StdioStream.STDOUT), code], ["67890", 0]);
  });

  it("sends no more than it has credit for, and says what it holds back", async () => {
    await using served = await serve("printf 0123456789", {}, 20);
    await served.run.streams.drained;
    const attached = attach(served, { streams: [StdioStream.STDOUT], creditBytes: 4 });
    assert.equal(Buffer.from((await attached.next("output")).data).toString(), "0123");
    assert.equal((await attached.next("heartbeat")).heldBack, 6n);
    await attached.send({ case: "credit", value: { bytes: 100 } });
    assert.equal((await attached.rest()).text.get(StdioStream.STDOUT), "456789");
  });

  it("brings everything to a client that only opens it and sends nothing more", async () => {
    const bytes = 700_000;
    await using served = await serve(`head -c ${bytes} /dev/zero`, { outputOverflow: "wait" });
    const attached = attach(served, { streams: [StdioStream.STDOUT] });
    attached.end();
    assert.equal((await attached.rest()).text.get(StdioStream.STDOUT)?.length, bytes);
  });

  it("is not disturbed by another client that never reads", async () => {
    const bytes = 3_000_000;
    await using served = await serve(`head -c ${bytes} /dev/zero`);
    const stuck = served.client.stdio.attach();
    await stuck.send({ message: { case: "open", value: { sandboxId: "box", creditBytes: 0xffff_ffff } } });
    const { code } = await attach(served, { creditBytes: 0xffff_ffff }).rest();
    assert.equal(code, 0);
    stuck.cancel();
  });

  it("carries a terminal: its size, its input and signals for its foreground", async () => {
    const terminal = { columns: 80, rows: 24 };
    await using served = await serve(
      "stty -echo; stty size; read x; stty size; trap 'exit 9' INT; echo ready; read y",
      {
        terminal,
      },
    );
    const attached = attach(served, { offsets: { [StdioStream.TERMINAL]: 0n }, input: true });
    assert.equal(Buffer.from((await attached.next("output")).data).toString(), "24 80\r\n");
    await attached.send({ case: "resize", value: { columns: 0, rows: 24 } });
    assert.equal((await attached.next("problem")).field, "resize.columns");
    await attached.send({ case: "resize", value: { columns: 100, rows: 50 } });
    await attached.send({ case: "input", value: { data: Buffer.from("\n"), offset: 0n } });
    let text = "";
    while (!text.endsWith("ready\r\n")) text += Buffer.from((await attached.next("output")).data).toString();
    assert.equal(text, "50 100\r\nready\r\n");
    await attached.send({ case: "signal", value: { signal: 2 } });
    assert.equal((await attached.rest()).code, 9);
    assert.deepEqual(served.signals, []);
  });

  it("ends when the sandbox is removed", async () => {
    await using served = await serve("sleep 60");
    const attached = attach(served);
    await attached.next("opened");
    served.run.streams.dispose();
    await assert.rejects(attached.next("exit"), { code: "ABORTED" });
  });
});
