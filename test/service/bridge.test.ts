import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { SandboxError } from "../../src/base/errors.js";
import { createDeferred } from "../../src/base/signals.js";
import { connect, RemoteError, type SandgateClient } from "../../src/client/client.js";
import { CheckpointService } from "../../src/gen/sandgate/v1/checkpoint_pb.js";
import { SandboxService } from "../../src/gen/sandgate/v1/sandbox_pb.js";
import { AttachResponseSchema, StdioService } from "../../src/gen/sandgate/v1/stdio_pb.js";
import { WatchResponseSchema, WatchService } from "../../src/gen/sandgate/v1/watch_pb.js";
import { type BoundService, bindService, type Handlers } from "../../src/service/bridge.js";
import { createServer, type Server } from "../../src/service/server.js";
import { bindUnimplemented } from "../../src/service/unimplemented.js";

const self = { pid: process.pid, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

interface Connected extends AsyncDisposable {
  readonly client: SandgateClient;
  readonly server: Server;
  readonly bugs: unknown[];
}

/** A server with these services on a private socket, and a client connected to it. */
async function serve(...services: BoundService[]): Promise<Connected> {
  const directory = mkdtempSync(join(tmpdir(), "sandgate-"));
  const bugs: unknown[] = [];
  const server = createServer({ services, report: (_id, error) => bugs.push(error), peerCredentials: () => self });
  const client = connect(await server.listenUnix(join(directory, "socket")));
  return {
    client,
    server,
    bugs,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.drain(0);
      rmSync(directory, { recursive: true });
    },
  };
}

/** Handlers for some methods; the others must not be called. */
function partly<Service extends Parameters<typeof bindService>[0]>(
  handlers: Partial<Handlers<Service>>,
): Handlers<Service> {
  return handlers as Handlers<Service>;
}

const watching = (watch: Handlers<typeof WatchService>["watch"]): BoundService =>
  bindService(WatchService, { watch }, { openEnded: ["watch"] });
const attaching = (attach: Handlers<typeof StdioService>["attach"]): BoundService =>
  bindService(StdioService, { attach });

