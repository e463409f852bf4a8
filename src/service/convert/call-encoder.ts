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
import { fallbackToProto } from "./spec.js";
import { createWriter } from "./writer.js";

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
const event = { sequence: 1, time: 2, sandboxId: 3, task: 4, callHeld: 23, callSettled: 24 };
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

export function createCallEncoder(): CallEncoder {
  const inner = createWriter();
  const outer = createWriter();
  /** Fields of a call that are the same for everyone who is told of it. */
  const bodies = new WeakMap<HeldCall, Uint8Array>();
  const fallbacks = new WeakMap<Fallback, Uint8Array>();
  const events = new WeakMap<JournalEntry, Uint8Array>();

  function kept<Key extends object>(
    cache: WeakMap<Key, Uint8Array>,
    key: Key,
    encode: (key: Key) => Uint8Array,
  ): Uint8Array {
    const known = cache.get(key);
    if (known !== undefined) return known;
    const encoded = encode(key);
    cache.set(key, encoded);
    return encoded;
  }

  function writeTask(writer: typeof inner, field: number, task: TaskInfo): void {
    writer.message(field, () => {
      writer.text(taskInfo.sandboxId, task.sandboxId);
      writer.text(taskInfo.processId, task.processId);
      writer.uint(taskInfo.pid, task.pid);
      writer.uint(taskInfo.tid, task.tid);
      writer.uint(taskInfo.ppid, task.ppid);
      writer.uint(taskInfo.startTicks, task.startTicks);
      writer.osString(taskInfo.executable, task.executable);
      writer.osString(taskInfo.command, task.command);
    });
  }

  function encodeBody(call: HeldCall): Uint8Array {
    inner.reset();
    inner.uint(heldCall.holdId, call.holdId);
    writeTask(inner, heldCall.task, call.task);
    inner.text(heldCall.syscall, call.syscall);
    inner.uint(heldCall.category, categories[call.category]);
    inner.uint(heldCall.integrity, integrities[call.integrity]);
    if (call.detail.kind === "raw") inner.fixed64(heldCall.args, call.args);
    inner.uint(heldCall.number, call.number);
    inner.uint(heldCall.arch, call.arch);
    inner.time(heldCall.time, call.timeMs);
    inner.text(heldCall.rule, call.rule);
    writeDetail(call);
    return inner.take();
  }

  function writeDetail({ detail }: HeldCall): void {
    switch (detail.kind) {
      case "file":
        inner.message(heldCall.file, () => {
          inner.osString(fileCall.path, detail.path);
          inner.uint(fileCall.operation, fileOperations[detail.operation]);
          inner.uint(fileCall.flags, detail.flags >>> 0);
          inner.uint(fileCall.mode, detail.mode >>> 0);
          inner.bool(fileCall.exists, detail.exists);
        });
        return;
      case "exec":
        inner.message(heldCall.exec, () => {
          inner.osString(execCall.program, detail.program);
          for (const argument of detail.argv) inner.osString(execCall.argv, argument);
          inner.bool(execCall.argvCut, detail.argvCut);
          for (const interpreter of detail.interpreters) inner.osString(execCall.interpreters, interpreter);
        });
        return;
      case "network":
        inner.message(heldCall.network, () => {
          inner.uint(networkCall.operation, networkOperations[detail.operation]);
          inner.uint(networkCall.transport, transports[detail.transport]);
          inner.message(networkCall.address, () => {
            const { address } = detail;
            if (address.kind === "ip") {
              // Members of a oneof are written even when empty.
              inner.embed(socketAddress.ip, address.ip);
              inner.uint(socketAddress.port, address.port);
            } else if (address.kind === "unix") {
              inner.embed(socketAddress.unixPath, address.path);
            }
          });
          inner.uint(networkCall.size, detail.size);
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
    const body = kept(bodies, call, encodeBody);
    const fallbackFields = kept(fallbacks, fallback, (value) =>
      toBinary(FallbackSchema, create(FallbackSchema, fallbackToProto(value))),
    );
    outer.message(heldCallBatch.calls, () => {
      outer.raw(body);
      outer.time(heldCall.timeLeft, timeLeftMs);
      outer.uint(heldCall.waiting, waiting);
      outer.uint(heldCall.attempt, attempt);
      outer.embed(heldCall.fallback, fallbackFields);
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
    { sequence, event: { timeMs, sandboxId, task } }: JournalEntry,
    body: EventBody & { kind: "call_held" | "call_settled" },
  ): void {
    const call = kept(bodies, body.call, encodeBody);
    outer.uint(event.sequence, sequence);
    outer.time(event.time, timeMs);
    outer.text(event.sandboxId, sandboxId);
    if (task !== undefined) writeTask(outer, event.task, task);
    if (body.kind === "call_held") {
      outer.message(event.callHeld, () => outer.embed(callHeld.call, call));
      return;
    }
    const verdict = verdictOf(body);
    outer.message(event.callSettled, () => {
      outer.embed(callSettled.call, call);
      if (verdict !== undefined) {
        outer.embed(callSettled.verdict, toBinary(VerdictSchema, create(VerdictSchema, verdict)));
      }
      outer.uint(callSettled.source, sources[body.source]);
      outer.text(callSettled.sourceName, body.sourceName);
      outer.duration(callSettled.held, body.heldMs);
    });
  }

  return {
    calls(calls, extra) {
      outer.reset();
      outer.message(decideResponse.calls, () => {
        for (const delivered of calls) writeDelivered(delivered, extra);
      });
      return outer.take();
    },
    event: (entry) => kept(events, entry, encodeEvent),
  };
}
