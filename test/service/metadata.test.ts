import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestPath } from "../support/guests.js";
import { act, run, type Spec, startTestService, type TestService } from "../support/service.js";

const guest = guestPath("act");

const DESCRIPTOR_WAYS = ["fchmod", "fchown", "futimens", "fsetxattr", "fremovexattr"];
const PATH_WAYS = [
  "chmod",
  "fchmodat",
  "fchmodat2",
  "chown",
  "lchown",
  "fchownat",
  "utime",
  "utimes",
  "futimesat",
  "utimensat",
  "utimensat-nofollow",
  "setxattr",
  "lsetxattr",
  "removexattr",
  "lremovexattr",
];
/** By descriptors that give access to nothing, and by the names that they have in /proc. */
const EMPTY_WAYS = ["fchmodat2-empty", "fchownat-empty", "proc-chmod"];
/** Refused everywhere: inode flags, and calls whose arguments lie behind pointers in memory. */
const NEVER = { setflags: "EPERM", fssetxattr: "EPERM", setxattrat: "ENOSYS", file_setattr: "ENOSYS" };

describe("metadata of files", () => {
  let service: TestService;
  /** With `read`, `write`, `other`, each with a `file`; and `write/denied/file`. */
  let files: string;

  before(async () => {
    service = await startTestService();
    files = join(service.directory, "files");
    for (const name of ["read", "write", "other", "write/denied"]) {
      mkdirSync(at(name), { recursive: true });
      chmodSync(at(name), 0o777);
      put(`${name}/file`);
    }
    mkdirSync(at("write/sub"));
    chmodSync(at("write/sub"), 0o777);
    symlinkSync("../../read/file", at("write/sub/to-read"));
    symlinkSync("../write/file", at("read/to-write"));
  });
  after(() => service[Symbol.asyncDispose]());
  beforeEach(() => {
    for (const name of ["read", "write", "other", "write/denied"]) put(`${name}/file`);
  });

  const at = (name: string): string => join(files, name);
  const put = (name: string): void => {
    rmSync(at(name), { force: true });
    writeFileSync(at(name), "content");
    chmodSync(at(name), 0o666);
    utimesSync(at(name), 1, 1);
  };
  /** On a host whose mounts cannot be a sandbox's own. */
  const protections = { disabled: ["mount_namespace"] };
  const spec = (): Spec => ({
    protections,
    filesystem: { readable: [at("read")], writable: [at("write")], denied: [at("write/denied")] },
  });
  const inside = (...args: string[]): Promise<string> => act(service.client, spec(), ...args);
  const outside = (...args: string[]): string => execFileSync(guest, args, { encoding: "utf8" }).trimEnd();
  const stateOf = (name: string): string => {
    const { mode, mtimeMs, ctimeMs } = statSync(at(name));
    return `${(mode & 0o7777).toString(8)} ${mtimeMs} ${ctimeMs}`;
  };
  /** Removing needs something to remove. */
  const prepare = (way: string, name: string): void => {
    if (way.includes("removexattr")) outside("change", "setxattr", at(name));
  };

  for (const way of [...PATH_WAYS, ...EMPTY_WAYS]) {
    it(`change by ${way} below a writable tree, and nowhere else`, async () => {
      for (const [name, expected] of [
        ["write/file", "ok"],
        ["read/file", "EPERM"],
        ["other/file", "EPERM"],
        ["write/denied/file", "EPERM"],
      ] as const) {
        prepare(way, name);
        const before = stateOf(name);
        assert.equal(await inside("change", way, at(name)), expected, name);
        if (expected === "EPERM") assert.equal(stateOf(name), before, name);
        else assert.notEqual(stateOf(name), before, name);
      }
      prepare(way, "read/file");
      assert.equal(outside("change", way, at("read/file")), "ok", "the user may, outside of a sandbox");
    });
  }

  for (const way of DESCRIPTOR_WAYS) {
    it(`change by ${way} on what was opened below a writable tree, and on nothing else`, async () => {
      for (const name of ["write/file", "read/file"]) prepare(way, name);
      const before = stateOf("read/file");
      assert.equal(await inside("change", way, at("write/file")), "ok");
      assert.equal(await inside("change", way, at("read/file")), "EPERM");
      assert.equal(stateOf("read/file"), before);
      assert.equal(outside("change", way, at("read/file")), "ok");
    });
  }

  it("do not change by what no rule could judge", async () => {
    for (const [way, expected] of Object.entries(NEVER)) {
      assert.equal(await inside("change", way, at("write/file")), expected, way);
    }
    assert.equal(await inside("change", "fchmod-path", at("write/file")), "EBADF");
  });

  it("follow links to what they lead to, and change a link itself only where it lies", async () => {
    assert.equal(await inside("change", "chmod", at("write/sub/to-read")), "EPERM");
    assert.equal(await inside("change", "chmod", at("read/to-write")), "ok");
    assert.equal(await inside("change", "utimensat-nofollow", at("write/sub/to-read")), "ok");
    assert.equal(await inside("change", "utimensat-nofollow", at("read/to-write")), "EPERM");
    assert.equal(await inside("change", "lchown", at("read/to-write")), "EPERM");
    assert.equal(statSync(at("read/file")).mtimeMs, 1000);
  });

  it("are those of the copied path, however fast another thread changes it", async () => {
    writeFileSync(at("write/file0"), "");
    writeFileSync(at("read/file1"), "");
    chmodSync(at("read/file1"), 0o600);
    symlinkSync(at("read/file1"), at("write/file1"));
    assert.equal(await inside("race-chmod", at("write/file0"), at("write/file1"), "2000"), "ok");
    assert.equal(statSync(at("read/file1")).mode & 0o777, 0o600);
    assert.equal(statSync(at("write/file0")).mode & 0o777, 0o777);
  });

  it("are a program's own on what it made, with and without a name", async () => {
    const { stdout } = await run(service.client, {
      spec: { protections, filesystem: { writable: [at("write")] } },
      process: { argv: [guest, "change-own", "made"], cwd: at("write") },
    });
    assert.equal(stdout, "ok\n");
  });

  it("are not changed on devices that may be written", async () => {
    const before = statSync("/dev/null").mode;
    for (const way of ["chmod", "fchmod", "proc-chmod"])
      assert.equal(await inside("change", way, "/dev/null"), "EPERM");
    assert.equal(statSync("/dev/null").mode, before);
  });

  it("are refused without a question where nothing is writable", async () => {
    const reading: Spec = { filesystem: { readable: [at("read")] } };
    for (const way of [...PATH_WAYS, ...DESCRIPTOR_WAYS]) {
      assert.equal(await act(service.client, reading, "change", way, at("read/file")), "EPERM", way);
    }
  });

  it("let tools that keep modes and times work", async () => {
    writeFileSync(at("write/source"), "content");
    chmodSync(at("write/source"), 0o640);
    utimesSync(at("write/source"), 86_400, 86_400);
    const script = `cd ${at("write")} && mkdir -p out && cp -p source out/ && tar -cf out/a.tar source && mkdir -p out/un && tar -C out/un -xpf out/a.tar && touch -d @5 out/touched && chmod -R u+rwX out`;
    const { stderr, exit } = await run(service.client, {
      spec: { protections, filesystem: { writable: [at("write")] } },
      process: { argv: ["/bin/sh", "-c", script] },
    });
    assert.equal(exit.result.value, 0, stderr);
    for (const name of ["write/out/source", "write/out/un/source"]) {
      const { mode, mtimeMs } = statSync(at(name));
      assert.deepEqual([mode & 0o777, mtimeMs], [0o640, 86_400_000], name);
    }
    assert.equal(statSync(at("write/out/touched")).mtimeMs, 5000);
  });

  describe("by inotify", () => {
    it("are told of what may be read, and of nothing else", async () => {
      for (const name of ["read", "read/file", "write/file"]) assert.equal(await inside("watch", at(name)), "ok", name);
      for (const name of ["other", "other/file", "write/denied", "write/denied/file"]) {
        assert.equal(await inside("watch", at(name)), "EACCES", name);
        assert.equal(outside("watch", at(name)), "ok", name);
      }
      assert.equal(await inside("watch", at("read/missing")), "ENOENT");
      assert.equal(await act(service.client, {}, "watch", "/usr/bin"), "ok");
    });

    it("arrive on the program's own instance", async () => {
      const open: Spec = { filesystem: { writable: [at("write")] } };
      assert.equal(await act(service.client, open, "watch-and-make", at("write")), "ok");
    });
  });
});
