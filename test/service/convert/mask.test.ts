import assert from "node:assert/strict";
import { create, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { SandboxError } from "../../../src/base/errors.js";
import { type Event, EventSchema, VerdictSource } from "../../../src/gen/sandgate/v1/watch_pb.js";
import { compileMask, maskKey, writeMasked } from "../../../src/service/convert/mask.js";
import { createWriter } from "../../../src/service/convert/writer.js";

const event = create(EventSchema, {
  sequence: 7n,
  time: { seconds: 9n, nanos: 5 },
  sandboxId: "box",
  task: { pid: 3, executable: { text: "/bin/\u{fffd}", raw: new Uint8Array([47, 255]) } },
  event: {
    case: "callSettled",
    value: {
      source: VerdictSource.GRANT,
      sourceName: "g".repeat(200),
      verdict: { reason: "why", labels: { a: "b" } },
      call: {
        holdId: 2n ** 40n,
        args: [1n, 2n ** 64n - 1n],
        detail: { case: "exec", value: { program: { text: "/bin/true" }, argv: [{ text: "true" }, { text: "x" }] } },
      },
    },
  },
});

function masked(paths: readonly string[]): Event {
  const mask = compileMask(EventSchema, paths, "read_mask");
  assert.ok(mask !== undefined);
  const writer = createWriter();
  writeMasked(writer, mask, toBinary(EventSchema, event));
  return fromBinary(EventSchema, new Uint8Array(writer.take()));
}

/** Every path of the schema to this depth that a mask may name. */
function pathsOf(schema: DescMessage, depth: number): string[] {
  return schema.fields.flatMap((field) => {
    const below = field.fieldKind === "message" && depth > 1 ? pathsOf(field.message, depth - 1) : [];
    return [field.name, ...below.map((path) => `${field.name}.${path}`)];
  });
}

/** What a mask must keep, by clearing all else in the decoded message. */
function expected(schema: DescMessage, message: Message, paths: readonly string[]): Message {
  const kept = create(schema) as Message & Record<string, unknown>;
  const from = message as Message & Record<string, unknown>;
  for (const field of schema.fields) {
    const whole = paths.includes(field.name);
    const below = paths
      .filter((path) => path.startsWith(`${field.name}.`))
      .map((path) => path.slice(field.name.length + 1));
    if (!whole && below.length === 0) continue;
    const { oneof } = field;
    const holder = oneof === undefined ? undefined : (from[oneof.localName] as { case?: string; value?: unknown });
    const isSet = holder === undefined || holder.case === field.localName;
    const value = holder === undefined ? from[field.localName] : holder.value;
    if (!isSet || value === undefined) continue;
    const part = whole || field.fieldKind !== "message" ? value : expected(field.message, value as Message, below);
    if (oneof === undefined) kept[field.localName] = part;
    else kept[oneof.localName] = { case: field.localName, value: part };
  }
  return kept;
}

describe("a read mask", () => {
  it("keeps of an encoded event what clearing the other fields of the decoded one keeps", () => {
    const paths = pathsOf(EventSchema, 5).filter((path) =>
      /^(sequence|time|sandbox_id|task|count|call_settled)/.test(path),
    );
    fc.assert(
      fc.property(fc.subarray(paths, { minLength: 1, maxLength: 6 }), (chosen) => {
        assert.deepEqual(masked(chosen), expected(EventSchema, event, chosen));
      }),
      { numRuns: 300 },
    );
  });

  it("means the same in whatever order its paths are, and with a path below another that has it whole", () => {
    const keyOf = (...paths: string[]): string => maskKey(compileMask(EventSchema, paths, "read_mask") ?? new Map());
    assert.equal(keyOf("task.pid", "sequence"), keyOf("sequence", "task.pid", "task.pid"));
    assert.equal(keyOf("task", "task.pid"), keyOf("task.pid", "task"));
    assert.notEqual(keyOf("task.pid"), keyOf("task.tid"));
  });

  it("is none when it is empty or a star, and names what is not there", () => {
    for (const paths of [[], ["*"], ["time", "*"]])
      assert.equal(compileMask(EventSchema, paths, "read_mask"), undefined);
    for (const path of ["", "Time", "task.", "time.seconds.x", "call_settled.verdict.labels.a"]) {
      assert.throws(
        () => compileMask(EventSchema, [path], "read_mask"),
        (error) => error instanceof SandboxError && error.field === "read_mask" && error.message.includes(`"${path}"`),
      );
    }
  });
});
