import assert from "node:assert/strict";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestPath } from "../support/guests.js";
import {
  type Process,
  type Refusal,
  refused,
  requestId,
  run,
  type Spec,
  skip,
  startTestService,
  type TestService,
} from "../support/service.js";

const guest = guestPath("act");

/** Refused by Spawn and by Run alike. */
interface Case {
  readonly what: string;
  readonly spec?: Spec;
  readonly process?: Process;
  readonly refusal: Refusal;
}

const good: Process = { argv: ["/bin/true"] };
const connects: Spec["holds"] = { triggers: [{ syscalls: ["connect"] }] };

const invalid = (field: string): Refusal => ({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD", field });
const contradicts = (field: string): Refusal => ({ code: "INVALID_ARGUMENT", reason: "POLICY_CONTRADICTION", field });
const later = (field: string): Refusal => ({ code: "UNIMPLEMENTED", reason: "NOT_IMPLEMENTED", field });
const unenforceable = (field: string): Refusal => ({
  code: "FAILED_PRECONDITION",
  reason: "PROTECTION_UNAVAILABLE",
  field,
});

const malformed: readonly Case[] = [
  { what: "no program", process: { argv: [] }, refusal: invalid("process.argv") },
  { what: "an empty program", process: { argv: [""] }, refusal: invalid("process.argv") },
  { what: "a zero byte in an argument", process: { argv: ["/bin/true", "a\0b"] }, refusal: invalid("process.argv[1]") },
  { what: "a variable with =", process: { ...good, env: { "A=B": "c" } }, refusal: invalid('process.env["A=B"]') },
  { what: "a relative directory", process: { ...good, cwd: "tmp" }, refusal: invalid("process.cwd") },
  {
    what: "too wide a terminal",
    process: { ...good, terminal: { columns: 70_000 } },
    refusal: invalid("process.terminal"),
  },
  {
    what: "a relative tree",
    spec: { filesystem: { readable: ["usr"] } },
    refusal: invalid("spec.filesystem.readable[0]"),
  },
  {
    what: "a tree that climbs",
    spec: { filesystem: { writable: ["/tmp/../etc"] } },
    refusal: invalid("spec.filesystem.writable[0]"),
  },
  { what: "a relative root", spec: { filesystem: { root: "srv" } }, refusal: invalid("spec.filesystem.root") },
  {
    what: "a relative mapping",
    spec: { filesystem: { mappings: [{ inside: "data", host: "/srv" }] } },
    refusal: invalid("spec.filesystem.mappings[0].inside"),
  },
  {
    what: "a mapping over the root",
    spec: { filesystem: { mappings: [{ inside: "//", host: "/srv" }] } },
    refusal: invalid("spec.filesystem.mappings[0].inside"),
  },
  {
    what: "a mapping over /proc",
    spec: { filesystem: { mappings: [{ inside: "/proc/", host: "/srv" }] } },
    refusal: invalid("spec.filesystem.mappings[0].inside"),
  },
  {
    what: "two mappings at one path",
    spec: {
      filesystem: {
        mappings: [
          { inside: "/a", host: "/b" },
          { inside: "/a/", host: "/c" },
        ],
      },
    },
    refusal: invalid("spec.filesystem.mappings[1].inside"),
  },
  {
    what: "a mapping of nothing",
    spec: { filesystem: { mappings: [{ inside: "/a" }] } },
    refusal: invalid("spec.filesystem.mappings[0].host"),
  },
  { what: "a user that is none", spec: { runAs: { uid: 0xffffffff } }, refusal: invalid("spec.run_as.uid") },
  {
    what: "a host that is neither address nor name",
    spec: { network: { allow: [{ host: "127.1" }] } },
    refusal: invalid("spec.network.allow[0].host"),
  },
  {
    what: "a port that is none",
    spec: { network: { bind: [{ ports: [{ first: 70_000 }] }] } },
    refusal: invalid("spec.network.bind[0].ports[0]"),
  },
  {
    what: "a syscall that Linux has not",
    spec: { holds: { triggers: [{ syscalls: ["frobnicate"] }] } },
    refusal: invalid("spec.holds.triggers[0].syscalls[0]"),
  },
  {
    what: "a syscall that cannot be held",
    spec: { holds: { triggers: [{ syscalls: ["execve", "read"] }] } },
    refusal: invalid("spec.holds.triggers[0].syscalls[1]"),
  },
  {
    what: "a trigger on nothing",
    spec: { holds: { triggers: [{}] } },
    refusal: invalid("spec.holds.triggers[0]"),
  },
  {
    what: "a rule without a name",
    spec: { rules: [{ match: { syscalls: ["execve"] }, action: { case: "ask", value: {} } }] },
    refusal: invalid("spec.rules[0].name"),
  },
  {
    what: "two rules with one name",
    spec: {
      rules: [1, 2].map(() => ({
        name: "one",
        match: { syscalls: ["execve"] },
        action: { case: "ask" as const, value: {} },
      })),
    },
    refusal: invalid("spec.rules[1].name"),
  },
  {
    what: "a rule without an action",
    spec: { rules: [{ name: "idle", match: { syscalls: ["execve"] } }] },
    refusal: invalid("spec.rules[0].action"),
  },
  {
    what: "an unknown protection",
    spec: { protections: { mayDegrade: ["magic"] } },
    refusal: invalid("spec.protections.may_degrade[0]"),
  },
  {
    what: "a negative time",
    spec: { lifetime: { maxDuration: { seconds: -1n, nanos: 0 } } },
    refusal: invalid("spec.lifetime.max_duration"),
  },
  {
    what: "33 labels",
    spec: { labels: Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`label${index}`, "x"])) },
    refusal: invalid("spec.labels"),
  },
];

