import assert from "node:assert/strict";
import { create, toJson } from "@bufbuild/protobuf";
import { shellStatus } from "../../src/cli/exit-status.js";
import { UsageError } from "../../src/cli/failure.js";
import { describeAddress, formatIp } from "../../src/cli/question.js";
import { buildProcess, buildSpec } from "../../src/cli/run-spec.js";
import { parseSpec } from "../../src/cli/spec-file.js";
import {
  EndCause,
  ExitStatusSchema,
  ProcessSpecSchema,
  SandboxSpecSchema,
  SocketAddressSchema,
  StdinMode,
} from "../../src/client/api.js";

describe("the policy options of run", () => {
  it("add to the spec file, with paths from where the command was typed", () => {
    const base = parseSpec('[filesystem]\nreadable = ["/srv"]\n[network]\nallow = ["10.0.0.0/8"]', "policy.toml");
    const options = {
      read: ["data", "/opt"],
      write: ["../out"],
      deny: ["data/keys"],
      netAllow: ["tcp://[::1]:80"],
      bind: ["8000-8001"],
      name: "job",
    };
    const spec = buildSpec(
      base,
      { ...options, label: ["a=b=c"], allowDegraded: ["landlock_net"] },
      "/home/me/work",
      1_500,
    );
    assert.deepEqual(toJson(SandboxSpecSchema, spec), {
      displayName: "job",
      labels: { a: "b=c" },
      filesystem: {
        readable: ["/srv", "/home/me/work/data", "/opt"],
        writable: ["/home/me/out"],
        denied: ["/home/me/work/data/keys"],
      },
      network: {
        allow: [{ host: "10.0.0.0/8" }, { transport: "TRANSPORT_TCP", host: "::1", ports: [{ first: 80, last: 80 }] }],
        bind: [{ transport: "TRANSPORT_TCP", ports: [{ first: 8000, last: 8001 }] }],
      },
      protections: { mayDegrade: ["landlock_net"] },
      lifetime: { maxDuration: "1.500s" },
    });
    assert.deepEqual(base.filesystem?.readable, ["/srv"]);
  });

  it("take paths as inside the root where there is one, and what is mapped from where the command was typed", () => {
    const options = {
      root: "tree",
      read: ["bin"],
      exec: ["/opt"],
      map: ["/data:../data", "/usr:/usr:ro"],
      tmpSize: "1.5k",
      proc: true,
      uid: "1000",
    };
    const { filesystem, runAs } = toJson(SandboxSpecSchema, buildSpec(undefined, options, "/home/me", 0)) as never;
    assert.deepEqual(filesystem, {
      root: "/home/me/tree",
      readable: ["/bin"],
      executable: ["/opt"],
      mappings: [
        { inside: "/data", host: "/home/data" },
        { inside: "/usr", host: "/usr", readOnly: true },
      ],
      privateTmp: { sizeBytes: "1536" },
      privateProc: true,
    });
    assert.deepEqual(runAs, { uid: 1000, gid: 1000 });
  });

  it("name a bad mapping or id by its option, with an example", () => {
    for (const map of ["data:/srv", "/data", "/data:/srv:rx", "/data:/srv:ro:x"]) {
      assert.throws(
        () => buildSpec(undefined, { map: [map] }, "/", 0),
        /^UsageError: --map .*--map \/data:\/srv\/data:ro/,
      );
    }
    assert.equal(buildSpec(undefined, { tmp: true }, "/", 0).filesystem?.privateTmp?.sizeBytes, 0n);
    assert.throws(() => buildSpec(undefined, { tmpSize: "big" }, "/", 0), /^UsageError: --tmp-size "big" .*64MiB/);
    for (const options of [
      { uid: "me" },
      { uid: "-1" },
      { uid: "4294967295" },
      { uid: "1", gid: "staff" },
      { gid: "1" },
    ]) {
      assert.throws(() => buildSpec(undefined, options, "/", 0), /^UsageError: --[ug]id .*as in --/);
    }
  });

  it("hold nothing without --ask, and with it execve, connect and write-opens that an answer may allow", () => {
    assert.equal(buildSpec(undefined, {}, "/", 0).holds, undefined);
    const { holds, filesystem, network } = buildSpec(undefined, { ask: true }, "/", 0);
    const held = holds?.triggers.flatMap(({ syscalls, match }) => [
      ...syscalls,
      ...(match?.writesOnly ? ["write-open"] : []),
    ]);
    assert.deepEqual(held, ["execve", "execveat", "connect", "write-open"]);
    assert.deepEqual(filesystem?.grantableWritable, ["/"]);
    assert.equal(network?.grantable.length, 1);
  });

  it("name the option whose rule cannot be read", () => {
    assert.throws(
      () => buildSpec(undefined, { netAllow: ["1.2.3.4:0"] }, "/", 0),
      /^UsageError: --net-allow "0" is not/,
    );
    assert.throws(() => buildSpec(undefined, { netDeny: ["*:*,80"] }, "/", 0), /^UsageError: --net-deny .* mixes \*/);
    assert.throws(() => buildSpec(undefined, { bind: ["here:80"] }, "/", 0), /^UsageError: --bind .*such as 8080/);
  });

  it("refuse a label without a value", () => {
    assert.throws(() => buildSpec(undefined, { label: ["team"] }, "/", 0), UsageError);
  });
});

