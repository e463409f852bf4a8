import type { WatchRequest } from "../gen/sandgate/v1/watch_pb.js";
import type { Journal } from "../sandbox/journal/journal.js";
import type { CallContext, Encoded } from "./bridge.js";
import { createBatchEncoders } from "./convert/batch-encoder.js";
import { type CallEncoder, createCallEncoder } from "./convert/call-encoder.js";
import { watchFromProto } from "./convert/event.js";

export interface WatchServiceOptions {
  readonly journal: Journal;
  /** Shared with the decision service, so that a call is encoded once. */
  readonly encoder?: CallEncoder;
}

/** Handlers of `WatchService`. A call's end, however it comes, ends its watch and nothing else. */
export function createWatchService({ journal, encoder = createCallEncoder() }: WatchServiceOptions) {
  const encoders = createBatchEncoders(encoder);
  return {
    async *watch(request: WatchRequest, context: CallContext): AsyncGenerator<Encoded> {
      const options = watchFromProto(request);
      using batches = encoders.open(request.readMask?.paths ?? []);
      for await (const batch of journal.watch(context.caller.tenant, options, context.signal)) {
        yield batches.encode(batch);
      }
    },
  };
}
