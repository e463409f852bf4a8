import assert from "node:assert/strict";
import { toJson } from "@bufbuild/protobuf";
import { UsageError } from "../../src/cli/failure.js";
import { parseSpec } from "../../src/cli/spec-file.js";
import { SandboxSpecSchema } from "../../src/gen/sandgate/v1/policy_pb.js";

const toml = `# a policy
display_name = "build"
labels = { team = "ci" }

[filesystem]
baseline = "sane"
readable = [
  "/srv",
  "/opt",
]

[network]
allow = ["tcp://127.0.0.1:8080-8090", { host = "10.0.0.0/8" }]
bind = [8000, "9000-9010"]

[lifetime]
max_duration = "1m30s"

[[rules]]
name = "no curl"
match = { programs = ["/usr/bin/curl"] }
deny = { error_number = 13 }

[[rules]]
name = "ask"
ask = {}
`;

function messageOf(source: string): string {
  try {
    parseSpec(source, "policy.toml");
  } catch (error) {
    assert.ok(error instanceof UsageError, String(error));
    return error.message;
  }
  return "no error";
}

describe("a spec file", () => {
  it("is the API's SandboxSpec in TOML, with short forms for destinations, ports, durations and enums", () => {
    assert.deepEqual(toJson(SandboxSpecSchema, parseSpec(toml, "policy.toml")), {
      displayName: "build",
      labels: { team: "ci" },
      filesystem: { baseline: "BASELINE_SANE", readable: ["/srv", "/opt"] },
      network: {
        allow: [
          { transport: "TRANSPORT_TCP", host: "127.0.0.1", ports: [{ first: 8080, last: 8090 }] },
          { host: "10.0.0.0/8" },
        ],
        bind: [
          { transport: "TRANSPORT_TCP", ports: [{ first: 8000, last: 8000 }] },
          { transport: "TRANSPORT_TCP", ports: [{ first: 9000, last: 9010 }] },
        ],
      },
      lifetime: { maxDuration: "90s" },
      rules: [
        { name: "no curl", match: { programs: ["/usr/bin/curl"] }, deny: { errorNumber: 13 } },
        { name: "ask", ask: {} },
      ],
    });
  });

  it("gives the same spec from JSON, in either spelling of the names", () => {
    const camel = parseSpec('{"displayName":"a","filesystem":{"grantableWritable":["/"]}}', "policy.json");
    const snake = parseSpec('{"display_name":"a","filesystem":{"grantable_writable":["/"]}}', "policy.json");
    assert.deepEqual(toJson(SandboxSpecSchema, camel), toJson(SandboxSpecSchema, snake));
  });

  it("refuses an unknown key with its path, its line and the nearest name", () => {
    assert.equal(
      messageOf(toml.replace("readable =", "redable =")),
      "policy.toml:7: filesystem.redable: unknown key; did you mean readable?",
    );
    assert.match(
      messageOf(toml.replace("programs =", "colour =")),
      /^policy\.toml:21: rules\[0\]\.match\.colour: unknown key; the keys here are syscalls,/,
    );
    assert.match(messageOf('{"nope":1}'), /^policy\.toml: nope: unknown key/);
  });

  it("refuses a value of the wrong kind with its path and line", () => {
    assert.equal(
      messageOf(toml.replace('"sane"', '"insane"')),
      'policy.toml:6: filesystem.baseline: "insane" is not one of sane, none',
    );
    assert.match(
      messageOf(toml.replace('"1m30s"', '"soon"')),
      /^policy\.toml:17: lifetime\.max_duration: "soon" is not a duration/,
    );
    assert.match(
      messageOf(toml.replace('"9000-9010"', '"9010-9000"')),
      /^policy\.toml:14: network\.bind\[1\]: .*above the last/,
    );
    assert.equal(
      messageOf(toml.replace('"/srv"', "3")),
      "policy.toml:7: filesystem.readable[0]: 3 where text is expected",
    );
    assert.match(messageOf("checkpointable = 1"), /^policy\.toml:1: checkpointable: 1 where true or false is expected/);
  });

  it("says where a text that is not TOML breaks", () => {
    assert.match(messageOf("[filesystem\nreadable = []"), /^policy\.toml:1:\d+: not TOML: /);
  });

  it("refuses a oneof with two arms", () => {
    assert.match(messageOf('[[rules]]\nname = "x"\nallow = {}\ndeny = {}'), /oneof|action|multiple/i);
  });
});
