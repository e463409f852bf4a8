import assert from "node:assert/strict";
import { execFileSync, spawn as startProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Transport } from "../../src/client/client.js";
import { STAGES } from "../../src/native/abi.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { listen } from "../support/listeners.js";
import { allProcesses, eventually, hostProcess, isAlive, statusOf } from "../support/processes.js";
import {
  act,
  type Process,
  refused,
  requestId,
  run,
  type Spec,
  skip,
  spawn,
  startTestService,
  type TestService,
} from "../support/service.js";

const guest = guestPath("act");
const readable = [guestDirectory];
const shell: Process = { argv: ["/bin/sh"], stdin: 2 };
/** By Landlock, or by a mount. */
const NOT_WRITABLE = /^(EACCES|EROFS)$/;
const isRoot = process.geteuid?.() === 0;
const [UNIX, INET, INET6, NETLINK, PACKET, VSOCK, ALG] = [1, 2, 10, 16, 17, 40, 38];
const [STREAM, DGRAM, RAW] = [1, 2, 3];
const [TCP, UDP, SCTP, UDPLITE, MPTCP] = [6, 17, 132, 136, 262];

describe("confinement", () => {
  let service: TestService;
  /** A directory with `read`, `write` and `secret`, each with a file `file`. */
  let files: string;

  before(async () => {
    service = await startTestService();
    files = join(service.directory, "files");
    for (const name of ["read", "write", "secret"]) {
      mkdirSync(join(files, name), { recursive: true });
      chmodSync(join(files, name), 0o777);
      writeFileSync(join(files, name, "file"), "content");
      chmodSync(join(files, name, "file"), 0o666);
    }
    symlinkSync(join(files, "secret/file"), join(files, "read/link"));
  });
  after(() => service[Symbol.asyncDispose]());

  const inside = (spec: Spec, ...args: string[]): Promise<string> => act(service.client, spec, ...args);
  /** The same act without a sandbox. */
  const outside = (...args: string[]): string => {
    try {
      return execFileSync(guest, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trimEnd();
    } catch (error) {
      return String((error as { stdout?: string }).stdout ?? error).trimEnd();
    }
  };

  describe("of files", () => {
    const spec = (): Spec => ({
      filesystem: { readable: [join(files, "read")], writable: [join(files, "write")] },
    });
    const at = (path: string): string => join(files, path);

    it("lets read below readable trees and write below writable ones, and nothing elsewhere", async () => {
      assert.equal(await inside(spec(), "open-read", at("read/file")), "ok");
      assert.match(await inside(spec(), "open-write", at("read/file")), NOT_WRITABLE);
      assert.equal(await inside(spec(), "open-read", at("write/file")), "ok");
      assert.equal(await inside(spec(), "open-write", at("write/file")), "ok");
      assert.equal(await inside(spec(), "open-read", at("secret/file")), "EACCES");
      assert.match(await inside(spec(), "open-write", at("secret/file")), NOT_WRITABLE);
      assert.equal(outside("open-read", at("secret/file")), "ok");
      assert.equal(await inside(spec(), "openat2", at("secret/file")), "EACCES");
      assert.equal(await inside(spec(), "openat2", at("read/file")), "ok");
    });

    it("judges what a link reaches, not where it lies", async () => {
      assert.equal(await inside(spec(), "open-read", at("read/link")), "EACCES");
      assert.equal(await inside(spec(), "open-read", at("read/../secret/file")), "EACCES");
    });

    it("covers making, removing, renaming, linking and truncating", async () => {
      const both = async (args: (tree: string) => string[]): Promise<[string, string]> => [
        await inside(spec(), ...args(at("write"))),
        (await inside(spec(), ...args(at("read")))).replace(NOT_WRITABLE, "refused"),
      ];
      assert.deepEqual(await both((tree) => ["creat", `${tree}/new`]), ["ok", "refused"]);
      assert.deepEqual(await both((tree) => ["mkdir", `${tree}/dir`]), ["ok", "refused"]);
      assert.deepEqual(await both((tree) => ["symlink", "target", `${tree}/symbolic`]), ["ok", "refused"]);
      assert.deepEqual(await both((tree) => ["link", `${tree}/file`, `${tree}/hard`]), ["ok", "refused"]);
      assert.deepEqual(await both((tree) => ["rename", `${tree}/file`, `${tree}/moved`]), ["ok", "refused"]);
      assert.equal(await inside(spec(), "rename", at("write/moved"), at("write/file")), "ok");
      assert.deepEqual(await both((tree) => ["truncate", `${tree}/file`]), ["ok", "refused"]);
      assert.equal(await inside(spec(), "unlink", at("write/hard")), "ok");
      assert.match(await inside(spec(), "unlink", at("read/file")), NOT_WRITABLE);
      // Also where the file would only gain rights by its new place.
      assert.match(await inside(spec(), "link", at("read/file"), at("write/stolen")), /^(EXDEV|EACCES|EROFS)$/);
      assert.match(await inside(spec(), "rename", at("read/file"), at("write/stolen")), /^(EXDEV|EACCES|EROFS)$/);
      assert.equal(readFileSync(at("read/file"), "utf8"), "content");
    });

    it("executes only what may be read", async () => {
      const copy = at("secret/true");
      execFileSync("cp", ["/bin/true", copy]);
      assert.equal(await inside(spec(), "exec", copy), "EACCES");
      assert.equal(await inside({ filesystem: { readable: [at("secret")] } }, "vfork-exec", copy), "ok");
    });

    it("gives neither the service's socket nor what other processes are", async () => {
      assert.equal(await inside(spec(), "connect-unix", service.address.replace(/^unix:/, "")), "EACCES");
      for (const path of [`/proc/${process.pid}/environ`, "/proc/self/status", "/proc/1/cmdline", "/etc/shadow"]) {
        assert.equal(await inside(spec(), "open-read", path), "EACCES", path);
      }
      assert.equal(await inside(spec(), "open-read", "/etc/passwd"), "ok");
    });
  });

  describe("of the network", () => {
    const ports = (...list: number[]): Spec => ({
      network: { allow: [{ transport: Transport.TCP, ports: list.map((first) => ({ first })) }] },
    });

    it("lets no internet socket be made without a policy", async () => {
      await using open = await listen();
      assert.equal(await inside({}, "connect", "127.0.0.1", `${open.port}`), "EACCES");
      assert.equal(await inside({}, "send-udp", "127.0.0.1", "9"), "EACCES");
      assert.equal(await inside({}, "socket", `${INET6}`, `${STREAM}`, "0"), "EACCES");
      assert.equal(open.accepted(), 0);
      assert.equal(outside("connect", "127.0.0.1", `${open.port}`), "ok");
    });

    it("reaches the listed ports and no other", async () => {
      await using open = await listen();
      await using closed = await listen();
      assert.equal(await inside(ports(open.port), "connect", "127.0.0.1", `${open.port}`), "ok");
      assert.equal(await inside(ports(open.port), "connect", "127.0.0.1", `${closed.port}`), "EACCES");
      assert.equal(closed.accepted(), 0);
    });

    it("binds the listed ports and no other, and listens on no port that was not bound", async () => {
      const server = await listen();
      const { port } = server;
      await server[Symbol.asyncDispose]();
      const spec: Spec = { network: { bind: [{ ports: [{ first: port }] }] } };
      assert.equal(await inside(spec, "bind", `${port}`), "ok");
      assert.equal(await inside(spec, "bind", `${port + 1}`), "EACCES");
      assert.equal(await inside(ports(port), "bind", `${port}`), "EACCES");
      assert.equal(await inside(ports(port), "listen"), "EACCES");
    });

    it("lets a bound port and a Unix socket listen, where both are judged", async () => {
      const server = await listen();
      const { port } = server;
      await server[Symbol.asyncDispose]();
      const spec: Spec = {
        filesystem: { readable, writable: [join(files, "write")] },
        network: { bind: [{ ports: [{ first: port }] }], allow: [{ transport: Transport.UNIX }] },
      };
      const argv = [
        guestPath("attack"),
        "--",
        "bind",
        "127.0.0.1",
        `${port}`,
        "--",
        "unix-bind",
        join(files, "write/listening"),
        "--",
        "listen-unbound",
      ];
      const { stdout } = await run(service.client, { spec, process: { argv } });
      assert.equal(stdout, "0 ok\n1 ok\n2 EACCES\n");
    });

    it("makes only sockets whose family, type and protocol are known", async () => {
      const tcp = ports(9);
      const socket = (spec: Spec, ...triple: number[]) => inside(spec, "socket", ...triple.map(String));
      assert.equal(await socket(tcp, INET, STREAM, 0), "ok");
      assert.equal(await socket(tcp, INET, STREAM, TCP), "ok");
      assert.equal(await socket(tcp, INET6, STREAM, TCP), "ok");
      assert.equal(await socket(tcp, INET, STREAM, MPTCP), "EPROTONOSUPPORT");
      assert.equal(await socket(tcp, INET, STREAM, SCTP), "EPROTONOSUPPORT");
      assert.equal(await socket(tcp, INET, DGRAM, UDP), "EACCES");
      assert.equal(await socket(tcp, INET, RAW, 1), "EPERM");
      assert.equal(await socket(tcp, NETLINK, RAW, 0), "EAFNOSUPPORT");
      assert.equal(await socket(tcp, PACKET, RAW, 0), "EAFNOSUPPORT");
      assert.equal(await socket(tcp, VSOCK, STREAM, 0), "EAFNOSUPPORT");
      assert.equal(await socket(tcp, ALG, 5, 0), "EAFNOSUPPORT");
      assert.equal(await socket(tcp, UNIX, STREAM, 0), "EACCES");
      const udp: Spec = { network: { allow: [{ transport: Transport.UDP }] } };
      assert.equal(await socket(udp, INET, DGRAM, UDP), "ok");
      assert.equal(await socket(udp, INET, DGRAM, UDPLITE), "EPROTONOSUPPORT");
      assert.equal(await socket(udp, INET, STREAM, 0), "EACCES");
      assert.equal(await socket({ network: { allow: [{ transport: Transport.UNIX }] } }, UNIX, STREAM, 0), "ok");
    });

    it("has no connect by way of a send", async () => {
      await using open = await listen();
      await using closed = await listen();
      const spec = ports(open.port);
      for (const way of ["fastopen", "fastopen-sendmsg"]) {
        assert.equal(await inside(spec, way, "127.0.0.1", `${closed.port}`), "EOPNOTSUPP", way);
      }
      assert.equal(await inside(spec, "fastopen-connect", "127.0.0.1", `${closed.port}`), "EACCES");
      assert.equal(closed.accepted(), 0);
      assert.equal(await inside(spec, "fastopen-connect", "127.0.0.1", `${open.port}`), "ok");
    });
  });

  describe("of other processes", () => {
    /** Processes that a service keeps for its only sandbox. */
    const helpersOf = (alone: TestService, sandbox: { readonly pid: number }): number[] =>
      allProcesses()
        .filter(({ parent, pid }) => parent === alone.service.wardenPid && pid !== sandbox.pid)
        .map(({ pid }) => pid);

    it("lets none outside be signalled, by number or all at once", async () => {
      await using host = await hostProcess();
      for (const signal of ["0", "15", "9", "19"]) {
        assert.equal(await inside({}, "kill", `${host.pid}`, signal), "ESRCH");
      }
      assert.equal(await inside({}, "kill", `${-host.pid}`, "9"), "ESRCH");
      assert.equal(await inside({}, "kill", `${service.service.wardenPid}`, "9"), "ESRCH");
      assert.notEqual(await inside({}, "killall", "15"), "unconfined");
      assert.ok(isAlive(host.pid) && isAlive(service.service.wardenPid));
      assert.equal(statusOf(host.pid)?.state, "S", "it was not stopped either");
      assert.equal(outside("kill", `${host.pid}`, "0"), "ok");
    });

    it("lets none be traced, read or limited", async () => {
      await using host = await hostProcess();
      await using sibling = await spawn(service.client, { process: { argv: [guest, "sleep"] } });
      for (const pid of [host.pid, sibling.pid, service.service.wardenPid, process.pid]) {
        assert.equal(await inside({}, "ptrace", `${pid}`), "EPERM");
        assert.equal(await inside({}, "read-memory", `${pid}`), "EPERM");
        assert.equal(await inside({}, "prlimit-other", `${pid}`), "ESRCH");
      }
      assert.equal(outside("prlimit-other", `${host.pid}`), "ok");
    });

    it("lets the broker of its own sandbox neither be signalled nor read", async () => {
      await using alone = await startTestService();
      await using sandbox = await spawn(alone.client, { spec: { filesystem: { readable } }, process: shell });
      const answers = new Map<number, string>();
      for (const helper of helpersOf(alone, sandbox)) {
        const ask = async (...args: string[]): Promise<string> => {
          const process = await sandbox.exec({ argv: [guest, ...args] });
          await process.exit();
          return process.stdout.trim();
        };
        assert.equal(await ask("ptrace", `${helper}`), "EPERM");
        assert.equal(await ask("read-memory", `${helper}`), "EPERM");
        answers.set(helper, await ask("kill", `${helper}`, "0"));
      }
      const reached = [...answers].filter(([, answer]) => answer !== "ESRCH");
      assert.ok(reached.length <= 1, "all but the nursery, which is one of the program's own, are out of reach");
      const brokers = [...answers.keys()].filter((pid) => answers.get(pid) === "ESRCH");
      await sandbox.write(`for pid in ${brokers.join(" ")}; do kill -9 $pid; kill -19 $pid; done; echo tried\n`);
      await sandbox.until(/tried/);
      assert.deepEqual(
        brokers.filter((pid) => !isAlive(pid) || statusOf(pid)?.state === "T"),
        [],
      );
      const { sandboxId } = sandbox;
      await alone.client.sandbox.pauseSandbox({ sandboxId });
      await alone.client.sandbox.resumeSandbox({ sandboxId });
    });

    it("harms only itself by stopping or killing what starts its processes", async () => {
      for (const signal of [9, 19]) {
        await using alone = await startTestService();
        await using sandbox = await spawn(alone.client, { spec: { filesystem: { readable } }, process: shell });
        const { sandboxId } = sandbox;
        await sandbox.write(
          `for pid in ${helpersOf(alone, sandbox).join(" ")}; do kill -${signal} $pid; done; echo sent\n`,
        );
        await sandbox.until(/sent/);
        const exec = alone.client.sandbox.exec({
          requestId: requestId(),
          sandboxId,
          process: { argv: ["/bin/true"] },
        });
        exec.catch(() => undefined);
        if (signal === 9)
          await refused(exec, {
            code: "FAILED_PRECONDITION",
            reason: "LAUNCH_FAILED",
            metadata: { argument: "nursery" },
          });
        await sandbox.write("echo goes on\n");
        await sandbox.until(/goes on/);
        await alone.client.sandbox.deleteSandbox({ sandboxId });
        assert.equal(isAlive(sandbox.pid), false);
        await assert.rejects(exec);
      }
    });

    it("is not undone by a Unix socket of the host", async () => {
      const name = `sandgate-${process.pid}-host`;
      const meeting = startProcess(guestPath("meet"), [name], { stdio: ["ignore", "pipe", "ignore"] });
      await once(meeting.stdout, "data");
      const unix: Spec = { network: { allow: [{ transport: Transport.UNIX }] } };
      assert.equal(await inside(unix, "abstract-connect", name), "EPERM");
      assert.equal(await inside({}, "abstract-connect", name), "EACCES");
      assert.equal(outside("abstract-connect", name), "ok");
      meeting.kill("SIGKILL");
      await once(meeting, "exit");
    });
  });

  describe("of the kernel's surface", () => {
    it("refuses namespaces in every way to ask for them", async () => {
      for (const kind of ["user", "mnt", "pid", "net", "ipc", "uts"]) {
        assert.equal(await inside({}, "unshare", kind), "EPERM", kind);
      }
      assert.equal(await inside({}, "clone-newuser"), "EPERM");
      assert.equal(await inside({}, "clone-newns"), "EPERM");
      assert.equal(await inside({}, "clone3-newuser"), "ENOSYS");
      assert.equal(await inside({}, "fork"), "ok");
    });

    it("kills the process that calls by x32 or 32-bit numbers", async function () {
      if (process.arch !== "x64") skip(this, "no other numbers on this architecture");
      assert.equal(await inside({}, "int80-getpid"), "signal 31");
      assert.equal(await inside({}, "x32-getpid"), "signal 31");
    });

    it("refuses mounts, other roots, BPF, io_uring, perf, keyrings, userfaultfd and System V objects", async () => {
      assert.equal(await inside({}, "mount", "/usr"), "EPERM");
      assert.equal(await inside({}, "chroot", "/usr"), "EPERM");
      assert.equal(await inside({}, "bpf"), "EPERM");
      assert.equal(await inside({}, "io-uring"), "ENOSYS");
      assert.equal(await inside({}, "perf-event"), "EPERM");
      assert.equal(await inside({}, "keyring"), "EPERM");
      assert.equal(await inside({}, "userfaultfd"), "EPERM");
      assert.equal(await inside({}, "message-queue"), "EPERM");
      assert.equal(outside("message-queue"), "ok");
      assert.equal(await inside({}, "call", "5000"), "ENOSYS");
    });

    it("refuses to type into a terminal, even its own", async () => {
      const { stdout } = await run(service.client, { process: { argv: [guest, "tiocsti"], terminal: {} } });
      assert.equal(stdout.trim(), "EPERM");
      const high = await run(service.client, { process: { argv: [guest, "tiocsti-high"], terminal: {} } });
      assert.equal(high.stdout.trim(), "EPERM");
      const linux = await run(service.client, { process: { argv: [guest, "tioclinux"], terminal: {} } });
      assert.equal(linux.stdout.trim(), "EPERM");
    });
  });

  describe("of devices", () => {
    it("takes commands only where they are writable, and lets them be read where they are readable", async () => {
      const device = "/dev/ptmx";
      assert.equal(await inside({ filesystem: { readable: [device] } }, "ask-device", device), "EACCES");
      assert.equal(await inside({ filesystem: { readable: [device] } }, "open-path", device), "ok");
      assert.equal(await inside({ filesystem: { writable: [device] } }, "ask-device", device), "ok");
      assert.equal(await inside({}, "ask-device", device), "EACCES");
      assert.equal(outside("ask-device", device), "ok");
      const ran = await run(service.client, {
        process: { argv: ["/bin/sh", "-c", "stty -a </dev/tty"], terminal: {} },
      });
      assert.match(ran.stdout, /speed/);
    });
  });

  describe("of what a program is born with", () => {
    it("is a session of its own without a controlling terminal", async () => {
      await using sandbox = await spawn(service.client, { process: { argv: [guest, "session"] } });
      await sandbox.exit();
      assert.match(sandbox.stdout, new RegExp(`pid ${sandbox.pid}\n`));
      assert.match(sandbox.stdout, new RegExp(`group ${sandbox.pid}\nsession ${sandbox.pid}\nterminal none\n`));
      const asked = await run(service.client, { process: { argv: [guest, "session"], terminal: {} } });
      assert.match(asked.stdout, /terminal yes/);
    });

    it("is three descriptors and no other, neither the listener nor the service's", async () => {
      // Inheritable, so that only the launch keeps it out.
      const extra = openSync("/dev/null", "r");
      const held: Spec = { holds: { triggers: [{ syscalls: ["execve", "connect"] }, { categories: [1] }] } };
      for (const spec of [{}, held]) {
        const { stdout } = await run(service.client, { spec, process: { argv: [guest, "fds"] } });
        assert.match(stdout, /^0 character-device.*\n1 pipe.*\n2 pipe.*\n$/);
      }
      assert.ok(extra > 2);
      const terminal = await run(service.client, { process: { argv: [guest, "fds"], terminal: {} } });
      assert.match(terminal.stdout, /^0 character-device.*\r\n1 character-device.*\r\n2 character-device.*\r\n$/);
    });

    it("is a minimal environment, nothing of the service's, and nothing at all when so asked", async () => {
      process.env.SANDGATE_TEST_SECRET = "secret";
      const names = async (more: Process): Promise<string[]> => {
        const { stdout } = await run(service.client, { process: { argv: [guest, "env"], ...more } });
        return stdout
          .split("\n")
          .filter((line) => line !== "")
          .sort();
      };
      const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
      assert.deepEqual(await names({}), ["HOME=/", "LANG=C.UTF-8", path]);
      assert.deepEqual(await names({ env: { HOME: "/x", MORE: "1" } }), ["HOME=/x", "LANG=C.UTF-8", "MORE=1", path]);
      assert.deepEqual(await names({ clearEnv: true }), []);
      assert.deepEqual(await names({ clearEnv: true, env: { ONLY: "this" } }), ["ONLY=this"]);
      delete process.env.SANDGATE_TEST_SECRET;
    });

    it("is no capability in any set, and no way to gain one", async () => {
      const caps = new Map((await inside({}, "caps")).split("\n").map((line) => line.split(" ") as [string, string]));
      const none = "0".repeat(16);
      for (const set of ["inheritable", "permitted", "effective", "ambient"]) assert.equal(caps.get(set), none, set);
      if (isRoot) assert.equal(caps.get("bounding"), none, "the bounding set");
      assert.match(await inside({}, "nnp"), /no_new_privs 1\nseccomp 2\ndumpable 1/);
      if (isRoot) assert.notEqual(/effective (\w+)/.exec(outside("caps"))?.[1], none, "root has some outside");
    });

    it("is no blocked or ignored signal, and no core file", async () => {
      assert.equal(await inside({}, "signals"), "");
      assert.match(await inside({}, "limits"), /core 0 0/);
      assert.match(await inside({ limits: { openFiles: 64 } }, "limits"), /open_files 64 64/);
    });
  });

  describe("of a checkpointable sandbox", () => {
    const spec: Spec = { checkpointable: true, filesystem: { readable } };

    it("has pids of its own, small ones, and sees no others", async () => {
      await using host = await hostProcess();
      const ran = await run(service.client, { spec, process: { argv: [guest, "session"] } });
      const pid = Number(/pid (\d+)/.exec(ran.stdout)?.[1]);
      assert.ok(pid > 0 && pid < 20, ran.stdout);
      assert.equal(await inside(spec, "kill", `${host.pid}`, "0"), "ESRCH");
      assert.ok(isAlive(host.pid));
    });

    it("pauses, starts more processes, and leaves nothing", async () => {
      const sandbox = await spawn(service.client, { spec, process: shell });
      await sandbox.write(`${guest} setsid-double-fork; echo started\n`);
      await sandbox.until(/started/);
      const other = await sandbox.exec({ argv: [guest, "sleep"] });
      await other.until(/\d/);
      await service.client.sandbox.pauseSandbox({ sandboxId: sandbox.sandboxId });
      await eventually("it has stopped", () => statusOf(sandbox.pid)?.state === "T");
      await service.client.sandbox.resumeSandbox({ sandboxId: sandbox.sandboxId });
      await sandbox[Symbol.asyncDispose]();
      assert.deepEqual([isAlive(sandbox.pid), isAlive(other.pid)], [false, false]);
    });

    it("is confined as any other", async () => {
      assert.equal(await inside(spec, "open-read", join(files, "secret/file")), "EACCES");
      assert.equal(await inside(spec, "unshare", "user"), "EPERM");
      assert.equal(await inside(spec, "clone3-newuser"), "ENOSYS");
      assert.equal(await inside(spec, "userfaultfd"), "EPERM");
      assert.match(await inside(spec, "caps"), /effective 0{16}/);
    });
  });

  describe("of a launch", () => {
    it("enters its stages in the order of the contract, the filter before attach before exec", async () => {
      for (const spec of [{}, { checkpointable: true }, { holds: { triggers: [{ syscalls: ["execve"] }] } }]) {
        await using sandbox = await spawn(service.client, { spec, process: { argv: [guest, "sleep"], terminal: {} } });
        const stages = (await sandbox.get()).plan?.stages ?? [];
        const names = stages.map(({ stage }) => stage);
        const order = STAGES.filter((stage) => names.includes(stage));
        assert.deepEqual(names, order, "the order is the contract's");
        const times = stages.map(({ offset }) => Number(offset?.seconds) * 1e9 + Number(offset?.nanos));
        assert.deepEqual(
          times,
          [...times].sort((one, other) => one - other),
          "no stage was entered before the one before it",
        );
        const always = [
          "clone",
          "session",
          "terminal",
          "cwd",
          "program",
          "rlimits",
          "capabilities",
          "no_new_privs",
          "landlock_outer",
          "keeper",
          "filter",
          "attach",
          "nursery",
          "descriptors",
          "environment",
          "exec",
        ];
        assert.deepEqual(
          always.filter((stage) => !names.includes(stage as (typeof STAGES)[number])),
          [],
          "every stage was entered",
        );
      }
    });
  });

  it("leaves the host's files alone", () => {
    assert.equal(existsSync(join(files, "write/stolen")), false);
    assert.equal(readFileSync(join(files, "secret/file"), "utf8"), "content");
  });
});
