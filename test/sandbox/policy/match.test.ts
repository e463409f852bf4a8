import assert from "node:assert/strict";
import type { CallDetail, CallMatch, TaskInfo } from "../../../src/sandbox/model.js";
import { compileMatch, type MatchableCall } from "../../../src/sandbox/policy/match.js";

const ANYTHING: CallMatch = {
  syscalls: [],
  categories: [],
  paths: [],
  writesOnly: false,
  destinations: [],
  executables: [],
  programs: [],
  arguments: [],
};

const task: TaskInfo = {
  sandboxId: "s",
  processId: "main",
  pid: 2,
  tid: 2,
  ppid: 1,
  startTicks: 0,
  executable: Buffer.from("/usr/bin/python3"),
  command: Buffer.from("python3"),
};

function file(path: string | Buffer, operation: "read" | "write" | "create" | "stat" = "read"): MatchableCall {
  const detail: CallDetail = {
    kind: "file",
    path: Buffer.from(path as string),
    operation,
    flags: 0,
    mode: 0,
    exists: true,
  };
  return { syscall: "openat", category: "file", detail, task, integrity: "copied" };
}

function exec(program: string, ...argv: string[]): MatchableCall {
  const detail: CallDetail = {
    kind: "exec",
    program: Buffer.from(program),
    interpreters: [],
    argv: argv.map((text) => Buffer.from(text)),
    argvCut: false,
  };
  return { syscall: "execve", category: "process", detail, task, integrity: "frozen" };
}

function script(program: string, interpreter: string, integrity: "frozen" | "racy" = "frozen"): MatchableCall {
  const call = exec(program);
  assert.ok(call.detail.kind === "exec");
  return { ...call, integrity, detail: { ...call.detail, interpreters: [Buffer.from(interpreter)] } };
}

function connect(ip: readonly number[], port: number): MatchableCall {
  const address = { kind: "ip", ip: Uint8Array.from(ip), port } as const;
  const detail: CallDetail = { kind: "network", operation: "connect", transport: "tcp", address, size: 0 };
  return { syscall: "connect", category: "network", detail, task, integrity: "copied" };
}

function matches(match: Partial<CallMatch>, call: MatchableCall): boolean {
  return compileMatch({ ...ANYTHING, ...match })(call);
}

describe("a match", () => {
  it("finds a script by its interpreter too, but allows it by its own path, and a racy one by both", () => {
    const own = { ...ANYTHING, programs: ["/work/build"] };
    const shell = { ...ANYTHING, programs: ["/bin/sh"] };
    const both = { ...ANYTHING, programs: ["/work/build", "/bin/sh"] };
    const call = script("/work/build", "/bin/sh");
    const racy = script("/work/build", "/bin/sh", "racy");
    const found = (match: CallMatch) => [
      compileMatch(match)(call),
      compileMatch(match, true)(call),
      compileMatch(match, true)(racy),
    ];
    assert.deepEqual(found(own), [true, true, false]);
    assert.deepEqual(found(shell), [true, false, false]);
    assert.deepEqual(found(both), [true, true, true]);
  });

  it("finds any argument among those that were cut off, but allows nothing by them", () => {
    const match = { ...ANYTHING, arguments: ["--force"] };
    const call = exec("/bin/rm", "file");
    assert.ok(call.detail.kind === "exec");
    const cut = { ...call, detail: { ...call.detail, argvCut: true } };
    assert.deepEqual([compileMatch(match)(call), compileMatch(match)(cut)], [false, true]);
    assert.equal(compileMatch(match, true)(cut), false);
    assert.equal(compileMatch(match, true)(exec("/bin/rm", "--force")), true);
  });

  it("without parts matches every call", () => {
    for (const call of [file("/x"), exec("/bin/ls"), connect([127, 0, 0, 1], 80)]) assert.ok(matches({}, call));
  });

  it("needs every part to hold, and any entry of a part", () => {
    const call = file("/home/u/notes", "write");
    assert.ok(matches({ syscalls: ["execve", "openat"], categories: ["file"], paths: ["/tmp/**", "/home/**"] }, call));
    assert.ok(!matches({ syscalls: ["execve"], paths: ["/home/**"] }, call));
    assert.ok(!matches({ syscalls: ["openat"], paths: ["/tmp/**"] }, call));
    assert.ok(!matches({ categories: ["network"] }, call));
  });

  it("by path, destination or program matches no call of another kind", () => {
    assert.ok(!matches({ paths: ["**"] }, exec("/bin/ls")));
    assert.ok(!matches({ programs: ["**"] }, file("/bin/ls")));
    assert.ok(!matches({ arguments: ["-l"] }, file("/bin/ls")));
    assert.ok(!matches({ destinations: [{ transport: undefined, host: "", ports: [] }] }, exec("/bin/ls")));
  });

  it("on writes alone leaves reads out, and says nothing of other calls", () => {
    assert.ok(matches({ writesOnly: true }, file("/x", "write")));
    assert.ok(matches({ writesOnly: true }, file("/x", "create")));
    assert.ok(!matches({ writesOnly: true }, file("/x", "read")));
    assert.ok(!matches({ writesOnly: true }, file("/x", "stat")));
    assert.ok(matches({ writesOnly: true }, exec("/bin/ls")));
  });

  it("on arguments wants them all, whole and by their bytes", () => {
    const call = exec("/usr/bin/git", "git", "push", "--force", "é");
    assert.ok(matches({ programs: ["/usr/bin/*"], arguments: ["--force", "push"] }, call));
    assert.ok(matches({ arguments: ["é"] }, call));
    assert.ok(!matches({ arguments: ["--force", "pull"] }, call));
    assert.ok(!matches({ arguments: ["--forc"] }, call));
  });

  it("on destinations sees through the forms of an address", () => {
    const local = { transport: undefined, host: "127.0.0.0/8", ports: [{ first: 8000, last: 8999 }] };
    assert.ok(matches({ destinations: [local] }, connect([127, 0, 0, 1], 8080)));
    assert.ok(matches({ destinations: [local] }, connect([0, 0, 0, 0], 8080)));
    assert.ok(matches({ destinations: [local] }, connect([...Array(10).fill(0), 255, 255, 127, 0, 0, 1], 8080)));
    assert.ok(!matches({ destinations: [local] }, connect([127, 0, 0, 1], 80)));
  });

  it("looks at the caller only when it names executables", () => {
    const untouched = {
      ...file("/x"),
      get task(): TaskInfo {
        throw new Error("the task was read");
      },
    };
    assert.ok(matches({ paths: ["/x"] }, untouched));
    assert.throws(() => matches({ executables: ["**"] }, untouched), /task was read/);
    assert.ok(matches({ executables: ["**/python3"] }, file("/x")));
    assert.ok(!matches({ executables: ["**/python"] }, file("/x")));
  });
});
