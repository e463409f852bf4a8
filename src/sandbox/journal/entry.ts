import type { DomainEvent, EventBody } from "../model.js";

/** An event and its place in the order over all sandboxes. One object for all watchers. */
export interface JournalEntry {
  /** From 1, without holes. */
  readonly sequence: number;
  readonly event: DomainEvent;
  /** About what it takes. */
  readonly bytes: number;
}

/** Takes the place of events that were lost before they could be given one of their own. */
export interface JournalLoss {
  readonly sequence: number;
  readonly loss: LostEvents;
  readonly bytes: number;
}

export interface LostEvents {
  readonly tenant: string;
  readonly sandboxId: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly kind: EventBody["kind"];
  readonly count: number;
}

/** What the journal keeps at one place. */
export type JournalSlot = JournalEntry | JournalLoss;

export function lossOf(sequence: number, loss: LostEvents): JournalLoss {
  return { sequence, loss, bytes: 256 };
}

export function entryOf(sequence: number, event: DomainEvent): JournalEntry {
  return { sequence, event, bytes: sizeOf(event) };
}

/** About what an event takes, here and in a message. */
function sizeOf({ task, body }: DomainEvent): number {
  const base = 256 + (task === undefined ? 0 : task.executable.length + task.command.length);
  switch (body.kind) {
    case "call_held":
    case "call_settled": {
      const { detail } = body.call;
      if (detail.kind === "file") return base + 256 + detail.path.length;
      return base + 256 + (detail.kind === "exec" ? detail.program.length + argvSize(detail.argv) : 64);
    }
    case "process_started":
      return base + body.program.length + argvSize(body.argv);
    case "sandbox_changed":
      return base + 4096;
    case "grant_changed":
      return base + 1024;
    case "process_ended":
    case "limit_reached":
    case "decider_changed":
      return base;
  }
}

function argvSize(argv: readonly Uint8Array[]): number {
  return argv.reduce((sum, argument) => sum + argument.length + 32, 0);
}