describe("the process options of run", () => {
  const setting = {
    callerCwd: "/home/me",
    callerEnv: { TERM: "xterm", SECRET: "x" },
    defaultCwd: "/home/me",
    stdin: true,
  };

  it("pass nothing of the caller's environment but what is named, and TERM to a terminal", () => {
    const piped = buildProcess(["true"], { env: ["A=b=c"], cwd: "sub" }, { ...setting, terminal: undefined });
    assert.deepEqual([piped.env, piped.cwd, piped.stdin], [{ A: "b=c" }, "/home/me/sub", StdinMode.PIPE]);
    const onTerminal = buildProcess(["true"], {}, { ...setting, terminal: { columns: 80, rows: 24 } });
    assert.deepEqual(toJson(ProcessSpecSchema, onTerminal), {
      argv: ["true"],
      env: { TERM: "xterm" },
      cwd: "/home/me",
      stdin: "STDIN_MODE_CLOSED",
      terminal: { columns: 80, rows: 24 },
      outputOverflow: "OUTPUT_OVERFLOW_WAIT",
    });
  });
});

describe("the exit status of a program", () => {
  it("is its own, 128 and the signal, or 124 after a limit", () => {
    const statusOf = (result: { case: "code" | "signal"; value: number }, cause = EndCause.SELF) =>
      shellStatus(create(ExitStatusSchema, { result, cause }));
    assert.equal(statusOf({ case: "code", value: 3 }), 3);
    assert.equal(statusOf({ case: "signal", value: 15 }), 143);
    assert.equal(statusOf({ case: "signal", value: 9 }, EndCause.LIMIT), 124);
  });
});

describe("addresses in a question", () => {
  it("are written as people write them", () => {
    assert.equal(formatIp(Uint8Array.of(10, 0, 0, 1)), "10.0.0.1");
    const ip = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1);
    assert.equal(formatIp(ip), "2001:db8::1:0:0:1");
    assert.equal(formatIp(new Uint8Array(16)), "::");
    const addressOf = (address: { case: "ip" | "unixPath"; value: Uint8Array<ArrayBuffer> }, port = 0) =>
      describeAddress(create(SocketAddressSchema, { address, port }));
    assert.equal(addressOf({ case: "ip", value: ip }, 443), "[2001:db8::1:0:0:1]:443");
    assert.equal(addressOf({ case: "unixPath", value: Uint8Array.from(Buffer.from("/run/a\nb")) }), "'/run/a\\nb'");
    assert.equal(addressOf({ case: "unixPath", value: Uint8Array.from(Buffer.from("\0name")) }), "@name");
  });
});
