import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { DecideResponseSchema } from "../../../src/gen/sandgate/v1/decision_pb.js";
import { EventSchema } from "../../../src/gen/sandgate/v1/watch_pb.js";
import type { DeliveredCall } from "../../../src/sandbox/decisions/decider.js";
import type { JournalEntry } from "../../../src/sandbox/journal/entry.js";
import type { CallDetail, EventBody, HeldCall, SocketAddress, TaskInfo } from "../../../src/sandbox/model.js";
import { createCallEncoder } from "../../../src/service/convert/call-encoder.js";
import { messageToProto } from "../../../src/service/convert/decision.js";
import { eventToProto } from "../../../src/service/convert/event.js";

const u32 = fc.nat({ max: 0xffffffff });
const id = fc.oneof(fc.nat(), fc.maxSafeNat());
/** Names that programs choose: text of any script, and bytes that are none. */
const bytes: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 300 }).map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 40 }),
);
const name = fc.string({ unit: "grapheme", maxLength: 200 });

const task: fc.Arbitrary<TaskInfo> = fc.record({
  sandboxId: name,
  processId: name,
  pid: u32,
  tid: u32,
  ppid: u32,
  startTicks: id,
  executable: bytes,
  command: bytes,
});
const address: fc.Arbitrary<SocketAddress> = fc.oneof(
  fc.record({
    kind: fc.constant("ip" as const),
    ip: fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 })),
    port: fc.nat({ max: 65_535 }),
  }),
  fc.record({ kind: fc.constant("unix" as const), path: fc.uint8Array({ maxLength: 108 }) }),
  fc.constant<SocketAddress>({ kind: "unspecified" }),
);
const detail: fc.Arbitrary<CallDetail> = fc.oneof(
  fc.record({
    kind: fc.constant("file" as const),
    path: bytes,
    operation: fc.constantFrom("read", "write", "create", "remove", "rename", "link", "metadata", "stat"),
    flags: u32,
    mode: u32,
    exists: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("exec" as const),
    program: bytes,
    interpreters: fc.array(bytes, { maxLength: 5 }),
    argv: fc.array(bytes, { maxLength: 40 }),
    argvCut: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("network" as const),
    operation: fc.constantFrom("connect", "send", "bind", "listen", "socket"),
    transport: fc.constantFrom("tcp", "udp", "icmp", "unix"),
    address,
    size: fc.maxSafeNat(),
  }),
  fc.constant<CallDetail>({ kind: "raw" }),
);
const time = fc.integer({ min: 0, max: 4e12 });
const call: fc.Arbitrary<HeldCall> = fc.record({
  holdId: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  sandboxId: name,
  task,
  syscall: name,
  number: u32,
  arch: u32,
  args: fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 6, maxLength: 6 }),
  category: fc.constantFrom("file", "network", "process", "memory", "ipc"),
  integrity: fc.constantFrom("registers", "copied", "frozen", "racy"),
  detail,
  timeMs: time,
  rule: name,
});
const delivered: fc.Arbitrary<DeliveredCall> = fc.record({
  call,
  timeLeftMs: fc.oneof(fc.nat(), fc.double({ min: 0, max: 1e7, noNaN: true })),
  waiting: u32,
  attempt: u32,
  fallback: fc.constantFrom(
    { kind: "deny", errno: 1 },
    { kind: "kill", scope: "sandbox", signal: 9 },
    { kind: "static_policy" },
  ),
});
const body: fc.Arbitrary<EventBody> = fc.oneof(
  fc.record({ kind: fc.constant("call_held" as const), call }),
  fc.record({
    kind: fc.constant("call_settled" as const),
    call,
    settlement: fc.constantFrom(
      { kind: "allow" },
      { kind: "static" },
      { kind: "deny", errno: 13 },
      { kind: "kill", scope: "group", signal: 15 },
    ),
    source: fc.constantFrom("decider", "grant", "rule", "static", "timeout", "no_decider", "target_gone"),
    sourceName: name,
    reason: name,
    verdictLabels: fc
      .dictionary(fc.string(), fc.string(), { maxKeys: 2 })
      .map((labels) => new Map(Object.entries(labels))),
    heldMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
  }),
  fc.record({ kind: fc.constant("limit_reached" as const), limit: name, action: name }),
);
const entry: fc.Arbitrary<JournalEntry> = fc.record({
  sequence: id,
  event: fc.record({
    timeMs: time,
    sandboxId: name,
    tenant: name,
    labels: fc.constant(new Map()),
    task: fc.option(task, { nil: undefined }),
    traceparent: name,
    body,
  }),
  bytes: fc.nat(),
});

describe("the encoder of held calls", () => {
  it("sends the same questions as the generated code does", () => {
    const encoder = createCallEncoder();
    fc.assert(
      fc.property(fc.array(delivered, { minLength: 1, maxLength: 4 }), fc.boolean(), (calls, args) => {
        const expected = create(DecideResponseSchema, messageToProto({ kind: "calls", calls }, { args }));
        // Once more from what was kept of the first time.
        for (const encoded of [encoder.calls(calls, { args }), encoder.calls(calls, { args })]) {
          assert.deepEqual(
            fromBinary(DecideResponseSchema, new Uint8Array(encoded)),
            fromBinary(DecideResponseSchema, toBinary(DecideResponseSchema, expected)),
          );
        }
      }),
      { numRuns: 500 },
    );
  });

  it("sends the same events as the generated code does, encoded once for all watchers", () => {
    const encoder = createCallEncoder();
    fc.assert(
      fc.property(fc.array(entry, { minLength: 1, maxLength: 4 }), (entries) => {
        for (const one of entries) {
          assert.deepEqual(
            fromBinary(EventSchema, new Uint8Array(encoder.event(one))),
            fromBinary(EventSchema, toBinary(EventSchema, eventToProto(one))),
          );
          assert.equal(encoder.event(one), encoder.event(one));
        }
      }),
      { numRuns: 500 },
    );
  });
});