const contradictory: readonly Case[] = [
  {
    what: "destinations that only a verdict may open, where no connect is held",
    spec: { network: { grantable: [{ host: "10.0.0.0/8" }] } },
    refusal: contradicts("spec.network.grantable"),
  },
  {
    what: "trees that only a verdict may open, where no open is held",
    spec: { filesystem: { grantableReadable: ["/root"] } },
    refusal: contradicts("spec.filesystem.grantable_readable"),
  },
  {
    what: "trees for reading by verdict, where only opens for writing are held",
    spec: {
      filesystem: { grantableReadable: ["/root"] },
      holds: { triggers: [{ categories: [1], match: { writesOnly: true } }] },
    },
    refusal: contradicts("spec.filesystem.grantable_readable"),
  },
  {
    what: "the same destination allowed and denied",
    spec: { network: { allow: [{ host: "10.1.2.3" }], deny: [{ host: "10.1.2.3" }] } },
    refusal: contradicts("spec.network.allow[0]"),
  },
  {
    what: "more time for a verdict than for the hold",
    spec: { holds: { ...connects, verdictTimeout: { seconds: 9n }, maxHold: { seconds: 3n } } },
    refusal: contradicts("spec.holds.verdict_timeout"),
  },
];

const unimplemented: readonly Case[] = [
  { what: "http", spec: { http: { allow: [{ method: "*", host: "*", path: "**" }] } }, refusal: later("spec.http") },
  { what: "determinism", spec: { determinism: { sortedDirectories: true } }, refusal: later("spec.determinism") },
  { what: "a working directory", spec: { workdir: { lower: "/srv" } }, refusal: later("spec.workdir") },
  { what: "virtual ports", spec: { network: { remapPorts: true } }, refusal: later("spec.network.remap_ports") },
  { what: "a disk limit", spec: { limits: { diskBytes: 1n } }, refusal: later("spec.limits.disk_bytes") },
  { what: "a journal of its own", spec: { journal: { maxEvents: 5 } }, refusal: later("spec.journal.max_events") },
];

