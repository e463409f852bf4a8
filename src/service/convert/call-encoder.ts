import { create, toBinary } from "@bufbuild/protobuf";
import { VerdictSchema } from "../../gen/sandgate/v1/decision_pb.js";
import { FallbackSchema } from "../../gen/sandgate/v1/policy_pb.js";
import { EventSchema } from "../../gen/sandgate/v1/watch_pb.js";
import type { DeliveredCall } from "../../sandbox/decisions/decider.js";
import type { JournalEntry } from "../../sandbox/journal/entry.js";
import type { EventBody, Fallback, HeldCall, TaskInfo } from "../../sandbox/model.js";
import { categories, integrities, transports } from "./common.js";
import { type ExtraFields, fileOperations, networkOperations, verdictOf } from "./decision.js";
import { eventToProto, sources } from "./event.js";
import { createKept } from "./kept.js";
import { fallbackToProto } from "./spec.js";
import { createWriter, type Writer } from "./writer.js";

/**
 * Encodes what is sent for each held call: the question, and the events about it. A call is encoded once for all
 * who are told of it. Equal to what the generated code makes of the conversions beside it, and several times as fast.
 */
export interface CallEncoder {
  /** A `DecideResponse` with the calls. */
  calls(calls: readonly DeliveredCall[], extra: ExtraFields): Uint8Array;
  /** An `Event`, encoded once for all watchers. */
  event(entry: JournalEntry): Uint8Array;
}

/** Field numbers of the messages below, by message. */
const decideResponse = { calls: 2 };
const heldCallBatch = { calls: 1 };
const event = { sequence: 1, time: 2, sandboxId: 3, task: 4, traceparent: 6, callHeld: 23, callSettled: 24 };
const callHeld = { call: 1 };
const callSettled = { call: 1, verdict: 2, source: 3, sourceName: 4, held: 5 };
const heldCall = {
  holdId: 1,
  task: 2,
  syscall: 3,
  category: 4,
  timeLeft: 5,
  integrity: 6,
  waiting: 7,
  attempt: 8,
  args: 10,
  number: 11,
  arch: 12,
  time: 13,
  rule: 14,
  fallback: 15,
  file: 20,
  exec: 21,
  network: 22,
};
const taskInfo = { sandboxId: 1, processId: 2, pid: 3, tid: 4, ppid: 5, startTicks: 6, executable: 7, command: 8 };
const fileCall = { path: 1, operation: 3, flags: 4, mode: 5, exists: 6 };
const execCall = { program: 1, argv: 2, argvCut: 3, interpreters: 6 };
const networkCall = { operation: 1, transport: 2, address: 3, size: 5 };
const socketAddress = { ip: 1, unixPath: 2, port: 3 };

/** Events and calls whose bytes are kept for the next who is told of them. Who is further behind has them made anew. */
export const EVENTS_KEPT = 4096;
const CALLS_KEPT = 1024;

