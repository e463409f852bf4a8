import type { WatchRequest, WatchResponseSchema } from "../gen/sandgate/v1/watch_pb.js";
import type { Journal } from "../sandbox/journal/journal.js";
import type { CallContext } from "./bridge.js";
import type { Init } from "./convert/common.js";
import { batchToProto, eventToProto, watchFromProto } from "./convert/event.js";

/** Handlers of `WatchService`. A call's end, however it comes, ends its watch and nothing else. */
export function createWatchService({ journal }: { readonly journal: Journal }) {
  return {
    async *watch(request: WatchRequest, context: CallContext): AsyncGenerator<Init<typeof WatchResponseSchema>> {
      const batches = journal.watch(context.caller.tenant, watchFromProto(request), context.signal);
      for await (const batch of batches) yield batchToProto(batch, eventToProto);
    },
  };
}