describe("service bridge", () => {
  it("tells a handler who calls and gives its answer to the client", async () => {
    const service = bindService(
      SandboxService,
      partly<typeof SandboxService>({
        getSandbox: async ({ sandboxId }, { caller }) => ({ sandbox: { sandboxId, owner: caller.identity } }),
      }),
    );
    await using connected = await serve(service);
    const { sandbox } = await connected.client.sandbox.getSandbox({ sandboxId: "one" });
    assert.deepEqual([sandbox?.sandboxId, sandbox?.owner], ["one", `uid:${self.uid}`]);
  });

  it("carries a refusal with its reason, field, metadata and delay", async () => {
    const service = bindService(
      SandboxService,
      partly<typeof SandboxService>({
        getSandbox: async () => {
          throw new SandboxError("resource_exhausted", "too many", {
            reason: "QUOTA_EXHAUSTED",
            field: "spec.limits",
            metadata: { limit: "3" },
            retryDelayMs: 1500,
          });
        },
      }),
    );
    await using connected = await serve(service);
    await assert.rejects(connected.client.sandbox.getSandbox({ sandboxId: "one" }), {
      name: "RemoteError",
      code: "RESOURCE_EXHAUSTED",
      message: "too many",
      reason: "QUOTA_EXHAUSTED",
      field: "spec.limits",
      metadata: { limit: "3" },
      retryDelayMs: 1500,
    });
  });

  it("hides a bug from the client and reports it under the id that the client got", async () => {
    const service = bindService(
      SandboxService,
      partly<typeof SandboxService>({
        getSandbox: async () => {
          throw new TypeError("secret of the implementation");
        },
      }),
    );
    await using connected = await serve(service);
    const error = await connected.client.sandbox.getSandbox({ sandboxId: "one" }).catch((failure: unknown) => failure);
    assert.ok(error instanceof RemoteError);
    assert.deepEqual([error.code, error.reason], ["INTERNAL", "SERVICE_FAILED"]);
    assert.match(error.metadata.correlation_id ?? "", /^[0-9a-f-]{36}$/);
    assert.doesNotMatch(error.message, /secret/);
    assert.match(String(connected.bugs[0]), /secret/);
  });

  it("streams answers in order, bytes made beforehand as well as messages, and then the error", async () => {
    const service = watching(async function* () {
      yield { pending: 1 };
      yield toBinary(WatchResponseSchema, create(WatchResponseSchema, { pending: 2 }));
      throw new SandboxError("out_of_range", "too old", { reason: "CURSOR_COMPACTED" });
    });
    await using connected = await serve(service);
    const seen: number[] = [];
    await assert.rejects(
      (async () => {
        for await (const { pending } of connected.client.watch.watch({})) seen.push(pending);
      })(),
      { code: "OUT_OF_RANGE", reason: "CURSOR_COMPACTED" },
    );
    assert.deepEqual(seen, [1, 2]);
  });

  it("keeps the error of a stream for a reader that comes late", async () => {
    const failed = createDeferred();
    const service = watching(async function* () {
      yield { pending: 1 };
      failed.resolve();
      throw new SandboxError("out_of_range", "too old");
    });
    await using connected = await serve(service);
    const stream = connected.client.watch.watch({});
    await failed.promise;
    // A whole other call fits between the status and the reader.
    await assert.rejects(
      connected.client.watch
        .watch({})
        [Symbol.asyncIterator]()
        .next()
        .then(() => connected.client.server.getServerInfo({})),
    );
    await assert.rejects(
      (async () => {
        for await (const { pending } of stream) assert.equal(pending, 1);
      })(),
      { code: "OUT_OF_RANGE" },
    );
  });

  it("lets a handler produce no more than a reader takes", async () => {
    let produced = 0;
    const service = watching(async function* () {
      const bytes = toBinary(
        WatchResponseSchema,
        create(WatchResponseSchema, { cursor: { epoch: "e".repeat(16 * 1024) } }),
      );
      for (; produced < 10_000; produced += 1) yield bytes;
    });
    await using connected = await serve(service);
    const reader = connected.client.watch.watch({})[Symbol.asyncIterator]();
    assert.equal((await reader.next()).done, false);
    // Other calls go on over the same connection, each a round trip in which the stream could have run ahead.
    for (let call = 0; call < 20; call += 1) await connected.client.health.check({});
    assert.ok(produced < 500, `${produced} messages were made for a reader that took one`);
    let taken = 1;
    while (taken < 2000) {
      assert.equal((await reader.next()).done, false);
      taken += 1;
    }
    assert.ok(produced >= 2000);
    await reader.return?.();
  });

  it("aborts the signal and runs the handler's finally when the client goes away", async () => {
    const aborted = createDeferred<unknown>();
    const finished = createDeferred();
    const service = watching(async function* (_request, { signal }) {
      signal.addEventListener("abort", () => aborted.resolve(signal.reason));
      try {
        yield { pending: 1 };
        await aborted.promise;
        yield { pending: 2 };
      } finally {
        finished.resolve();
      }
    });
    await using connected = await serve(service);
    for await (const { pending } of connected.client.watch.watch({})) {
      assert.equal(pending, 1);
      break;
    }
    assert.match(String(await aborted.promise), /client ended the call/);
    await finished.promise;
  });

  it("answers both ways at once, sees the client's half-close and lets the handler end the call first", async () => {
    const service = attaching(async function* (requests) {
      for await (const { message } of requests) {
        if (message.case !== "input") continue;
        const { data, offset } = message.value;
        yield create(AttachResponseSchema, { message: { case: "output", value: { data, offset } } });
        if (data.length === 0) return;
      }
      yield { message: { case: "heartbeat", value: {} } };
    });
    await using connected = await serve(service);

    const call = connected.client.stdio.attach();
    const replies = call.messages[Symbol.asyncIterator]();
    for (let offset = 0n; offset < 3n; offset += 1n) {
      await call.send({ message: { case: "input", value: { data: Uint8Array.of(7), offset } } });
      const { message } = (await replies.next()).value;
      assert.ok(message.case === "output" && message.value.offset === offset);
    }
    call.end();
    assert.equal((await replies.next()).value.message.case, "heartbeat");
    assert.equal((await replies.next()).done, true);

    const ended = connected.client.stdio.attach();
    await ended.send({ message: { case: "input", value: {} } });
    const cases: unknown[] = [];
    for await (const { message } of ended.messages) cases.push(message.case);
    assert.deepEqual(cases, ["output"]);
  });

  it("gives the client the status of a handler that throws while it waits for a message", async () => {
    const service = attaching(async function* (requests) {
      const reading = requests[Symbol.asyncIterator]();
      await reading.next();
      void reading.next().catch(() => {});
      yield { message: { case: "heartbeat", value: { heldBack: 1n } } };
      throw new SandboxError("aborted", "removed");
    });
    await using connected = await serve(service);
    const call = connected.client.stdio.attach();
    await call.send({ message: { case: "credit", value: { bytes: 1 } } });
    const reader = call.messages[Symbol.asyncIterator]();
    assert.equal((await reader.next()).value?.message.case, "heartbeat");
    await assert.rejects(reader.next(), { code: "ABORTED", message: "removed" });
  });

  it("throws at a bidirectional handler whose client vanished, so that silence is not taken for an end", async () => {
    const outcome = createDeferred<string>();
    const started = createDeferred();
    const service = attaching(async function* (requests) {
      yield { message: { case: "heartbeat", value: {} } };
      try {
        for await (const _ of requests) started.resolve();
        outcome.resolve("ended");
      } catch {
        outcome.resolve("vanished");
      }
    });
    await using connected = await serve(service);
    const call = connected.client.stdio.attach();
    await call.send({ message: { case: "credit", value: { bytes: 1 } } });
    await started.promise;
    call.cancel();
    assert.equal(await outcome.promise, "vanished");
  });

  it("ends open-ended streams at once when it drains, and lets other calls finish", async () => {
    const release = createDeferred();
    const entered = createDeferred();
    const service = bindService(
      SandboxService,
      partly<typeof SandboxService>({
        waitProcess: async () => {
          entered.resolve();
          await release.promise;
          return {};
        },
      }),
    );
    const watch = watching(async function* (_request, { signal }) {
      yield { pending: 1 };
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    });
    await using connected = await serve(service, watch);
    const waiting = connected.client.sandbox.waitProcess({});
    const reader = connected.client.watch.watch({})[Symbol.asyncIterator]();
    await Promise.all([reader.next(), entered.promise]);
    const drained = connected.server.drain(20_000);
    await assert.rejects(reader.next(), { code: "UNAVAILABLE", reason: "DRAINING" });
    release.resolve();
    assert.ok(await waiting);
    await drained;
  });

  it("ends a call that does not finish in time with UNAVAILABLE, even if its handler never looks", async () => {
    const entered = createDeferred();
    const service = attaching(async function* () {
      yield { message: { case: "heartbeat", value: {} } };
      entered.resolve();
      await new Promise(() => undefined);
    });
    await using connected = await serve(service);
    const reader = connected.client.stdio.attach().messages[Symbol.asyncIterator]();
    await reader.next();
    await entered.promise;
    await Promise.all([
      assert.rejects(reader.next(), { code: "UNAVAILABLE", reason: "DRAINING" }),
      connected.server.drain(0),
    ]);
  });

  it("answers UNIMPLEMENTED with its reason on every method of a service that comes later", async () => {
    await using connected = await serve(bindUnimplemented(CheckpointService));
    const { checkpoint } = connected.client;
    const expected = { code: "UNIMPLEMENTED", reason: "NOT_IMPLEMENTED" };
    await assert.rejects(checkpoint.getCheckpoint({}), expected);
    await assert.rejects(checkpoint.checkpoint({})[Symbol.asyncIterator]().next(), expected);
    const uploads = async function* () {
      yield { part: { case: "chunk", value: { name: "a" } } } as const;
    };
    await assert.rejects(checkpoint.uploadCheckpoint(uploads()), expected);
  });

  it("fails with DEADLINE_EXCEEDED or CANCELLED on the client's own account, and tells the handler", async () => {
    const reasons: unknown[] = [];
    let cancelled = createDeferred();
    const service = bindService(
      SandboxService,
      partly<typeof SandboxService>({
        waitProcess: (_request, { signal }) =>
          new Promise((_resolve, reject) =>
            signal.addEventListener("abort", () => {
              reasons.push(signal.reason);
              cancelled.resolve();
              reject(signal.reason);
            }),
          ),
      }),
    );
    await using connected = await serve(service);
    await assert.rejects(connected.client.sandbox.waitProcess({}, { timeoutMs: 50 }), { code: "DEADLINE_EXCEEDED" });
    await cancelled.promise;
    cancelled = createDeferred();
    const controller = new AbortController();
    const waiting = connected.client.sandbox.waitProcess({}, { signal: controller.signal });
    await connected.client.health.check({});
    controller.abort();
    await assert.rejects(waiting, { code: "CANCELLED" });
    await cancelled.promise;
    assert.equal(reasons.length, 2);
    assert.deepEqual(connected.bugs, []);
  });

  it("accepts only what the descriptors describe", () => {
    type Watch = Handlers<typeof WatchService>["watch"];
    const answering = (watch: Watch): Watch => watch;
    async function* unknownField() {
      yield { nothing: 1 };
    }
    // @ts-expect-error: the answer has no such field
    answering(unknownField);
    // @ts-expect-error: a stream is not a promise
    answering(async () => ({}));
    // @ts-expect-error: a method is missing
    const missing: Handlers<typeof WatchService> = {};
    assert.deepEqual(missing, {});
  });
});
