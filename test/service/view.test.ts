import assert from "node:assert/strict";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { guestDirectory, guestPath } from "../support/guests.js";
import { hostProcess } from "../support/processes.js";
import {
  act,
  type Process,
  refused,
  run,
  type Spec,
  skip,
  spawn,
  startTestService,
  type TestService,
} from "../support/service.js";

const shell: Process = { argv: ["/bin/sh"], stdin: 2 };
const isRoot = process.geteuid?.() === 0;

describe("a view of the file system of its own", () => {
  let service: TestService;
  /** `root` with a static guest in `bin`, `host` with files to show, `empty`. */
  let files: string;

  before(async function () {
    service = await startTestService();
    const { protections } = await service.client.server.getServerInfo({});
    if (protections.mount_namespace !== true) skip(this, "this host has no mount namespaces");
    files = join(service.directory, "files");
    for (const name of ["root/bin", "root/data/deep", "host/deep", "empty", "outside"]) {
      mkdirSync(join(files, name), { recursive: true });
    }
    copyFileSync(guestPath("act"), join(files, "root/bin/act"));
    for (const name of ["root/data/file", "host/file", "host/deep/file", "outside/file"]) put(name);
    symlinkSync("/data/file", join(files, "root/absolute"));
    symlinkSync("../../../outside/file", join(files, "root/data/climbing"));
    symlinkSync(join(files, "outside/file"), join(files, "root/data/named"));
    symlinkSync(join(files, "outside"), join(files, "host/leading-out"));
    for (const [name, target] of [["bin", "usr/bin"], ["lib", "usr/lib"], ["lib64", "usr/lib64"]] as const) // biome-ignore format: pairs
      symlinkSync(target, join(files, "empty", name));
  });
  after(() => service[Symbol.asyncDispose]());
  beforeEach(() => {
    for (const name of ["root/data/file", "host/file", "host/deep/file", "outside/file"]) put(name);
  });

  const at = (path: string): string => join(files, path);
  const put = (name: string): void => {
    writeFileSync(at(name), `content of ${name}`);
    chmodSync(at(name), 0o666);
  };
  type Filesystem = NonNullable<Spec["filesystem"]>;
  const rooted = (filesystem: Filesystem = {}): Spec => ({
    filesystem: { root: at("root"), readable: ["/bin", "/data"], ...filesystem },
  });
  /** One act of the guest that lies in the root. */
  const inRoot = async (spec: Spec, ...args: string[]): Promise<string> => {
    const { stdout } = await run(service.client, { spec, process: { argv: ["/bin/act", ...args] } });
    return stdout.trimEnd();
  };
  const sh = async (spec: Spec, script: string, more: Partial<Process> = {}): Promise<string> => {
    const { stdout, stderr } = await run(service.client, {
      spec,
      process: { argv: ["/bin/sh", "-c", script], ...more },
    });
    return stdout + stderr;
  };

  describe("with a root", () => {
    it("starts a program of the root, and gives it the root's files under its policy", async () => {
      assert.equal(await inRoot(rooted(), "open-read", "/data/file"), "ok");
      assert.equal(await inRoot(rooted({ readable: ["/bin"] }), "open-read", "/data/file"), "EACCES");
      assert.match(await inRoot(rooted(), "open-write", "/data/file"), /^(EACCES|EROFS)$/);
      assert.equal(await inRoot(rooted({ writable: ["/data"] }), "open-write", "/data/file"), "ok");
      assert.match(readFileSync(at("root/data/file"), "utf8"), /^x/);
    });

    it("has nothing of the host's, by whatever way", async () => {
      const spec = rooted({ readable: ["/"] });
      for (const path of [
        at("outside/file"),
        "/../../../etc/passwd",
        "/data/climbing",
        "/data/named",
        `/proc/self/root${at("outside/file")}`,
        `/proc/self/cwd/../../${at("outside/file")}`,
        "/etc/passwd",
        "/usr/bin/env",
      ]) {
        assert.equal(await inRoot(spec, "open-read", path), "ENOENT", path);
      }
      assert.equal(await inRoot(spec, "open-read", "/absolute"), "ok");
      assert.equal(await inRoot(spec, "list", "/"), "ok");
    });

    it("keeps its program from leaving it", async () => {
      for (const line of (await inRoot(rooted(), "mounts", "/data")).split("\n")) assert.match(line, / EPERM$/);
      assert.equal(await inRoot(rooted(), "chroot", "/data"), "EPERM");
    });

    it("has harmless devices, and makes nothing on the host for them", async () => {
      assert.equal(await inRoot(rooted(), "open-write", "/dev/null"), "ok");
      assert.equal(await inRoot(rooted(), "open-read", "/dev/urandom"), "ok");
      assert.equal(await inRoot(rooted(), "open-read", "/proc/cpuinfo"), "ok");
      assert.equal(await inRoot(rooted(), "open-read", "/proc/self/status"), "EACCES");
      assert.equal(await inRoot(rooted(), "open-read", `/proc/${process.pid}/environ`), "ENOENT");
      assert.equal(await inRoot(rooted({ readable: ["/"] }), "open-read", `/proc/${process.pid}/environ`), "ENOENT");
      assert.equal(await inRoot(rooted({ readable: ["/"] }), "open-read", "/proc/self/status"), "ok");
      const wide = rooted({ readable: ["/"], writable: ["/"] });
      const before = statSync("/dev/null").mode;
      assert.equal(await inRoot(wide, "change", "chmod", "/dev/null"), "EROFS");
      assert.equal(statSync("/dev/null").mode, before);
      assert.equal(await inRoot(wide, "creat", "/dev/new"), "EROFS");
      assert.equal(await inRoot(wide, "creat", "/data/made"), "ok");
      assert.deepEqual(readdirSync(at("root")).sort(), ["absolute", "bin", "data"]);
      assert.ok(existsSync(at("root/data/made")));
    });

    it("assembled of the host's programs runs what is dynamically linked, and scripts", async () => {
      writeFileSync(at("outside/script"), "#!/bin/sh\necho script $0 in $(pwd)\n", { mode: 0o755 });
      const spec: Spec = {
        filesystem: {
          root: at("empty"),
          readable: ["/"],
          mappings: [
            { inside: "/usr", host: "/usr", readOnly: true },
            { inside: "/work", host: at("outside") },
          ],
        },
      };
      assert.equal(
        await sh(spec, "cat /work/file; for name in /*; do echo $name; done"),
        "content of outside/file" + "/bin\n/dev\n/lib\n/lib64\n/proc\n/usr\n/work\n",
      );
      assert.equal(await sh(spec, "./script", { cwd: "/work" }), "script ./script in /work\n");
      assert.equal(await sh(spec, "echo made >/work/made && echo no >/usr/made || echo >/made"), "/bin/sh: 1: cannot create /usr/made: Read-only file system\n/bin/sh: 1: cannot create /made: Read-only file system\n"); // biome-ignore format: one text
      assert.equal(readFileSync(at("outside/made"), "utf8"), "made\n");
      assert.deepEqual(readdirSync(at("empty")).sort(), ["bin", "lib", "lib64"]);
    });

    it("finds programs and directories in the root, and says what is missing there", async () => {
      const start = (process: Process) => run(service.client, { spec: rooted(), process });
      assert.equal((await start({ argv: ["act", "open-read", "file"], cwd: "/data" })).stdout, "ok\n");
      const gone = { code: "FAILED_PRECONDITION", reason: "LAUNCH_FAILED" } as const;
      await refused(start({ argv: ["/bin/act"], cwd: files }), {
        ...gone,
        metadata: { stage: "cwd", errno: "ENOENT" },
      });
      await refused(start(shell), { ...gone, reason: "EXEC_FAILED", metadata: { stage: "program", errno: "ENOENT" } });
      const spec: Spec = { filesystem: { root: at("nowhere") } };
      await refused(run(service.client, { spec, process: shell }), {
        ...gone,
        field: "spec.filesystem.root",
        metadata: { stage: "mounts", errno: "ENOENT", argument: at("nowhere") },
      });
    });

    it("is the same for processes that are started later", async () => {
      await using sandbox = await spawn(service.client, { spec: rooted(), process: { argv: ["/bin/act", "sleep"] } });
      const later = await sandbox.exec({ argv: ["act", "open-read", "file"], cwd: "/data" });
      await later.exit();
      assert.equal(later.stdout, "ok\n");
    });
  });

  describe("with mappings", () => {
    const mapped = (readOnly: boolean, more: Filesystem = {}): Spec => ({
      filesystem: {
        readable: [guestDirectory],
        mappings: [{ inside: "/srv/shown/here", host: at("host"), readOnly }],
        ...more,
      },
    });
    const inside = (spec: Spec, ...args: string[]): Promise<string> => act(service.client, spec, ...args);

    it("shows a directory where there was none, to be written unless it is read-only", async () => {
      assert.equal(await inside(mapped(true), "open-read", "/srv/shown/here/file"), "ok");
      assert.equal(await inside(mapped(true), "open-write", "/srv/shown/here/file"), "EROFS");
      assert.equal(await inside(mapped(true, { writable: ["/srv/shown/here"] }), "open-write", "/srv/shown/here/file"), "EROFS"); // biome-ignore format: one question
      assert.equal(await inside(mapped(true), "change", "chmod", "/srv/shown/here/file"), "EPERM");
      assert.equal(await inside(mapped(false), "open-write", "/srv/shown/here/file"), "ok");
      assert.equal(await inside(mapped(false), "change", "chmod", "/srv/shown/here/file"), "ok");
      assert.equal(existsSync("/srv/shown"), false);
    });

    it("grants nothing that lies beside it, or where its links lead", async () => {
      assert.match(await inside(mapped(true), "open-write", at("host/file")), /^(EACCES|EROFS)$/);
      assert.equal(await inside(mapped(false), "open-read", at("outside/file")), "EACCES");
      assert.equal(await inside(mapped(false), "open-read", "/srv/shown/here/leading-out/file"), "EACCES");
      assert.equal(await inside(mapped(false), "open-read", "/srv/shown/here/../../../etc/shadow"), "EACCES");
    });

    it("shows a file over a file", async () => {
      const spec: Spec = {
        filesystem: { mappings: [{ inside: "/etc/hostname", host: at("host/file"), readOnly: true }] },
      };
      assert.equal(await sh(spec, "cat /etc/hostname"), "content of host/file");
      assert.notEqual(readFileSync("/etc/hostname", "utf8"), "content of host/file");
    });

    it("shows mappings in each other and in a /tmp of its own, however they are listed", async () => {
      const spec: Spec = {
        filesystem: {
          mappings: [
            { inside: "/tmp/deep/in", host: at("outside") },
            { inside: "/srv/one/deep", host: at("outside"), readOnly: true },
            { inside: "/srv/one", host: at("host") },
            { inside: "/srv/guest", host: guestDirectory, readOnly: true }, // itself below /tmp, perhaps
          ],
          privateTmp: {},
        },
      };
      assert.equal(
        await sh(spec, "cat /tmp/deep/in/file /srv/one/deep/file && echo >/tmp/other && ls /tmp"),
        "content of outside/filecontent of outside/filedeep\nother\n",
      );
      const write = (path: string) => sh(spec, `/srv/guest/act open-write ${path}`);
      assert.equal(await write("/srv/one/file"), "ok\n");
      assert.equal(await write("/srv/one/deep/file"), "EROFS\n");
      assert.equal(await write("/tmp/deep/in/file"), "ok\n");
    });

    it("hides what is denied in it, wherever it is shown", async () => {
      const spec: Spec = {
        filesystem: {
          mappings: [
            { inside: "/srv/one", host: at("host") },
            { inside: "/srv/two", host: at("host/deep") },
          ],
          readable: [guestDirectory, at("host")],
          denied: ["/srv/one/deep"],
        },
      };
      assert.equal(await inside(spec, "open-read", "/srv/one/file"), "ok");
      for (const path of ["/srv/one/deep", "/srv/two", at("host/deep")]) {
        assert.match(await inside(spec, "list", path), /^EACCES$/, path);
        assert.match(await inside(spec, "open-read", `${path}/file`), /^(EACCES|ENOENT)$/, path);
        assert.match(await inside(spec, "creat", `${path}/new`), /^(EACCES|EROFS)$/, path);
        assert.match(await inside(spec, "change", "chmod", path), /^(EROFS)$/, path);
      }
      assert.match(await inside(spec, "rename", "/srv/one/deep", "/srv/one/moved"), /^(EBUSY|EXDEV)$/);
    });

    it("names a host path that is missing", async () => {
      const spec: Spec = { filesystem: { mappings: [{ inside: "/srv/x", host: at("nowhere") }] } };
      await refused(run(service.client, { spec, process: shell }), {
        code: "FAILED_PRECONDITION",
        reason: "LAUNCH_FAILED",
        field: "spec.filesystem.mappings",
        metadata: { stage: "mounts", errno: "ENOENT", argument: at("nowhere") },
      });
    });

    it("is what the service acts in for the program", async () => {
      const spec = mapped(false, { grantableReadable: [at("outside")] });
      const holds: Spec["holds"] = {
        triggers: [{ syscalls: ["openat"] }],
        onNoDecider: { fallback: { action: { case: "staticPolicy", value: {} } } },
      };
      assert.equal(await inside({ ...spec, holds }, "open-read", "/srv/shown/here/file"), "ok");
      assert.equal(await inside({ ...spec, holds }, "open-write", "/srv/shown/here/file"), "ok");
      assert.equal(await inside({ ...spec, holds }, "open-read", at("outside/file")), "EACCES");
    });
  });

  describe("with a /tmp of its own", () => {
    it("is empty, can be written up to its size, and is gone with the sandbox", async () => {
      const spec: Spec = { filesystem: { privateTmp: { sizeBytes: 1n << 20n } } };
      const script =
        "ls -A /tmp; echo kept >/tmp/mark && cat /tmp/mark && chmod 600 /tmp/mark && stat -c %a /tmp /tmp/mark";
      assert.equal(await sh(spec, script), "kept\n1777\n600\n");
      assert.equal(existsSync("/tmp/mark"), false);
      assert.match(await sh(spec, "cat /tmp/mark; dd if=/dev/zero of=/tmp/big bs=64k count=32; stat -c %s /tmp/big"), /^1048576\n.*No such file.*No space left/s); // biome-ignore format: one text
      assert.match(await sh(spec, "i=0; while [ $i -lt 1000 ]; do : >/tmp/$i || exit; i=$((i + 1)); done"), /No space/);
    });

    it("is one for each sandbox", async () => {
      await using one = await spawn(service.client, { spec: { filesystem: { privateTmp: {} } }, process: shell });
      await one.write("echo one >/tmp/mark; echo ready\n");
      await one.until(/ready/);
      assert.equal(await sh({ filesystem: { privateTmp: {} } }, "ls -A /tmp"), "");
    });
  });

  describe("with a /proc of its own", () => {
    const spec: Spec = { filesystem: { privateProc: true } };

    it("shows the sandbox's processes alone, to be read", async () => {
      await using host = await hostProcess();
      const seen = (await sh(spec, "cd /proc && echo [0-9]*")).trim().split(" ").map(Number);
      assert.ok(seen.length >= 2 && seen.every((pid) => pid < 20), seen.join(" "));
      assert.match(await sh(spec, "cat /proc/self/status"), /^Name:\tcat$/m);
      assert.match(await sh(spec, `cat /proc/${host.pid}/cmdline`), /No such file/);
      assert.match(await sh(spec, "ps -e -o comm="), /^sandgate-init\n.*ps\n$/s);
      assert.equal(await act(service.client, {}, "open-read", "/proc/self/status"), "EACCES");
    });

    it("says no more of the machine than programs need, and can change nothing of it", async () => {
      const names = (await sh(spec, "cd /proc && ls")).split("\n");
      for (const name of ["cpuinfo", "meminfo", "sys"]) assert.ok(names.includes(name));
      for (const name of readdirSync("/proc").filter((name) => !/^\d+$/.test(name))) {
        if (/^(cpuinfo|filesystems|loadavg|meminfo|mounts|net|self|stat|swaps|sys|thread-self|uptime|version|vmstat)$/.test(name)) continue; // biome-ignore format: one condition
        const found = await act(
          service.client,
          spec,
          statSync(`/proc/${name}`).isDirectory() ? "list" : "open-read",
          `/proc/${name}`,
        );
        assert.match(found, /^(EACCES|ENOENT)$/, name);
      }
      for (const path of [
        "/proc/sys/kernel/hostname",
        "/proc/self/oom_score_adj",
        "/proc/sysrq-trigger",
        "/proc/self/mem",
      ]) {
        assert.match(await act(service.client, spec, "open-write", path), /^(EACCES|EROFS|EPERM|ENOENT)$/, path);
      }
      assert.equal(await act(service.client, spec, "open-read", "/proc/sys/kernel/osrelease"), "ok");
    });

    it("shows nothing of what keeps the sandbox", async () => {
      for (const name of ["environ", "maps", "mem", "fd/0", "root", "cwd"]) {
        const script = `for p in /proc/[0-9]*; do read -r c <$p/comm; case $c in sandgate-*) readlink $p/${name} || head -c 100 $p/${name} 2>/dev/null; esac; done`;
        assert.equal(await sh(spec, script), "", name);
      }
    });

    it("is the caller's own where the service opens for it", async () => {
      const held: Spec = {
        ...spec,
        holds: {
          triggers: [{ syscalls: ["openat"] }],
          onNoDecider: { fallback: { action: { case: "staticPolicy", value: {} } } },
        },
      };
      assert.match(
        await sh(held, "cat /proc/self/comm /proc/thread-self/comm /proc/self/status"),
        /^cat\ncat\nName:\tcat$/m,
      );
      assert.match(await sh(held, "cat /proc/1/environ"), /denied/);
      assert.match(await sh({ ...held, filesystem: {} }, "cat /proc/self/comm"), /denied/);
    });

    it("goes with a root", async () => {
      const { stdout } = await run(service.client, {
        spec: rooted({ privateProc: true }),
        process: { argv: ["/bin/act", "open-read", "/proc/self/status"] },
      });
      assert.equal(stdout, "ok\n");
      assert.deepEqual(readdirSync(at("root")).sort(), ["absolute", "bin", "data"]);
    });
  });

  describe("of what it may execute", () => {
    const copy = (): string => at("outside/true");
    before(() => copyFileSync(guestPath("act"), at("outside/true")));

    it("runs a program that it may not read", async () => {
      const only: Spec = { filesystem: { readable: [guestDirectory], executable: [at("outside")] } };
      assert.equal(await act(service.client, only, "vfork-exec", copy(), "exit", "0"), "ok");
      assert.equal(await act(service.client, only, "open-read", copy()), "EACCES");
      assert.equal(await act(service.client, only, "openat2", copy()), "ENOSYS");
      assert.equal(await act(service.client, only, "read-reopened", copy()), "EACCES");
      assert.equal(await act(service.client, only, "list", at("outside")), "EACCES");
      const both: Spec = { filesystem: { ...only.filesystem, readable: [guestDirectory, at("outside")] } };
      assert.equal(await act(service.client, both, "open-read", copy()), "ok");
      const neither: Spec = { filesystem: { readable: [guestDirectory] } };
      assert.equal(await act(service.client, neither, "exec", copy()), "EACCES");
    });
  });

  describe("as another user", () => {
    it("runs with the ids asked for, and has no other rights for it", async () => {
      const spec: Spec = { runAs: { uid: 4321, gid: 1234 } };
      assert.equal(await sh(spec, "id -u; id -g"), "4321\n1234\n");
      await using sandbox = await spawn(service.client, { spec, process: shell });
      const uid = /^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${sandbox.pid}/status`, "utf8"))?.[1];
      assert.equal(uid, isRoot ? "4321" : `${process.geteuid?.()}`, "an ordinary user goes on as itself");
      const inner: Spec = { runAs: { uid: 0, gid: 0 }, filesystem: { writable: [at("host")] } };
      assert.match(
        await sh(inner, "id -u; grep CapEff /proc/self/status; mount -t tmpfs x /tmp"),
        /^0\n(?!.*CapEff:.*[1-9a-f]).*/s,
      );
      assert.equal(
        await act(service.client, { ...inner, filesystem: { readable: [guestDirectory] } }, "mount", "/tmp"),
        "EPERM",
      );
    });

    it("works with everything else: later processes, signals, a root", async () => {
      await using sandbox = await spawn(service.client, {
        spec: { ...rooted(), runAs: { uid: 4321, gid: 1234 } },
        process: { argv: ["/bin/act", "sleep"] },
      });
      const later = await sandbox.exec({ argv: ["act", "open-read", "/data/file"] });
      await later.exit();
      assert.equal(later.stdout, "ok\n");
    });
  });
});
