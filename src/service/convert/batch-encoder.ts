import { create, toBinary } from "@bufbuild/protobuf";
import { EventSchema, WatchResponseSchema } from "../../gen/sandgate/v1/watch_pb.js";
import type { JournalEntry } from "../../sandbox/journal/entry.js";
import type { WatchBatch } from "../../sandbox/journal/watch.js";
import { type CallEncoder, EVENTS_KEPT } from "./call-encoder.js";
import { batchToProto } from "./event.js";
import { createKept, type Kept } from "./kept.js";
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

/** Batches kept for watchers that come to the same place a little later. */
const BATCHES_KEPT = 64;

/** What the watchers with one mask share. */
interface Shared {
  /** Undefined: all is wanted. */
  readonly mask: Mask | undefined;
  readonly counts: boolean;
  readonly batches: ({ readonly events: readonly JournalEntry[]; readonly bytes: Uint8Array } | undefined)[];
  readonly events: Kept<JournalEntry>;
  users: number;
}

export function createBatchEncoders(encoder: CallEncoder): BatchEncoders {
  const sharing = new Map<string, Shared>();
  const writer = createWriter();

  function encode(batch: WatchBatch, shared: Shared): Uint8Array {
    const events = eventsOf(batch, shared);
    const rest = toBinary(WatchResponseSchema, create(WatchResponseSchema, batchToProto(batch)));
    return events === undefined ? rest : Buffer.concat([events, rest]);
  }

  /** The `events` of a batch, made once for all watchers that are at the same place. */
  function eventsOf({ events, counts }: WatchBatch, shared: Shared): Uint8Array | undefined {
    const [first] = events;
    const last = events.at(-1);
    if (first === undefined || last === undefined) return undefined;
    const slot = Math.floor(first.sequence / 64) % BATCHES_KEPT;
    const known = shared.batches[slot];
    if (counts.size === 0 && known !== undefined && isSame(known.events, events)) return known.bytes;
    // Encoded before the batch: the writer is shared.
    const encoded = events.map((entry) => eventOf(shared, entry));
    writer.reset();
    for (const [index, entry] of events.entries()) {
      const fields = encoded[index] as Uint8Array;
      const count = shared.counts ? (counts.get(entry) ?? 1) : 1;
      if (count === 1) writer.embed(watchResponse.events, fields);
      else
        writer.message(watchResponse.events, () => {
          writer.raw(fields);
          writer.uint(event.count, count);
        });
    }
    const bytes = writer.take();
    if (counts.size === 0) shared.batches[slot] = { events, bytes };
    return bytes;
  }

  function eventOf({ mask, events }: Shared, entry: JournalEntry): Uint8Array {
    const whole = encoder.event(entry);
    if (mask === undefined) return whole;
    const known = events.get(entry);
    if (known !== undefined) return known;
    writer.reset();
    writeMasked(writer, mask, whole);
    return events.set(entry, writer.take());
  }

  return {
    open(paths) {
      const mask = compileMask(EventSchema, paths, "read_mask");
      const key = mask === undefined ? "" : maskKey(mask);
      const shared = sharing.get(key) ?? share(mask);
      sharing.set(key, shared);
      shared.users += 1;
      return {
        encode: (batch) => encode(batch, shared),
        [Symbol.dispose]() {
          shared.users -= 1;
          if (shared.users === 0) sharing.delete(key);
        },
      };
    },
  };
}

function share(mask: Mask | undefined): Shared {
  return {
    mask,
    counts: mask === undefined || mask.has(event.count),
    batches: [],
    events: createKept(EVENTS_KEPT, ({ sequence }) => sequence),
    users: 0,
  };
}

function isSame(one: readonly JournalEntry[], other: readonly JournalEntry[]): boolean {
  return one.length === other.length && one.every((entry, index) => entry === other[index]);
}
