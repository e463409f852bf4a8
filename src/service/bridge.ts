import { setImmediate as turn } from "node:timers/promises";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type Metadata,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerWritableStream,
  type ServiceDefinition,
  type StatusObject,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { SandboxError } from "../base/errors.js";
import { createDeferred } from "../base/signals.js";
import { formatTraceparent, parseTraceparent } from "../base/traceparent.js";
import type { Authenticate, Caller } from "./auth.js";
import type { ObserveCall } from "./observe.js";
import { type ReportBug, statusOf } from "./status.js";

/** What a handler knows of its call besides the request. */
export interface CallContext {
  readonly caller: Caller;
  /** Aborted when the client cancels, its deadline passes or its connection breaks, or when the server stops. */
  readonly signal: AbortSignal;
  /** W3C trace context of what is done for the call, or empty. */
  readonly traceparent: string;
}

/** A message's bytes, made beforehand, so that what many streams send is encoded once. */
export type Encoded = Uint8Array;
type Answer<Output extends DescMessage> = MessageInitShape<Output> | Encoded;

type Methods<Service extends DescService> = Service extends GenService<infer Shape> ? Shape : never;

type Handler<Method> = Method extends {
  input: infer Input extends DescMessage;
  output: infer Output extends DescMessage;
  methodKind: infer Kind;
}
  ? {
      unary: (request: MessageShape<Input>, context: CallContext) => Promise<Answer<Output>>;
      server_streaming: (request: MessageShape<Input>, context: CallContext) => AsyncIterable<Answer<Output>>;
      client_streaming: (requests: AsyncIterable<MessageShape<Input>>, context: CallContext) => Promise<Answer<Output>>;
      bidi_streaming: (
        requests: AsyncIterable<MessageShape<Input>>,
        context: CallContext,
      ) => AsyncIterable<Answer<Output>>;
    }[Kind & ("unary" | "server_streaming" | "client_streaming" | "bidi_streaming")]
  : never;

/**
 * One function for each method. A stream's answers are pulled only as fast as the client takes them, so a
 * handler that yields holds at most one answer more than the transport's own window. When the client goes
 * away, the signal aborts and the iteration is ended, which runs the handler's `finally`.
 */
export type Handlers<Service extends DescService> = {
  readonly [Name in keyof Methods<Service>]: Handler<Methods<Service>[Name]>;
};

/** A service as the server adds it. */
export interface BoundService {
  readonly descriptor: DescService;
  readonly definition: ServiceDefinition;
  implement(environment: BridgeEnvironment): UntypedServiceImplementation;
}

export interface BridgeEnvironment {
  readonly authenticate: Authenticate;
  readonly report: ReportBug;
  /** Undefined: nobody does. */
  readonly observe: ObserveCall | undefined;
  /** Aborts calls that end only with the server, as soon as it drains. Its reason is their status. */
  readonly draining: AbortSignal;
  /** Aborts all others when the server can wait no longer. Its reason is their status. */
  readonly stopping: AbortSignal;
}

export interface BindOptions<Name> {
  /** Methods whose calls last until one side leaves: when the server drains, it is the server. */
  readonly openEnded?: readonly Name[];
}

/** Handlers as grpc-js sees them. */
type AnyHandler = (input: unknown, context: CallContext) => Promise<unknown> & AsyncIterable<unknown>;

function methodDefinition(method: DescMethod): MethodDefinition<unknown, unknown> {
  const { methodKind: kind, input, output } = method;
  const encode = (schema: DescMessage) => (value: unknown) => {
    const bytes =
      value instanceof Uint8Array ? value : toBinary(schema, create(schema, value as MessageInitShape<DescMessage>));
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
  const decode = (schema: DescMessage) => (bytes: Buffer) => fromBinary(schema, bytes);
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: kind === "client_streaming" || kind === "bidi_streaming",
    responseStream: kind === "server_streaming" || kind === "bidi_streaming",
    requestSerialize: encode(input),
    requestDeserialize: decode(input),
    responseSerialize: encode(output),
    responseDeserialize: decode(output),
    originalName: method.localName,
  };
}

