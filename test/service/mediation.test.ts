import assert from "node:assert/strict";
import { fork, spawn as startProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  ArgumentIntegrity,
  CallCategory,
  FileOperation,
  GrantScope,
  type HeldCall,
  SandboxState,
  SignalScope,
  Transport,
  WithdrawalReason,
} from "../../src/client/client.js";
import { type Action, allow, connectDecider, deny, kill } from "../support/decider.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { listen, listenInVain } from "../support/listeners.js";
import { isAlive } from "../support/processes.js";
import {
  act,
  type FallbackAction,
  type Holds,
  type Process,
  run,
  type Spec,
  spawn,
  startTestService,
  type TestService,
} from "../support/service.js";

const guest = guestPath("act");
const mediated = guestPath("mediated");
const shell: Process = { argv: ["/bin/sh"], stdin: 2 };
const readable = [guestDirectory];
const execHeld: Spec = { filesystem: { readable }, holds: { triggers: [{ syscalls: ["execve"] }] } };
const writes: Holds = { triggers: [{ categories: [CallCategory.FILE], match: { writesOnly: true } }] };
const seconds = (count: number) => ({ seconds: BigInt(Math.floor(count)), nanos: Math.round((count % 1) * 1e9) });

describe("held calls", () => {
  let service: TestService;
  /** Of the test that runs, writable for the sandbox as the tests say. */
  let files: string;
  let serial = 0;

  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());
  beforeEach(() => {
    files = join(service.directory, `files${++serial}`);
    mkdirSync(files);
    chmodSync(files, 0o755);
  });

  const pathOf = (name: string, content = ""): string => {
    const path = join(files, name);
    writeFileSync(path, content);
    return path;
  };
  const contentOf = (name: string): string => readFileSync(join(files, name), "utf8");

  /** Opens for writing are held; `files` may be written without a verdict, or only with one. */
  const writesHeld = (tree: "writable" | "grantableWritable" = "writable"): Spec => ({
    filesystem: { readable: [guestDirectory, files], [tree]: [files] },
    holds: writes,
  });

  const connectsHeld = (...ports: number[]): Spec => ({
    filesystem: { readable },
    network: { grantable: [{ transport: Transport.TCP, host: "127.0.0.1", ports: ports.map((first) => ({ first })) }] },
    holds: { triggers: [{ syscalls: ["connect"] }] },
  });

  const judging = (judge: (call: HeldCall) => Action) => connectDecider(service.client, { judge });

  describe("an execve", () => {
    it("runs when it is allowed, and is refused with the decider's errno when not", async () => {
      await using decider = await judging((call) => {
        assert.ok(call.detail.case === "exec");
        return call.detail.value.argv[1]?.text === "yes" ? allow : deny(13);
      });
      const { stdout } = await run(service.client, {
        spec: execHeld,
        process: { argv: ["/bin/sh", "-c", `${guest} exec /bin/echo yes; /bin/echo yes; /bin/echo no`] },
      });
      assert.equal(stdout, "yes\n");
      assert.equal(decider.calls.length, 3);
    });

    it("shows the program with links resolved, its arguments, and who calls", async () => {
      await using decider = await judging(() => allow);
      symlinkSync("/bin/echo", join(files, "alias"));
      const { stdout, sandboxId } = await run(service.client, {
        spec: { ...execHeld, filesystem: { readable: [files] } },
        process: { argv: ["/bin/sh", "-c", `cd ${files}; ./../${files.split("/").at(-1)}/alias one two`] },
      });
      assert.equal(stdout, "one two\n");
      const [call] = decider.calls;
      assert.ok(call?.detail.case === "exec");
      const { program, argv } = call.detail.value;
      assert.match(program?.text ?? "", /\/bin\/(echo|coreutils)$/);
      assert.doesNotMatch(program?.text ?? "", /alias/);
      assert.deepEqual(
        argv.map(({ text }) => text),
        [`./../${files.split("/").at(-1)}/alias`, "one", "two"],
      );
      assert.equal(call.task?.sandboxId, sandboxId);
      assert.equal(call.task?.processId, "main");
      assert.match(call.task?.executable?.text ?? "", /sh$/);
      assert.equal(call.integrity, ArgumentIntegrity.FROZEN, "what the kernel read is compared");
    });

    it("of the program that the client itself asked for is not a question", async () => {
      await using decider = await judging(() => deny());
      const ran = await run(service.client, { spec: execHeld, process: { argv: [guest, "exit", "3"] } });
      assert.deepEqual(ran.exit.result, { case: "code", value: 3 });
      await using sandbox = await spawn(service.client, { spec: execHeld, process: shell });
      const other = await sandbox.exec({ argv: [guest, "exit", "4"] });
      assert.equal(await other.exit(), "code 4, self");
      assert.equal(decider.calls.length, 0);
    });

    it("kills the caller alone, or all of the sandbox, when the verdict says so", async () => {
      await using _decider = await judging((call) => {
        assert.ok(call.detail.case === "exec");
        return kill(call.detail.value.argv[1]?.text === "all" ? SignalScope.SANDBOX : SignalScope.PROCESS);
      });
      await using sandbox = await spawn(service.client, { spec: execHeld, process: shell });
      await sandbox.write("/bin/echo one; echo status $?\n");
      await sandbox.until(/status 137/);
      await sandbox.write("/bin/echo all; echo status $?\n");
      assert.equal(await sandbox.exit(), "signal 9, verdict");
      assert.equal(sandbox.stdout, "status 137\n");
    });
  });

  describe("an open for writing", () => {
    it("gives the file when it is allowed, and the errno when not; reading is no question", async () => {
      const [yes, no] = [pathOf("yes"), pathOf("no", "untouched")];
      await using decider = await judging((call) => {
        assert.ok(call.detail.case === "file");
        return call.detail.value.path?.text === yes ? allow : deny(30);
      });
      assert.equal(await act(service.client, writesHeld("grantableWritable"), "open-write", yes), "ok");
      assert.equal(await act(service.client, writesHeld("grantableWritable"), "open-write", no), "EROFS");
      assert.equal(await act(service.client, writesHeld("grantableWritable"), "open-read", no), "ok");
      assert.deepEqual([contentOf("yes"), contentOf("no")], ["x", "untouched"]);
      assert.equal(decider.calls.length, 2);
      const [call] = decider.calls;
      assert.equal(call?.integrity, ArgumentIntegrity.COPIED);
      assert.ok(call?.detail.case === "file");
      assert.deepEqual([call.detail.value.operation, call.detail.value.exists], [FileOperation.WRITE, true]);
    });

    it("outside the ceiling fails although it was allowed", async () => {
      await using _decider = await judging(() => allow);
      const outside = join(service.directory, "outside");
      writeFileSync(outside, "untouched", { mode: 0o666 });
      assert.equal(await act(service.client, writesHeld("grantableWritable"), "open-write", outside), "EACCES");
      assert.equal(readFileSync(outside, "utf8"), "untouched");
    });

    it("keeps every flag, mode and umask", async () => {
      await using _decider = await judging(() => allow);
      pathOf("old", "old");
      const open = async (umask: string, flags: number, mode: string, name: string): Promise<string> => {
        const argv = [mediated, "open", umask, flags.toString(8), mode, name === "" ? files : join(files, name)];
        const { stdout } = await run(service.client, { spec: writesHeld(), process: { argv } });
        return stdout.trim();
      };
      const [WRONLY, RDWR, CREAT, EXCL, TRUNC, APPEND] = [0o1, 0o2, 0o100, 0o200, 0o1000, 0o2000];
      const [CLOEXEC, TMPFILE, NOFOLLOW, DIRECTORY] = [0o2000000, 0o20200000, 0o400000, 0o200000];
      assert.equal(await open("0", WRONLY | CREAT, "666", "a"), "mode 666 links 1 size 0 write");
      assert.equal(await open("27", WRONLY | CREAT | CLOEXEC, "666", "b"), "mode 640 links 1 size 0 cloexec write");
      assert.equal(await open("77", RDWR | CREAT, "777", "c"), "mode 700 links 1 size 0 both");
      assert.equal(await open("0", WRONLY | CREAT | EXCL, "600", "d"), "mode 600 links 1 size 0 write");
      assert.equal(await open("0", WRONLY | CREAT | EXCL, "600", "d"), "EEXIST");
      assert.match(await open("0", WRONLY | APPEND, "0", "old"), /size 3 append write$/);
      assert.match(await open("0", WRONLY | TRUNC, "0", "old"), /size 0 write$/);
      assert.equal(await open("27", RDWR | TMPFILE, "666", ""), "mode 640 links 0 size 0 both");
      assert.equal(await open("0", WRONLY, "0", "missing"), "ENOENT");
      assert.equal(await open("0", WRONLY | DIRECTORY, "0", "a"), "ENOTDIR");
      assert.equal(await open("0", WRONLY, "0", ""), "EISDIR");
      symlinkSync("a", join(files, "link"));
      assert.equal(await open("0", WRONLY | NOFOLLOW, "0", "link"), "ELOOP");
      assert.match(await open("0", WRONLY, "0", "link"), /^mode 666 links 1/);
      assert.equal(statSync(join(files, "b")).mode & 0o777, 0o640);
    });

    it("by any other name is judged by the file that it reaches", async () => {
      const [secret, plain] = [pathOf("secret"), pathOf("plain")];
      symlinkSync(secret, join(files, "link"));
      symlinkSync(files, join(files, "around"));
      symlinkSync("link", join(files, "twice"));
      const spec: Spec = {
        ...writesHeld(),
        rules: [{ name: "secret", match: { paths: [secret] }, action: deny(13) }],
      };
      await using decider = await judging(() => allow);
      const names = ["secret", "link", "twice", "around/secret", "./secret", `../${files.split("/").at(-1)}/secret`];
      for (const name of names) {
        assert.equal(await act(service.client, spec, "open-write", `${files}/${name}`), "EACCES", name);
        assert.equal(await act(service.client, spec, "creat", `${files}/${name}`), "EACCES", name);
      }
      const relative = { argv: [guest, "open-write", "secret"], cwd: files };
      assert.equal((await run(service.client, { spec, process: relative })).stdout, "EACCES\n");
      for (const alias of ["/proc/self/cwd", "/proc/thread-self/cwd", "/proc/self/root"]) {
        const path = alias.endsWith("root") ? `${alias}${secret}` : `${alias}/secret`;
        const { stdout } = await run(service.client, {
          spec,
          process: { argv: [guest, "open-write", path], cwd: files },
        });
        assert.notEqual(stdout, "ok\n", path);
      }
      assert.equal(decider.calls.length, 0, "a rule needs no question");
      assert.equal(contentOf("secret"), "");
      assert.equal(await act(service.client, spec, "open-write", plain), "ok");
      assert.equal(decider.calls.length, 1);
    });

    it("is not fooled by a thread that exchanges the path under the call", async () => {
      const race = async (first: string, second: string, policy: Spec): Promise<number[]> => {
        const { stdout } = await run(service.client, {
          spec: policy,
          process: { argv: [mediated, "race-open", first, second, "2000"] },
        });
        return /first (\d+) second (\d+) refused (\d+)/.exec(stdout)?.slice(1).map(Number) ?? [];
      };
      // Their names differ by one byte only, as the race changes no more than that.
      const [one, two] = [pathOf("file1"), pathOf("file2")];
      const guarded: Spec = {
        ...writesHeld(),
        rules: [
          { name: "two", match: { paths: [two] }, action: deny() },
          { name: "one", match: { paths: [one] }, action: allow },
        ],
      };
      const [opened = 0, escaped = -1, refusals = 0] = await race(one, two, guarded);
      assert.deepEqual([escaped, opened + refusals], [0, 2000]);
      assert.ok(opened > 0 && refusals > 0, `${opened} opened, ${refusals} refused: both were asked for`);
      const both: Spec = { ...guarded, rules: [{ name: "all", match: { paths: [`${files}/**`] }, action: allow }] };
      const [, second = 0] = await race(one, two, both);
      assert.ok(second > 0, "without the rule the second file is opened");
    }).timeout(60_000);

    it("of a FIFO that nobody reads delays no other", async () => {
      const fifo = join(files, "fifo");
      await once(startProcess("mkfifo", ["-m", "666", fifo]), "exit");
      const other = pathOf("other");
      const spec: Spec = {
        ...writesHeld(),
        rules: [{ name: "all", match: { paths: [`${files}/**`] }, action: allow }],
      };
      await using sandbox = await spawn(service.client, { spec, process: { argv: [mediated, "fifo", fifo, other] } });
      await sandbox.until(/beside/);
      assert.equal(await act(service.client, spec, "open-write", other), "ok");
      assert.equal(sandbox.stdout, "beside\n");
      await once(startProcess("cat", [fifo]), "spawn");
      await sandbox.until(/beside\nfifo/);
      assert.equal(await sandbox.exit(), "code 0, self");
    });

    it("may be one of two hundred that wait at the same time", async () => {
      const path = pathOf("many");
      await using decider = await connectDecider(service.client);
      const argv = [mediated, "many", "200", path];
      await using sandbox = await spawn(service.client, { spec: writesHeld(), process: { argv } });
      await decider.until("200 calls", () => decider.calls.length === 200);
      assert.equal((await sandbox.get()).heldCalls, 200);
      const { calls } = await service.client.decision.listHeldCalls({ pageSize: 500 });
      assert.equal(calls.length, 200);
      for (const [index, call] of decider.calls.entries()) await decider.answer(call, index < 150 ? allow : deny());
      await sandbox.until(/150 opened/);
      await decider.until("200 outcomes", () => decider.outcomes.length === 200);
      assert.ok(decider.outcomes.every(({ applied }) => applied));
    });

    it("is remembered when the decider says so, for the same call or for a pattern", async () => {
      const [one, two] = [pathOf("one"), pathOf("two")];
      const again = `for i in 1 2 3; do ${guest} open-write ${one}; ${guest} open-write ${two}; done`;
      const ask = async (match: { case: "sameCall"; value: object } | { case: "callMatch"; value: object }) => {
        await using decider = await connectDecider(service.client, {
          judge: () => allow,
          remember: { scope: GrantScope.SANDBOX, match },
        });
        const { stdout } = await run(service.client, {
          spec: writesHeld("grantableWritable"),
          process: { argv: ["/bin/sh", "-c", again] },
        });
        assert.equal(stdout, "ok\n".repeat(6));
        return decider.calls.length;
      };
      assert.equal(await ask({ case: "sameCall", value: {} }), 2);
      assert.equal(await ask({ case: "callMatch", value: { paths: [`${files}/*`] } }), 1);
    });
  });

  describe("a connect", () => {
    it("reaches the address when it is allowed, and fails with the errno when not", async () => {
      await using open = await listen();
      await using closed = await listen();
      await using decider = await judging((call) => {
        assert.ok(call.detail.case === "network");
        return call.detail.value.address?.port === open.port ? allow : deny(101);
      });
      const spec = connectsHeld(open.port, closed.port);
      assert.equal(await act(service.client, spec, "connect", "127.0.0.1", `${open.port}`), "ok");
      assert.equal(await act(service.client, spec, "connect", "127.0.0.1", `${closed.port}`), "ENETUNREACH");
      assert.equal(closed.accepted(), 0);
      const [call] = decider.calls;
      assert.ok(call?.detail.case === "network");
      assert.deepEqual(call.detail.value.address?.address, { case: "ip", value: Buffer.of(127, 0, 0, 1) });
      assert.equal(call.detail.value.transport, Transport.TCP);
    });

    it("beyond the ceiling is refused although it was allowed", async () => {
      await using one = await listen();
      await using other = await listen();
      await using _decider = await judging(() => allow);
      const spec = connectsHeld(one.port);
      assert.equal(await act(service.client, spec, "connect", "127.0.0.1", `${one.port}`), "ok");
      assert.notEqual(await act(service.client, spec, "connect", "127.0.0.1", `${other.port}`), "ok");
      assert.equal(other.accepted(), 0);
    });

    it("under host rules needs no decider: the listed host is reached, another on the same port is not", async () => {
      await using open = await listen();
      const spec: Spec = {
        filesystem: { readable },
        network: { allow: [{ host: "127.0.0.1", ports: [{ first: open.port }] }] },
      };
      assert.equal(await act(service.client, spec, "connect", "127.0.0.1", `${open.port}`), "ok");
      assert.equal(await act(service.client, spec, "connect", "::ffff:127.0.0.1", `${open.port}`), "ok");
      assert.equal(await act(service.client, spec, "connect", "0.0.0.0", `${open.port}`), "ok");
      assert.equal(await act(service.client, spec, "connect", "127.0.0.2", `${open.port}`), "ECONNREFUSED");
      assert.equal(await act(service.client, spec, "connect", "::1", `${open.port}`), "ECONNREFUSED");
    });

    it("is not fooled by a thread that exchanges the address under the call", async () => {
      await using open = await listen();
      await using closed = await listen();
      const ports = [open, closed].map(({ port }) => ({ first: port }));
      const race = async (network: Spec["network"]): Promise<number[]> => {
        const { stdout } = await run(service.client, {
          spec: { filesystem: { readable }, ...(network === undefined ? {} : { network }) },
          process: { argv: [mediated, "race-connect", `${open.port}`, `${closed.port}`, "2000"] },
        });
        return /first (\d+) second (\d+) refused (\d+)/.exec(stdout)?.slice(1).map(Number) ?? [];
      };
      const guarded = {
        allow: [{ transport: Transport.TCP, host: "127.0.0.1", ports }],
        deny: [{ transport: Transport.TCP, host: "127.0.0.1", ports: ports.slice(1) }],
      };
      const [reached = 0, escaped = -1, refusals = 0] = await race(guarded);
      assert.deepEqual([escaped, closed.accepted(), reached + refusals], [0, 0, 2000]);
      assert.ok(reached > 0 && refusals > 0, `${reached} connected, ${refusals} refused: both were asked for`);
      const [, second = 0] = await race({ allow: guarded.allow });
      assert.ok(second > 0, "without the rule the second port is reached");
    }).timeout(60_000);

    it("that takes long delays no other", async () => {
      await using full = await listenInVain();
      const { port } = full;
      await using open = await listen();
      await using _decider = await judging(() => allow);
      const spec = connectsHeld(port, open.port);
      await using slow = await spawn(service.client, { spec, process: shell });
      await slow.write(`${guest} connect 127.0.0.1 ${port} &\n`);
      const { client } = service;
      let held = 0;
      // It was decided once it is no more held; the connect itself then waits in the broker.
      while (held === 0) held = Number((await slow.get()).usage?.heldCalls ?? 0n);
      await slow.write(`${guest} connect 127.0.0.1 ${open.port}\n`);
      assert.match(await slow.until(/\n/), /^ok\n$/);
      assert.equal(await act(client, spec, "connect", "127.0.0.1", `${open.port}`), "ok");
      assert.equal(slow.stdout, "ok\n");
    });
  });

  describe("without a verdict", () => {
    it("the no-decider fallback applies at once, and refuses unless it was set to the static policy", async () => {
      const path = pathOf("file");
      const spec = writesHeld();
      assert.equal(await act(service.client, spec, "open-write", path), "EPERM");
      const fallback = (action: FallbackAction): Spec => ({
        ...spec,
        holds: { ...writes, onNoDecider: { fallback: { action } } },
      });
      assert.equal(await act(service.client, fallback(deny(2)), "open-write", path), "ENOENT");
      assert.equal(contentOf("file"), "");
      const lenient = fallback({ case: "staticPolicy", value: {} });
      assert.equal(await act(service.client, lenient, "open-write", path), "ok");
      assert.equal(contentOf("file"), "x");
      const outside = join(service.directory, "outside-static");
      writeFileSync(outside, "", { mode: 0o666 });
      assert.equal(await act(service.client, lenient, "open-write", outside), "EACCES");
      const ran = await run(service.client, {
        spec: fallback(kill()),
        process: { argv: [guest, "open-write", path] },
      });
      assert.deepEqual(ran.exit.result, { case: "signal", value: 9 });
    });

    it("in time the timeout fallback applies, and the verdict is late", async () => {
      const path = pathOf("file");
      await using decider = await connectDecider(service.client);
      const spec: Spec = {
        ...writesHeld(),
        holds: { ...writes, verdictTimeout: seconds(0.1), onTimeout: { action: deny(110) } },
      };
      assert.equal(await act(service.client, spec, "open-write", path), "ETIMEDOUT");
      const call = await decider.call(0);
      await decider.until("the withdrawal", () => decider.withdrawn.has(call.holdId));
      assert.equal(decider.withdrawn.get(call.holdId), WithdrawalReason.TIMEOUT);
      await decider.answer(call, allow);
      await decider.until("an outcome", () => decider.outcomes.length === 1);
      assert.equal(decider.outcomes[0]?.applied, false);
      assert.equal(contentOf("file"), "");
    });

    it("because the decider left, the call is refused; one that comes in the grace time decides it", async () => {
      const path = pathOf("file");
      const decider = await connectDecider(service.client);
      const refusedCall = act(service.client, writesHeld(), "open-write", path);
      await decider.call(0);
      decider.leave();
      assert.equal(await refusedCall, "EPERM");

      const first = await connectDecider(service.client);
      const spec: Spec = {
        ...writesHeld(),
        holds: { ...writes, onNoDecider: { grace: seconds(60) } },
      };
      const call = act(service.client, spec, "open-write", path);
      await first.call(0);
      first.leave();
      await using second = await connectDecider(service.client, { judge: () => allow });
      assert.equal(await call, "ok");
      assert.equal(second.calls[0]?.attempt, 2);
    });

    it("because the decider was killed, the call is refused", async () => {
      const path = pathOf("file");
      const mute = fork(fileURLToPath(new URL("../support/mute-decider.js", import.meta.url)), [
        service.address.replace(/^unix:/, ""),
      ]);
      const told: string[] = [];
      mute.on("message", (message) => told.push(String(message)));
      while (!told.includes("opened")) await once(mute, "message");
      const call = act(service.client, writesHeld(), "open-write", path);
      while (!told.includes("calls")) await once(mute, "message");
      mute.kill("SIGKILL");
      assert.equal(await call, "EPERM");
      assert.equal(contentOf("file"), "");
    });

    it("because its process died, it is withdrawn, and the sandbox goes on", async () => {
      const path = pathOf("file");
      await using decider = await connectDecider(service.client);
      await using sandbox = await spawn(service.client, { spec: writesHeld(), process: shell });
      await sandbox.write(`${guest} open-write ${path}; echo status $?\n`);
      const call = await decider.call(0);
      process.kill(call.task?.pid ?? 0, "SIGKILL");
      await decider.until("the withdrawal", () => decider.withdrawn.has(call.holdId));
      assert.equal(decider.withdrawn.get(call.holdId), WithdrawalReason.TARGET_GONE);
      await sandbox.until(/status 137/);
      await decider.answer(call, allow);
      await decider.until("an outcome", () => decider.outcomes.length === 1);
      assert.equal(decider.outcomes[0]?.applied, false);
      assert.deepEqual([contentOf("file"), (await sandbox.get()).heldCalls], ["", 0]);
    });

    it("because its sandbox was deleted, it is withdrawn", async () => {
      const path = pathOf("file");
      await using decider = await connectDecider(service.client);
      const sandbox = await spawn(service.client, {
        spec: writesHeld(),
        process: { argv: [guest, "open-write", path] },
      });
      const call = await decider.call(0);
      await sandbox[Symbol.asyncDispose]();
      await decider.until("the withdrawal", () => decider.withdrawn.has(call.holdId));
      assert.ok(!isAlive(sandbox.pid));
    });
  });

  describe("a rule", () => {
    it("settles without a question: allow within the static policy, deny with its errno, kill", async () => {
      const [yes, no, never] = [pathOf("yes"), pathOf("no"), pathOf("never")];
      await using decider = await judging(() => deny(5));
      const spec: Spec = {
        ...writesHeld(),
        rules: [
          { name: "yes", match: { paths: [yes] }, action: allow },
          { name: "no", match: { paths: [no] }, action: deny(30) },
          { name: "never", match: { paths: [never] }, action: kill() },
        ],
      };
      assert.equal(await act(service.client, spec, "open-write", yes), "ok");
      assert.equal(await act(service.client, spec, "open-write", no), "EROFS");
      const ran = await run(service.client, { spec, process: { argv: [guest, "open-write", never] } });
      assert.deepEqual(ran.exit.result, { case: "signal", value: 9 });
      assert.equal(decider.calls.length, 0);
      assert.equal(await act(service.client, spec, "open-write", pathOf("other")), "EIO");
      assert.equal(decider.calls.length, 1);
    });

    it("widens nothing: an allowed path that the program may not write stays closed", async () => {
      const outside = join(service.directory, "outside-rule");
      writeFileSync(outside, "", { mode: 0o666 });
      const spec: Spec = { ...writesHeld(), rules: [{ name: "all", match: { paths: ["/**"] }, action: allow }] };
      assert.equal(await act(service.client, spec, "open-write", outside), "EACCES");
      assert.equal(await act(service.client, spec, "open-write", pathOf("inside")), "ok");
    });
  });

  it("clocks stand still while the sandbox is paused", async () => {
    const path = pathOf("file");
    await using decider = await connectDecider(service.client);
    // Long enough for the pause to come first on a busy machine.
    const spec: Spec = { ...writesHeld(), holds: { ...writes, verdictTimeout: seconds(2) } };
    await using sandbox = await spawn(service.client, { spec, process: { argv: [guest, "open-write", path] } });
    const { sandboxId } = sandbox;
    const call = await decider.call(0);
    await service.client.sandbox.pauseSandbox({ sandboxId });
    assert.equal((await sandbox.get()).state, SandboxState.PAUSED);
    // A sandbox that is not paused meets its deadline meanwhile.
    assert.equal(await act(service.client, spec, "open-write", path), "EPERM");
    assert.equal(decider.withdrawn.has(call.holdId), false);
    await decider.answer(call, allow);
    await service.client.sandbox.resumeSandbox({ sandboxId });
    await sandbox.until(/ok/);
  });
});
