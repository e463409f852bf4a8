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
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientWritableStream,
  type CallOptions as GrpcCallOptions,
  Metadata,
} from "@grpc/grpc-js";
import { RemoteError, remoteErrorOf } from "./errors.js";

export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** The call fails with DEADLINE_EXCEEDED after this time. */
  readonly timeoutMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Both directions of a bidirectional call. */
export interface DuplexCall<Input, Output> {
  /** What the server sends, read only as fast as it is iterated. Leaving the iteration cancels the call. */
  readonly messages: AsyncIterable<Output>;
  /** Resolves when the transport takes more. Rejects when the call is over. */
  send(message: Input): Promise<void>;
  /** Says that nothing more will be sent; what the server sends still arrives. */
  end(): void;
  cancel(): void;
}

type Methods<Service extends DescService> = Service extends GenService<infer Shape> ? Shape : never;

type ClientMethod<Method> = Method extends {
  input: infer Input extends DescMessage;
  output: infer Output extends DescMessage;
  methodKind: infer Kind;
}
  ? {
      unary: (request: MessageInitShape<Input>, options?: CallOptions) => Promise<MessageShape<Output>>;
      server_streaming: (
        request: MessageInitShape<Input>,
        options?: CallOptions,
      ) => AsyncIterable<MessageShape<Output>>;
      client_streaming: (
        requests: AsyncIterable<MessageInitShape<Input>>,
        options?: CallOptions,
      ) => Promise<MessageShape<Output>>;
      bidi_streaming: (options?: CallOptions) => DuplexCall<MessageInitShape<Input>, MessageShape<Output>>;
    }[Kind & ("unary" | "server_streaming" | "client_streaming" | "bidi_streaming")]
  : never;

/** One function for each method of a service. Failures are `RemoteError`s. */
export type ServiceClient<Service extends DescService> = {
  readonly [Name in keyof Methods<Service>]: ClientMethod<Methods<Service>[Name]>;
};

interface Cancellable {
  cancel(): void;
  on(event: "status", listener: () => void): unknown;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Cancels `call` when the signal aborts, until the call is over. */
function cancelWith(call: Cancellable, signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  const abort = (): void => call.cancel();
  if (signal.aborted) {
    abort();
    return;
  }
  signal.addEventListener("abort", abort);
  call.on("status", () => signal.removeEventListener("abort", abort));
}

type ReadableCall = ClientReadableStream<unknown> | ClientDuplexStream<unknown, unknown>;
type WritableCall = ClientWritableStream<unknown> | ClientDuplexStream<unknown, unknown>;

/** What became of a call. grpc-js emits its failure once, and whoever iterates later would see a clean end. */
interface Ending {
  over: boolean;
  failure?: RemoteError;
}

function endingOf(call: ReadableCall | WritableCall): Ending {
  const ending: Ending = { over: false };
  call.on("error", (error: Error) => {
    ending.failure = remoteErrorOf(error);
  });
  call.on("status", () => {
    ending.over = true;
  });
  return ending;
}

async function* received(call: ReadableCall, ending: Ending): AsyncGenerator<unknown> {
  try {
    for await (const message of call) yield message;
  } catch (error) {
    throw ending.failure ?? remoteErrorOf(error);
  } finally {
    if (!ending.over) call.cancel();
  }
  if (ending.failure !== undefined) throw ending.failure;
}

/** Resolves when the stream takes more. Rejects with the failure of a call that is over. */
async function sent(call: WritableCall, message: unknown, ending: Ending): Promise<void> {
  const refusal = (): RemoteError => ending.failure ?? new RemoteError("CANCELLED", "the call is over");
  if (ending.over || call.destroyed || call.writableEnded) throw refusal();
  if (call.write(message)) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (act: () => void) => (): void => {
      call.removeListener("drain", onDrain);
      call.removeListener("status", onOver);
      act();
    };
    const onDrain = settle(resolve);
    const onOver = settle(() => reject(refusal()));
    call.on("drain", onDrain);
    call.on("status", onOver);
  });
}

type AnyInit = MessageInitShape<DescMessage>;

function clientMethod(channel: Client, method: DescMethod, defaults: Readonly<Record<string, string>>) {
  const path = `/${method.parent.typeName}/${method.name}`;
  const encode = (message: unknown): Buffer =>
    bufferOf(toBinary(method.input, create(method.input, message as AnyInit)));
  const decode = (bytes: Buffer): unknown => fromBinary(method.output, bytes);

  function settings(options: CallOptions): [Metadata, GrpcCallOptions] {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries({ ...defaults, ...options.metadata })) metadata.set(name, value);
    return [metadata, options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs }];
  }

  switch (method.methodKind) {
    case "unary":
      return (request: unknown, options: CallOptions = {}) =>
        new Promise((resolve, reject) => {
          const call = channel.makeUnaryRequest(
            path,
            encode,
            decode,
            request,
            ...settings(options),
            (error, response) => {
              if (error === null) resolve(response);
              else reject(remoteErrorOf(error));
            },
          );
          cancelWith(call, options.signal);
        });
    case "server_streaming":
      return (request: unknown, options: CallOptions = {}) => {
        const call = channel.makeServerStreamRequest(path, encode, decode, request, ...settings(options));
        const ending = endingOf(call);
        cancelWith(call, options.signal);
        return received(call, ending);
      };
    case "client_streaming":
      return async (requests: AsyncIterable<unknown>, options: CallOptions = {}) => {
        let call: ClientWritableStream<unknown> | undefined;
        const answer = new Promise((resolve, reject) => {
          call = channel.makeClientStreamRequest(path, encode, decode, ...settings(options), (error, response) => {
            if (error === null) resolve(response);
            else reject(remoteErrorOf(error));
          });
          cancelWith(call, options.signal);
        });
        const stream = call as unknown as ClientWritableStream<unknown>;
        const ending = endingOf(stream);
        const sending = (async () => {
          for await (const request of requests) await sent(stream, request, ending);
          stream.end();
        })();
        // The server may answer, or refuse, before it has read everything: its word counts.
        sending.catch(() => stream.cancel());
        return answer;
      };
    case "bidi_streaming":
      return (options: CallOptions = {}): DuplexCall<unknown, unknown> => {
        const call = channel.makeBidiStreamRequest(path, encode, decode, ...settings(options));
        const ending = endingOf(call);
        cancelWith(call, options.signal);
        return {
          messages: received(call, ending),
          send: (message) => sent(call, message, ending),
          end: () => void call.end(),
          cancel: () => call.cancel(),
        };
      };
  }
}

/** A typed client of one service over `channel`, which it does not own. `metadata` goes with each call. */
export function createClient<Service extends DescService>(
  service: Service,
  channel: Client,
  metadata: Readonly<Record<string, string>> = {},
): ServiceClient<Service> {
  const entries = service.methods.map((method) => [method.localName, clientMethod(channel, method, metadata)] as const);
  return Object.fromEntries(entries) as ServiceClient<Service>;
}
