import { create, toBinary } from "@bufbuild/protobuf";
import { type WatchRequest, WatchResponseSchema } from "../gen/sandgate/v1/watch_pb.js";
import type { Journal } from "../sandbox/journal/journal.js";
import type { CallContext, Encoded } from "./bridge.js";
import { type CallEncoder, createCallEncoder } from "./convert/call-encoder.js";
import { batchToProto, watchFromProto } from "./convert/event.js";

export interface WatchServiceOptions {
  readonly journal: Journal;
  /** Shared with the decision service, so that a call is encoded once. */
  readonly encoder?: CallEncoder;
}

/** Handlers of `WatchService`. A call's end, however it comes, ends its watch and nothing else. */
export function createWatchService({ journal, encoder = createCallEncoder() }: WatchServiceOptions) {
  return {
    async *watch(request: WatchRequest, context: CallContext): AsyncGenerator<Encoded> {
      const batches = journal.watch(context.caller.tenant, watchFromProto(request), context.signal);
      for await (const batch of batches) {
        // Encoded messages put one after another are one message with the fields of all.
        const rest = toBinary(WatchResponseSchema, create(WatchResponseSchema, batchToProto(batch)));
        yield Buffer.concat([...batch.events.map(encoder.event), rest]);
      }
    },
  };
}