/** A protobuf-es service as grpc-js describes one. */
export function serviceDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(service.methods.map((method) => [method.localName, methodDefinition(method)]));
}

type ReadableCall = ServerReadableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;
type WritableCall = ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>;

interface AnyCall {
  readonly cancelled: boolean;
  readonly metadata: Metadata;
  getPeer(): string;
  on(event: "cancelled", listener: () => void): unknown;
}

/** What the client sends, as it is asked for. Ends at half-close; throws when the call is over before that. */
async function* messages(call: ReadableCall, signal: AbortSignal): AsyncGenerator<unknown> {
  // Read by hand. The stream's own iterator destroys the call when it sees an error while it waits, and an error is
  // how grpc-js is given a status: the client would never get it.
  let over = false;
  let wake = (): void => {};
  const look = (): void => wake();
  const end = (): void => {
    over = true;
    wake();
  };
  call.on("readable", look);
  for (const event of ["end", "error", "close"]) call.on(event, end);
  signal.addEventListener("abort", look);
  try {
    for (;;) {
      signal.throwIfAborted();
      const message: unknown = call.read();
      if (message !== null) yield message;
      else if (over) {
        // A call that was cancelled ends its stream just as one that was half-closed does, and says why a little later.
        await turn();
        signal.throwIfAborted();
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    call.removeListener("readable", look);
    for (const event of ["end", "error", "close"]) call.removeListener(event, end);
    signal.removeEventListener("abort", look);
  }
}

/** Resolves when the call takes more, or the signal aborts. */
async function drained(call: WritableCall, signal: AbortSignal): Promise<void> {
  const writable = createDeferred();
  const wake = (): void => writable.resolve();
  call.once("drain", wake);
  signal.addEventListener("abort", wake);
  try {
    if (!signal.aborted) await writable.promise;
  } finally {
    call.removeListener("drain", wake);
    signal.removeEventListener("abort", wake);
  }
}

/** Sends answers as fast as the client takes them, until they end or the signal aborts. */
async function pump(call: WritableCall, answers: AsyncIterable<unknown>, signal: AbortSignal): Promise<void> {
  const iterator = answers[Symbol.asyncIterator]();
  // One promise for each answer: racing against one that lives as long as the stream would keep them all.
  let interrupt: ((reason: unknown) => void) | undefined;
  const abort = (): void => interrupt?.(signal.reason);
  signal.addEventListener("abort", abort);
  try {
    for (;;) {
      signal.throwIfAborted();
      // A handler that does not look at its signal must not keep the call open.
      const next = await new Promise<IteratorResult<unknown>>((resolve, reject) => {
        interrupt = reject;
        iterator.next().then(resolve, reject);
      });
      if (next.done === true) return;
      signal.throwIfAborted();
      if (!call.write(next.value)) await drained(call, signal);
    }
  } finally {
    signal.removeEventListener("abort", abort);
    // Told in any case: an iteration that has ended by itself takes no notice.
    iterator.return?.().catch(() => undefined);
  }
}

interface CallEnding extends Disposable {
  readonly signal: AbortSignal;
}

/** A signal of one call's end: its client left, or the server does. */
function watchEnding(call: AnyCall, over: AbortSignal): CallEnding {
  const controller = new AbortController();
  const stop = (): void => controller.abort(over.reason);
  call.on("cancelled", () => controller.abort(clientLeft));
  over.addEventListener("abort", stop);
  if (call.cancelled) controller.abort(clientLeft);
  else if (over.aborted) stop();
  return { signal: controller.signal, [Symbol.dispose]: () => over.removeEventListener("abort", stop) };
}

/** Every call that ends, ends with its client leaving: made once, since an error's stack trace is not free. */
const clientLeft = new SandboxError("cancelled", "the client ended the call");

function bindMethod(method: DescMethod, handler: AnyHandler, openEnded: boolean, environment: BridgeEnvironment) {
  const { authenticate, report, observe, draining, stopping } = environment;
  const over = openEnded ? draining : stopping;
  const site = { method: `${method.parent.typeName}/${method.name}`, isStream: method.methodKind !== "unary" };

  /** Runs one call with its context; `act` sends what it has to itself. */
  async function within(
    call: AnyCall,
    act: (context: CallContext) => Promise<void>,
    refuse: (refusal: StatusObject) => void,
  ): Promise<void> {
    const header = (name: string): string | undefined => call.metadata.get(name)[0]?.toString();
    const parent = parseTraceparent(header("traceparent") ?? "");
    const given = parent === undefined ? "" : formatTraceparent(parent);
    const observed = observe?.({ ...site, traceparent: given });
    let code: number = status.OK;
    // Made when it is first looked at: most unary handlers never do, and a signal costs more than they take.
    let ending: CallEnding | undefined;
    try {
      over.throwIfAborted();
      const caller = authenticate(call.getPeer(), header("authorization"));
      await act({
        caller,
        traceparent: observed?.traceparent ?? given,
        get signal() {
          ending ??= watchEnding(call, over);
          return ending.signal;
        },
      });
    } catch (error) {
      // After an abort, whatever the handler threw is a consequence of it.
      if (call.cancelled) {
        code = status.CANCELLED;
      } else {
        const refusal = statusOf(over.aborted ? over.reason : error, report);
        code = refusal.code;
        refuse(refusal);
      }
    } finally {
      ending?.[Symbol.dispose]();
      observed?.ended(code);
    }
  }

  function fail(call: WritableCall): (refusal: StatusObject) => void {
    // grpc-js sends an emitted error as the status, after what was written.
    return (refusal) => void call.emit("error", refusal);
  }

  switch (method.methodKind) {
    case "unary": {
      const unary: handleUnaryCall<unknown, unknown> = (call, callback) => {
        void within(call, async (context) => callback(null, await handler(call.request, context)), callback);
      };
      return unary;
    }
    case "client_streaming": {
      const clientStreaming: handleClientStreamingCall<unknown, unknown> = (call, callback) => {
        void within(
          call,
          async (context) => callback(null, await handler(messages(call, context.signal), context)),
          callback,
        );
      };
      return clientStreaming;
    }
    case "server_streaming": {
      const serverStreaming: handleServerStreamingCall<unknown, unknown> = (call) => {
        const act = async (context: CallContext): Promise<void> => {
          await pump(call, handler(call.request, context), context.signal);
          call.end();
        };
        void within(call, act, fail(call));
      };
      return serverStreaming;
    }
    case "bidi_streaming": {
      const bidiStreaming: handleBidiStreamingCall<unknown, unknown> = (call) => {
        const act = async (context: CallContext): Promise<void> => {
          await pump(call, handler(messages(call, context.signal), context), context.signal);
          call.end();
        };
        void within(call, act, fail(call));
      };
      return bidiStreaming;
    }
  }
}

/** Joins a service's descriptor to the functions that serve it. */
export function bindService<Service extends DescService>(
  service: Service,
  handlers: Handlers<Service>,
  options: BindOptions<keyof Handlers<Service>> = {},
): BoundService {
  const openEnded = new Set<unknown>(options.openEnded ?? []);
  return {
    descriptor: service,
    definition: serviceDefinition(service),
    implement(environment) {
      const entries = service.methods.map((method) => {
        const handler = handlers[method.localName as keyof Handlers<Service>] as unknown as AnyHandler;
        const call: AnyHandler = (input, context) => handler.call(handlers, input, context);
        return [method.localName, bindMethod(method, call, openEnded.has(method.localName), environment)] as const;
      });
      return Object.fromEntries(entries);
    },
  };
}
