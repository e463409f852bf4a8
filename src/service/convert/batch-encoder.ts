import { create, toBinary } from "@bufbuild/protobuf";
import { EventSchema, WatchResponseSchema } from "../../gen/sandgate/v1/watch_pb.js";
import type { JournalEntry } from "../../sandbox/journal/entry.js";
import type { WatchBatch } from "../../sandbox/journal/watch.js";
import type { CallEncoder } from "./call-encoder.js";
import { batchToProto } from "./event.js";
import { compileMask, type Mask, maskKey, writeMasked } from "./mask.js";
import { createWriter } from "./writer.js";

/** Encodes what is sent to one watcher. Disposed of when the watcher leaves. */
export interface BatchEncoder extends Disposable {
  /** A `WatchResponse`. */
  encode(batch: WatchBatch): Uint8Array;
}

/** Makes encoders. Watchers whose masks keep the same fields share what was encoded for one of them. */
export interface BatchEncoders {
  /** Throws `invalid_argument` naming a path that an `Event` does not have. */
  open(paths: readonly string[]): BatchEncoder;
}

const watchResponse = { events: 1 };
const event = { count: 5 };

/** What the watchers with one mask share. */
interface Shared {
  readonly mask: Mask;
  readonly events: WeakMap<JournalEntry, Uint8Array>;
  users: number;
}

export function createBatchEncoders(encoder: CallEncoder): BatchEncoders {
  const masked = new Map<string, Shared>();
  const writer = createWriter();

  function encode(batch: WatchBatch, fieldsOf: (entry: JournalEntry) => Uint8Array, counts: boolean): Uint8Array {
    // Encoded before the batch: the writers are shared.
    const events = batch.events.map(fieldsOf);
    writer.reset();
    for (const [index, entry] of batch.events.entries()) {
      const fields = events[index] as Uint8Array;
      const count = counts ? (batch.counts.get(entry) ?? 1) : 1;
      if (count === 1) writer.embed(watchResponse.events, fields);
      else
        writer.message(watchResponse.events, () => {
          writer.raw(fields);
          writer.uint(event.count, count);
        });
    }
    writer.raw(toBinary(WatchResponseSchema, create(WatchResponseSchema, batchToProto(batch))));
    return writer.take();
  }

  function sharedOf(mask: Mask): { readonly key: string; readonly shared: Shared } {
    const key = maskKey(mask);
    const shared = masked.get(key) ?? { mask, events: new WeakMap(), users: 0 };
    masked.set(key, shared);
    return { key, shared };
  }

  function maskedEvent({ mask, events }: Shared, entry: JournalEntry): Uint8Array {
    const known = events.get(entry);
    if (known !== undefined) return known;
    const whole = encoder.event(entry);
    writer.reset();
    writeMasked(writer, mask, whole);
    const fields = writer.take();
    events.set(entry, fields);
    return fields;
  }

  return {
    open(paths) {
      const mask = compileMask(EventSchema, paths, "read_mask");
      if (mask === undefined) return { encode: (batch) => encode(batch, encoder.event, true), [Symbol.dispose]() {} };
      const { key, shared } = sharedOf(mask);
      shared.users += 1;
      return {
        encode: (batch) => encode(batch, (entry) => maskedEvent(shared, entry), mask.has(event.count)),
        [Symbol.dispose]() {
          shared.users -= 1;
          if (shared.users === 0 && masked.get(key) === shared) masked.delete(key);
        },
      };
    },
  };
}
