import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { EventKind } from "../../src/client/client.js";
import { startTracing } from "../../src/service/tracing.js";
import { connectDecider, deny } from "../support/decider.js";
import { run, startTestService } from "../support/service.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const caller = `00-${traceId}-b7ad6b7169203331-01`;
const log = pino({ level: "silent" });

/** Collects what is posted to it. */
async function startCollector() {
  const bodies: Buffer[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      bodies.push(Buffer.concat(chunks));
      response.writeHead(200).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received: () => Buffer.concat(bodies),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Sets variables of this process, and back. */
function environment(variables: Readonly<Record<string, string>>): Disposable {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  return {
    [Symbol.dispose]() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}

const denied = {
  spec: { holds: { triggers: [{ syscalls: ["kill"] }] } },
  process: { argv: ["python3", "-c", "import os\ntry: os.kill(0, 0)\nexcept PermissionError: pass"] },
};

/** Runs a program that has a call refused, for a caller with a trace; returns the traceparents of its events. */
async function runTraced(tracing: boolean): Promise<ReadonlySet<string>> {
  await using test = await startTestService({ tracing });
  await using _decider = await connectDecider(test.client, { judge: () => deny(13) });
  const { sandboxId } = await run(test.client, denied, { metadata: { traceparent: caller } });
  const found = new Set<string>();
  const kinds = [EventKind.CALL_HELD, EventKind.CALL_SETTLED, EventKind.PROCESS_STARTED, EventKind.SANDBOX_CHANGED];
  const watching = test.client.watch.watch({
    start: { case: "fromOldest", value: {} },
    selector: { sandboxIds: [sandboxId] },
    include: [{ kinds }],
  });
  for await (const { events, caughtUp } of watching) {
    for (const { traceparent } of events) found.add(traceparent);
    if (caughtUp) break;
  }
  return found;
}

describe("tracing", () => {
  it("sends a span for each call of the API and each held call, in the trace of the caller, and names it in events", async () => {
    await using collector = await startCollector();
    using _variables = environment({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=testing",
    });
    const [traceparent, ...others] = await runTraced(true);
    assert.deepEqual(others, []);
    assert.match(traceparent ?? "", new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
    assert.notEqual(traceparent, caller, "the server's own span is the parent of what it does");
    const spans = collector.received();
    const has = (bytes: Buffer | string): boolean => spans.includes(bytes);
    assert.ok(has(Buffer.from(traceId, "hex")) && has(Buffer.from(traceparent?.slice(36, 52) ?? "", "hex")));
    for (const text of ["sandgate.v1.SandboxService/Run", "held kill", "sandgate.source", "decider", "testing"]) {
      assert.ok(has(text), `no ${text} was sent`);
    }
  });

  it("is off without the standard variables: events then have the caller's own trace", async () => {
    assert.deepEqual([...(await runTraced(true))], [caller]);
    for (const off of [
      {},
      { OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" },
      { OTEL_SDK_DISABLED: "true", OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" },
    ]) {
      assert.equal(await startTracing(off, log), undefined);
    }
  });

  it("refuses an exporter and a protocol that it does not have, by the name of the variable", async () => {
    await assert.rejects(startTracing({ OTEL_TRACES_EXPORTER: "zipkin" }, log), /OTEL_TRACES_EXPORTER=zipkin: .* otlp/);
    const grpc = { OTEL_TRACES_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" };
    await assert.rejects(startTracing(grpc, log), /OTEL_EXPORTER_OTLP_PROTOCOL=grpc: .* http\/protobuf/);
  });

  it("delays no call and no end when nobody collects, and says so once", async () => {
    const logged: string[] = [];
    using _variables = environment({
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:1/v1/traces",
      OTEL_EXPORTER_OTLP_TIMEOUT: "100",
      OTEL_BSP_EXPORT_TIMEOUT: "500",
    });
    const told = pino({}, { write: (text: string) => void logged.push(text) });
    const tracing = await startTracing(process.env, told);
    assert.ok(tracing !== undefined);
    tracing.observeCall({ method: "a.B/C", isStream: false, traceparent: "" }).ended(0);
    await tracing.close(60_000);
    assert.equal(logged.filter((line) => line.includes("could not be sent")).length, 1);
  });
});