export function createCallEncoder(): CallEncoder {
  const inner = createWriter();
  const outer = createWriter();
  /** Fields of a call that are the same for everyone who is told of it. */
  const bodies = createKept<HeldCall>(CALLS_KEPT, ({ holdId }) => holdId);
  const events = createKept<JournalEntry>(EVENTS_KEPT, ({ sequence }) => sequence);
  const fallbacks = new WeakMap<Fallback, Uint8Array>();
  /** Most calls are of the same task as the one before. */
  let lastTask: { readonly task: TaskInfo; readonly fields: Uint8Array } | undefined;

  function taskFields(task: TaskInfo): Uint8Array {
    if (lastTask !== undefined && isSameTask(lastTask.task, task)) return lastTask.fields;
    inner.reset();
    inner.text(taskInfo.sandboxId, task.sandboxId);
    inner.text(taskInfo.processId, task.processId);
    inner.uint(taskInfo.pid, task.pid);
    inner.uint(taskInfo.tid, task.tid);
    inner.uint(taskInfo.ppid, task.ppid);
    inner.uint(taskInfo.startTicks, task.startTicks);
    inner.osString(taskInfo.executable, task.executable);
    inner.osString(taskInfo.command, task.command);
    const fields = inner.take();
    lastTask = { task, fields };
    return fields;
  }

  function fallbackFields(fallback: Fallback): Uint8Array {
    const known = fallbacks.get(fallback);
    if (known !== undefined) return known;
    const fields = toBinary(FallbackSchema, create(FallbackSchema, fallbackToProto(fallback)));
    fallbacks.set(fallback, fields);
    return fields;
  }

  function bodyOf(call: HeldCall): Uint8Array {
    return bodies.get(call) ?? bodies.set(call, encodeBody(call));
  }

  function encodeBody(call: HeldCall): Uint8Array {
    const task = taskFields(call.task);
    inner.reset();
    writeBody(inner, call, task);
    return inner.take();
  }

  function writeBody(writer: Writer, call: HeldCall, task: Uint8Array): void {
    writer.uint(heldCall.holdId, call.holdId);
    writer.embed(heldCall.task, task);
    writer.text(heldCall.syscall, call.syscall);
    writer.uint(heldCall.category, categories[call.category]);
    writer.uint(heldCall.integrity, integrities[call.integrity]);
    if (call.detail.kind === "raw") writer.fixed64(heldCall.args, call.args);
    writer.uint(heldCall.number, call.number);
    writer.uint(heldCall.arch, call.arch);
    writer.time(heldCall.time, call.timeMs);
    writer.text(heldCall.rule, call.rule);
    writeDetail(writer, call);
  }

  function writeDetail(writer: Writer, { detail }: HeldCall): void {
    switch (detail.kind) {
      case "file":
        writer.message(heldCall.file, () => {
          writer.osString(fileCall.path, detail.path);
          writer.uint(fileCall.operation, fileOperations[detail.operation]);
          writer.uint(fileCall.flags, detail.flags >>> 0);
          writer.uint(fileCall.mode, detail.mode >>> 0);
          writer.bool(fileCall.exists, detail.exists);
        });
        return;
      case "exec":
        writer.message(heldCall.exec, () => {
          writer.osString(execCall.program, detail.program);
          for (const argument of detail.argv) writer.osString(execCall.argv, argument);
          writer.bool(execCall.argvCut, detail.argvCut);
          for (const interpreter of detail.interpreters) writer.osString(execCall.interpreters, interpreter);
        });
        return;
      case "network":
        writer.message(heldCall.network, () => {
          writer.uint(networkCall.operation, networkOperations[detail.operation]);
          writer.uint(networkCall.transport, transports[detail.transport]);
          writer.message(networkCall.address, () => {
            const { address } = detail;
            if (address.kind === "ip") {
              // Members of a oneof are written even when empty.
              writer.embed(socketAddress.ip, address.ip);
              writer.uint(socketAddress.port, address.port);
            } else if (address.kind === "unix") {
              writer.embed(socketAddress.unixPath, address.path);
            }
          });
          writer.uint(networkCall.size, detail.size);
        });
        return;
      case "raw":
        return;
      default:
        detail satisfies never;
    }
  }

  function writeDelivered(
    { call, timeLeftMs, waiting, attempt, fallback }: DeliveredCall,
    { args }: ExtraFields,
  ): void {
    const body = bodyOf(call);
    const fallbackBytes = fallbackFields(fallback);
    outer.message(heldCallBatch.calls, () => {
      outer.raw(body);
      outer.time(heldCall.timeLeft, timeLeftMs);
      outer.uint(heldCall.waiting, waiting);
      outer.uint(heldCall.attempt, attempt);
      outer.embed(heldCall.fallback, fallbackBytes);
      if (args && call.detail.kind !== "raw") outer.fixed64(heldCall.args, call.args);
    });
  }

  function encodeEvent(entry: JournalEntry): Uint8Array {
    const { body } = entry.event;
    if (body.kind !== "call_held" && body.kind !== "call_settled") return toBinary(EventSchema, eventToProto(entry));
    outer.reset();
    writeCallEvent(entry, body);
    return outer.take();
  }

  function writeCallEvent(
    { sequence, event: { timeMs, sandboxId, task, traceparent = "" } }: JournalEntry,
    body: EventBody & { kind: "call_held" | "call_settled" },
  ): void {
    outer.uint(event.sequence, sequence);
    outer.time(event.time, timeMs);
    outer.text(event.sandboxId, sandboxId);
    if (task !== undefined) outer.embed(event.task, taskFields(task));
    outer.text(event.traceparent, traceparent);
    if (body.kind === "call_held") {
      outer.message(event.callHeld, () => outer.embed(callHeld.call, bodyOf(body.call)));
      return;
    }
    const verdict = verdictOf(body);
    outer.message(event.callSettled, () => {
      writeSettledCall(body.call);
      if (verdict !== undefined) {
        outer.embed(callSettled.verdict, toBinary(VerdictSchema, create(VerdictSchema, verdict)));
      }
      outer.uint(callSettled.source, sources[body.source]);
      outer.text(callSettled.sourceName, body.sourceName);
      outer.duration(callSettled.held, body.heldMs);
    });
  }

  /** Nobody is told of a call after this: what was kept of it is used, and nothing more is kept. */
  function writeSettledCall(call: HeldCall): void {
    const known = bodies.get(call);
    if (known !== undefined) {
      outer.embed(callSettled.call, known);
      return;
    }
    const task = taskFields(call.task);
    outer.message(callSettled.call, () => writeBody(outer, call, task));
  }

  return {
    calls(calls, extra) {
      outer.reset();
      outer.message(decideResponse.calls, () => {
        for (const delivered of calls) writeDelivered(delivered, extra);
      });
      return outer.take();
    },
    event: (entry) => events.get(entry) ?? events.set(entry, encodeEvent(entry)),
  };
}

function isSameTask(one: TaskInfo, other: TaskInfo): boolean {
  if (one === other) return true;
  return (
    one.tid === other.tid &&
    one.pid === other.pid &&
    one.startTicks === other.startTicks &&
    one.ppid === other.ppid &&
    one.sandboxId === other.sandboxId &&
    one.processId === other.processId &&
    Buffer.compare(one.executable, other.executable) === 0 &&
    Buffer.compare(one.command, other.command) === 0
  );
}
