import { status } from "@grpc/grpc-js";
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, type Tracer, trace } from "@opentelemetry/api";
import type { Logger } from "pino";
import { SandboxError } from "../base/errors.js";
import { formatTraceparent, parseTraceparent } from "../base/traceparent.js";
import type { DomainEvent, EventBody, EventSink } from "../sandbox/model.js";
import type { ObserveCall } from "./observe.js";

/** Spans of OpenTelemetry: of each call of the API, and below the call that started a sandbox, of each call it had held. */
export interface Tracing {
  readonly observeCall: ObserveCall;
  readonly events: EventSink;
  /** Sends what there is, at most for `timeoutMs`. */
  close(timeoutMs: number): Promise<void>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Statuses that are the server's own fault, after OpenTelemetry's conventions for gRPC servers. */
const serverFaults: ReadonlySet<number> = new Set([
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.UNIMPLEMENTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/**
 * Undefined, and nothing of OpenTelemetry's SDK is loaded, unless the standard environment variables name where spans
 * go. Throws `failed_precondition` for what they ask and this version has not.
 */
export async function startTracing(env: Environment, log: Logger): Promise<Tracing | undefined> {
  if (!isAskedFor(env)) return undefined;
  const { tracer, shutdown } = await loadSdk(log);
  return {
    observeCall: observeCalls(tracer),
    events: { append: (event) => traceHeldCall(tracer, event) },
    async close(timeoutMs) {
      const late = new Promise<void>((resolve) => setTimeout(resolve, timeoutMs).unref());
      await Promise.race([shutdown().catch((error) => log.warn({ err: error }, "the last spans were not sent")), late]);
    },
  };
}

function isAskedFor(env: Environment): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === "true") return false;
  const exporter = env.OTEL_TRACES_EXPORTER ?? "";
  if (exporter === "none") return false;
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT || "";
  if (exporter === "" && endpoint === "") return false;
  if (exporter !== "" && exporter !== "otlp") throw unsupported("OTEL_TRACES_EXPORTER", exporter, "otlp or none");
  for (const name of ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
    const protocol = env[name] ?? "";
    if (protocol === "http/protobuf") break;
    if (protocol !== "") throw unsupported(name, protocol, "http/protobuf");
  }
  return true;
}

function unsupported(name: string, value: string, known: string): SandboxError {
  return new SandboxError("failed_precondition", `${name}=${value}: this version knows ${known}`, {
    reason: "SERVICE_FAILED",
  });
}

/** Not registered with the API's globals, so that services in one process stay apart. */
async function loadSdk(log: Logger): Promise<{ readonly tracer: Tracer; shutdown(): Promise<void> }> {
  const [sdk, otlp, resources] = await Promise.all([
    import("@opentelemetry/sdk-trace-node"),
    import("@opentelemetry/exporter-trace-otlp-proto"),
    import("@opentelemetry/resources"),
  ]).catch((error) => {
    throw new SandboxError(
      "failed_precondition",
      `tracing needs OpenTelemetry's packages, which are optional: ${error}`,
      {
        reason: "SERVICE_FAILED",
        cause: error,
      },
    );
  });
  const exporter = new otlp.OTLPTraceExporter();
  let isFailing = false;
  const watched = {
    export(spans: Parameters<typeof exporter.export>[0], done: Parameters<typeof exporter.export>[1]) {
      exporter.export(spans, (result) => {
        if (result.error !== undefined && !isFailing) log.warn({ err: result.error }, "spans could not be sent");
        isFailing = result.error !== undefined;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush(),
  };
  const provider = new sdk.NodeTracerProvider({
    resource: resources
      .defaultResource()
      .merge(resources.resourceFromAttributes({ "service.name": "sandgate" }))
      .merge(resources.detectResources({ detectors: [resources.envDetector] })),
    spanProcessors: [new sdk.BatchSpanProcessor(watched)],
  });
  return { tracer: provider.getTracer("sandgate"), shutdown: () => provider.shutdown() };
}

function contextOf(traceparent: string) {
  const parent = parseTraceparent(traceparent);
  return parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true });
}

function observeCalls(tracer: Tracer): ObserveCall {
  return ({ method, traceparent }) => {
    const [service, name] = method.split("/");
    const attributes = { "rpc.system": "grpc", "rpc.service": service, "rpc.method": name };
    const span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes }, contextOf(traceparent));
    return {
      traceparent: formatTraceparent(span.spanContext()),
      ended(code) {
        span.setAttribute("rpc.grpc.status_code", code);
        if (serverFaults.has(code)) span.setStatus({ code: SpanStatusCode.ERROR });
        span.end();
      },
    };
  };
}

/** Made when the call is settled, with the time since when it was held. What the program chose is left out. */
function traceHeldCall(tracer: Tracer, { body, timeMs, traceparent = "" }: DomainEvent): void {
  if (body.kind !== "call_settled") return;
  const { call, heldMs } = body;
  const options = { startTime: timeMs - heldMs, attributes: attributesOf(body) };
  tracer.startSpan(`held ${call.syscall}`, options, contextOf(traceparent)).end(timeMs);
}

function attributesOf({ call, settlement, source, sourceName }: EventBody & { kind: "call_settled" }) {
  return {
    "sandgate.sandbox_id": call.sandboxId,
    "sandgate.hold_id": call.holdId,
    "sandgate.syscall": call.syscall,
    "sandgate.category": call.category,
    "sandgate.source": source,
    "sandgate.source_name": sourceName,
    "sandgate.outcome": settlement.kind,
    ...(settlement.kind === "deny" && { "sandgate.errno": settlement.errno }),
    "process.pid": call.task.pid,
  };
}