const unavailable: readonly Case[] = [
  {
    what: "copied arguments of execve",
    spec: { holds: { triggers: [{ syscalls: ["execve"], requiredIntegrity: 2 }] } },
    refusal: unenforceable("spec.holds.triggers[0].required_integrity"),
  },
];

describe("what a caller is refused", () => {
  let service: TestService;
  let files: string;

  before(async () => {
    service = await startTestService();
    files = join(service.directory, "files");
    mkdirSync(files);
    writeFileSync(join(files, "plain"), "no program\n", { mode: 0o644 });
    writeFileSync(join(files, "script"), "#!/usr/bin/no-such-interpreter\n", { mode: 0o755 });
    writeFileSync(join(files, "garbage"), "\0\0\0\0", { mode: 0o755 });
    writeFileSync(join(files, "good"), "#!/bin/sh\necho good\n", { mode: 0o755 });
    mkdirSync(join(files, "directory"));
    chmodSync(files, 0o755);
  });
  after(async () => {
    const { sandboxes } = await service.client.sandbox.listSandboxes({ states: [1, 2, 3, 5, 6, 7] });
    assert.deepEqual(sandboxes, [], "a refused spawn leaves no sandbox");
    await service[Symbol.asyncDispose]();
  });

  async function check({ spec = {}, process = good, refusal }: Omit<Case, "what">): Promise<void> {
    const { client } = service;
    await refused(client.sandbox.spawn({ requestId: requestId(), spec, process }), refusal);
    await refused(run(client, { spec, process }), refusal);
  }

  describe("a malformed request", () => {
    for (const { what, ...rest } of malformed) it(`with ${what} names the field`, () => check(rest));
  });

  describe("a policy that contradicts itself", () => {
    for (const { what, ...rest } of contradictory) it(`with ${what} names the field`, () => check(rest));
  });

  describe("what comes with a later version", () => {
    for (const { what, ...rest } of unimplemented) it(`such as ${what} is not ignored`, () => check(rest));
  });

  describe("what this host or version cannot enforce", () => {
    for (const { what, ...rest } of unavailable) it(`such as ${what} is not promised`, () => check(rest));
  });

  describe("a program", () => {
    const notExecuted = (stage: string, errno: string, syscall: string): Refusal => ({
      code: "FAILED_PRECONDITION",
      reason: "EXEC_FAILED",
      field: "process.argv[0]",
      metadata: { stage, errno, syscall },
    });
    const atLookup = (errno: string): Refusal => notExecuted("program", errno, "faccessat");
    const readable = (): Spec => ({ filesystem: { readable: [files] } });

    it("that exists and may be read runs", async () => {
      const ran = await run(service.client, { spec: readable(), process: { argv: [join(files, "good")] } });
      assert.equal(ran.stdout, "good\n");
    });

    it("that is missing is named, by path or by name", async () => {
      const error = await refused(
        service.client.sandbox.spawn({ requestId: requestId(), process: { argv: ["/usr/bin/missing"] } }),
        atLookup("ENOENT"),
      );
      assert.equal(error.metadata.argument, "/usr/bin/missing");
      await check({ process: { argv: ["no-such-program"] }, refusal: atLookup("ENOENT") });
      await check({ process: { argv: ["sh"], env: { PATH: files } }, refusal: atLookup("ENOENT") });
    });

    it("that is not executable is refused", () =>
      check({ spec: readable(), process: { argv: [join(files, "plain")] }, refusal: atLookup("EACCES") }));

    it("that is a directory is refused", () =>
      check({ spec: readable(), process: { argv: [join(files, "directory")] }, refusal: atLookup("EACCES") }));

    it("whose interpreter is missing is refused by the kernel", () =>
      check({
        spec: readable(),
        process: { argv: [join(files, "script")] },
        refusal: notExecuted("exec", "ENOENT", "execve"),
      }));

    it("that is no format of the kernel's is refused by the kernel", () =>
      check({
        spec: readable(),
        process: { argv: [join(files, "garbage")] },
        refusal: notExecuted("exec", "ENOEXEC", "execve"),
      }));

    it("that the policy does not let it read is refused by the kernel", () =>
      check({
        spec: { filesystem: { baseline: 2 } },
        process: { argv: ["/bin/true"] },
        refusal: notExecuted("exec", "EACCES", "execve"),
      }));
  });

  describe("a current directory", () => {
    const notEntered = (errno: string): Refusal => ({
      code: "FAILED_PRECONDITION",
      reason: "LAUNCH_FAILED",
      field: "process.cwd",
      metadata: { stage: "cwd", syscall: "chdir", errno },
    });

    it("that exists is entered", async () => {
      const { stdout } = await run(service.client, { process: { argv: [guest, "cwd"], cwd: files } });
      assert.equal(stdout, `${files}\n`);
    });

    it("that is missing, or a file, is refused", async () => {
      await check({ process: { ...good, cwd: join(files, "missing") }, refusal: notEntered("ENOENT") });
      await check({ process: { ...good, cwd: join(files, "plain") }, refusal: notEntered("ENOTDIR") });
    });

    it("that the service's user may not enter is refused", async function () {
      if (process.geteuid?.() === 0) skip(this, "root may enter every directory");
      const closed = join(files, "closed");
      mkdirSync(closed, { mode: 0 });
      await check({ process: { ...good, cwd: closed }, refusal: notEntered("EACCES") });
    });
  });

  it("a tree that does not exist is named", () =>
    check({
      spec: { filesystem: { readable: [join(service.directory, "nowhere")] } },
      refusal: {
        code: "FAILED_PRECONDITION",
        reason: "LAUNCH_FAILED",
        field: "spec.filesystem",
        metadata: { stage: "landlock_outer", errno: "ENOENT", argument: join(service.directory, "nowhere") },
      },
    }));

  it("an id that is not well formed is named", async () => {
    for (const sandboxId of ["../up", "a b", "-x", ".x", "x".repeat(65)]) {
      await refused(service.client.sandbox.spawn({ requestId: requestId(), sandboxId, process: good }), {
        code: "INVALID_ARGUMENT",
        reason: "INVALID_FIELD",
        field: "sandbox_id",
      });
    }
  });

  it("a mutation without a request id is named", () =>
    refused(service.client.sandbox.spawn({ process: good }), {
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      field: "request_id",
    }).then(() => undefined));

  it("an unknown sandbox is the same to every call", async () => {
    const sandboxId = "nobody";
    const missing: Refusal = {
      code: "NOT_FOUND",
      reason: "SANDBOX_NOT_FOUND",
      field: "sandbox_id",
      metadata: { sandbox_id: sandboxId },
    };
    const { sandbox } = service.client;
    await refused(sandbox.getSandbox({ sandboxId }), missing);
    await refused(sandbox.waitProcess({ sandboxId }), missing);
    await refused(sandbox.signalProcess({ requestId: requestId(), sandboxId, signal: 15 }), missing);
    await refused(sandbox.stopSandbox({ sandboxId }), missing);
    await refused(sandbox.pauseSandbox({ sandboxId }), missing);
    await refused(sandbox.resumeSandbox({ sandboxId }), missing);
    await refused(sandbox.exec({ requestId: requestId(), sandboxId, process: good }), missing);
    assert.equal((await sandbox.deleteSandbox({ sandboxId })).existed, false);
  });

  it("calls of later versions answer UNIMPLEMENTED", async () => {
    const { client } = service;
    await refused(client.sandbox.updateSandbox({ requestId: requestId(), sandboxId: "x" }), {
      code: "UNIMPLEMENTED",
      reason: "NOT_IMPLEMENTED",
      field: "UpdateSandbox",
    });
    for (const call of [client.checkpoint.listCheckpoints({}), client.workdir.discardChanges({ sandboxId: "x" })]) {
      const error = await refused(call, { code: "UNIMPLEMENTED", reason: "NOT_IMPLEMENTED" });
      assert.match(error.message, /not implemented/);
    }
  });
});
