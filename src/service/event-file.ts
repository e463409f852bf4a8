import { create, toJson } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { SandboxError } from "../base/errors.js";
import { openRotatingFile, type RotationOptions } from "../base/rotating-file.js";
import { EventSchema, GapSchema } from "../gen/sandgate/v1/watch_pb.js";
import type { JournalEntry } from "../sandbox/journal/entry.js";
import type { Journal } from "../sandbox/journal/journal.js";
import type { Cursor, WatchBatch, WatchOptions } from "../sandbox/journal/watch.js";
import { eventToProto, gapToProto } from "./convert/event.js";

export interface EventFileOptions extends RotationOptions {
  readonly path: string;
}

/** Every event as a line of JSON in a file, as `sandgate watch --json` prints them. */
export interface EventFile {
  counts(): EventFileCounts;
  /** Writes what the journal has by now, at most for `timeoutMs`, and closes the file. */
  close(timeoutMs: number): Promise<void>;
}

export interface EventFileCounts {
  readonly written: number;
  /** Because the disk was too slow, or refused them. */
  readonly dropped: number;
}

const everything: WatchOptions = {
  selector: { sandboxIds: new Set(), labels: new Map() },
  start: { kind: "oldest" },
  include: [],
  exclude: [],
  progressIntervalMs: 60_000,
  maxDelayMs: 100,
  maxBatch: 0,
  // As many as the journal has.
  buffer: Number.MAX_SAFE_INTEGER,
  overflow: "report_gap",
  aggregation: undefined,
};

/**
 * A watcher like any other: a disk that is slow, or hangs, delays nobody, and costs no memory beside the journal. What it
 * was too slow for is a line with a gap. What could not be written is counted, said in the log once, and tried anew with
 * the next events. Rejects when the file cannot be opened.
 */
export async function openEventFile(journal: Journal, log: Logger, options: EventFileOptions): Promise<EventFile> {
  const { path } = options;
  const file = await openRotatingFile(path, options).catch((error) => {
    throw new SandboxError("failed_precondition", `cannot write events to ${path}: ${error.message}`, {
      reason: "SERVICE_FAILED",
      cause: error,
    });
  });
  const stopping = new AbortController();
  let written = 0;
  let dropped = 0;
  let isFailing = false;
  /** Where to end; undefined while there is no end. */
  let last: number | undefined;
  let cursor: Cursor = { epoch: "", sequence: 0 };

  async function write({ gaps, events, cursor: { epoch } }: WatchBatch): Promise<void> {
    for (const { lost } of gaps) dropped += lost;
    const lines = [
      ...gaps.map((gap) => line({ gap: toJson(GapSchema, create(GapSchema, gapToProto(gap))) })),
      ...events.map((entry) => line(eventToJson(entry, epoch))),
    ];
    if (lines.length === 0) return;
    try {
      await file.write(lines);
      written += events.length;
      isFailing = false;
    } catch (error) {
      dropped += events.length;
      if (!isFailing) log.error({ err: error, path }, "events could not be written to their file");
      isFailing = true;
    }
  }

  async function run(): Promise<void> {
    for await (const batch of journal.watch(undefined, everything, stopping.signal)) {
      await write(batch);
      cursor = batch.cursor;
      if (last !== undefined && cursor.sequence >= last) return;
    }
  }

  const running = run().catch((error) => log.error({ err: error, path }, "events are no longer written to their file"));
  return {
    counts: () => ({ written, dropped }),
    async close(timeoutMs) {
      last = journal.cursor().sequence;
      if (cursor.sequence >= last) stopping.abort();
      const timer = setTimeout(() => stopping.abort(), timeoutMs);
      // An operation that hangs in the kernel is not waited for.
      const timedOut = new Promise<void>((resolve) =>
        stopping.signal.addEventListener("abort", () => setImmediate(resolve)),
      );
      await Promise.race([running, timedOut]);
      clearTimeout(timer);
      await Promise.race([
        file.close().catch((error) => log.error({ err: error, path }, "closing failed")),
        wait(timeoutMs),
      ]);
    },
  };
}

function wait(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs).unref());
}

function eventToJson(entry: JournalEntry, epoch: string): unknown {
  const event = toJson(EventSchema, eventToProto(entry)) as Record<string, unknown>;
  return { ...event, cursor: `${epoch}:${entry.sequence}` };
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
