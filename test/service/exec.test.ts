import assert from "node:assert/strict";
import { execFileSync, spawn as startProcess } from "node:child_process";
import { once } from "node:events";
import { SandboxState } from "../../src/client/client.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { hostProcess, isAlive } from "../support/processes.js";
import { refused, requestId, type Spec, spawn, startTestService, type TestService } from "../support/service.js";

const guest = guestPath("act");
/** Programs of the guests, and Unix sockets. */
const spec: Spec = {
  filesystem: { readable: [guestDirectory] },
  network: { allow: [{ transport: 4 }] },
};
/** A shell that does what it reads. */
const shell = { argv: ["/bin/sh"], stdin: 2 };

describe("exec", () => {
  let service: TestService;
  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  it("starts a process with its own arguments, environment, directory and exit code", async () => {
    await using sandbox = await spawn(service.client, { spec, process: { argv: [guest, "sleep"] } });
    const first = await sandbox.exec(
      {
        argv: ["/bin/sh", "-c", 'echo "$1 $COLOUR $PWD"; exit 5', "sh", "argument"],
        env: { COLOUR: "red" },
        cwd: "/usr",
      },
      "second",
    );
    assert.equal(first.processId, "second");
    assert.equal(await first.exit(), "code 5, self");
    assert.equal(first.stdout, "argument red /usr\n");
    const other = await sandbox.exec({ argv: ["/bin/sh", "-c", "kill -USR1 $$"] });
    assert.equal(await other.exit(), "signal 10, self");
    assert.deepEqual(
      (await sandbox.get()).processes.map(({ processId }) => processId),
      ["main", "second", other.processId],
    );
    assert.ok(isAlive(sandbox.pid), "the main process goes on");
  });

  it("refuses a process id twice, an unknown sandbox and an unknown process", async () => {
    await using sandbox = await spawn(service.client, { spec, process: { argv: [guest, "sleep"] } });
    const { sandboxId } = sandbox;
    await sandbox.exec({ argv: [guest, "sleep"] }, "twin");
    const argv = ["/bin/true"];
    const again = { requestId: requestId(), sandboxId, processId: "twin", process: { argv } };
    await refused(service.client.sandbox.exec(again), {
      code: "ALREADY_EXISTS",
      reason: "SANDBOX_EXISTS",
      field: "process_id",
      metadata: { process_id: "twin" },
    });
    await refused(service.client.sandbox.exec({ ...again, requestId: requestId(), sandboxId: "nobody" }), {
      code: "NOT_FOUND",
      reason: "SANDBOX_NOT_FOUND",
      field: "sandbox_id",
      metadata: { sandbox_id: "nobody" },
    });
    await refused(service.client.sandbox.waitProcess({ sandboxId, processId: "nobody" }), {
      code: "NOT_FOUND",
      reason: "PROCESS_NOT_FOUND",
      field: "process_id",
      metadata: { process_id: "nobody" },
    });
  });

  it("makes one process of one request id", async () => {
    await using sandbox = await spawn(service.client, { spec, process: { argv: [guest, "sleep"] } });
    const request = { requestId: requestId(), sandboxId: sandbox.sandboxId, process: { argv: [guest, "sleep"] } };
    const answers = await Promise.all([1, 2, 3].map(() => service.client.sandbox.exec(request)));
    assert.equal(new Set(answers.map(({ process }) => process?.processId)).size, 1);
    assert.equal((await sandbox.get()).processes.length, 2);
  });

  it("tells what of a program cannot be executed, and the sandbox goes on", async () => {
    await using sandbox = await spawn(service.client, { spec, process: shell });
    await refused(
      service.client.sandbox.exec({
        requestId: requestId(),
        sandboxId: sandbox.sandboxId,
        process: { argv: ["/usr/bin/missing"] },
      }),
      {
        code: "FAILED_PRECONDITION",
        reason: "EXEC_FAILED",
        field: "process.argv[0]",
        metadata: { stage: "program", errno: "ENOENT" },
      },
    );
    await sandbox.write("echo goes on\n");
    await sandbox.until(/goes on/);
    assert.equal((await sandbox.get()).processes.length, 1);
  });

  it("is refused in a sandbox that has ended", async () => {
    await using sandbox = await spawn(service.client, { spec, process: shell });
    await sandbox.endInput();
    assert.equal(await sandbox.exit(), "code 0, self");
    const { sandboxId } = sandbox;
    while ((await sandbox.get()).state === SandboxState.RUNNING);
    await refused(
      service.client.sandbox.exec({ requestId: requestId(), sandboxId, process: { argv: ["/bin/true"] } }),
      { code: "FAILED_PRECONDITION", reason: "WRONG_STATE", metadata: { sandbox_id: sandboxId, state: "ended" } },
    );
  });

  it("ends with the main process", async () => {
    await using sandbox = await spawn(service.client, { spec, process: shell });
    const other = await sandbox.exec({ argv: [guest, "sleep"] });
    await other.number(/(\d+)/);
    await sandbox.endInput();
    assert.equal(await sandbox.exit(), "code 0, self");
    assert.match(await other.exit(), /^signal 9, /);
    assert.equal(isAlive(other.pid), false);
  });

  it("runs under the same file rules, capabilities and filter as the main process", async () => {
    await using sandbox = await spawn(service.client, { spec, process: shell });
    const tell = async (...args: string[]): Promise<string> => {
      const other = await sandbox.exec({ argv: [guest, ...args] });
      await other.exit();
      return other.stdout;
    };
    const main = async (...args: string[]): Promise<string> => {
      const before = sandbox.stdout.length;
      await sandbox.write(`${guest} ${args.join(" ")}; echo end\n`);
      return (await sandbox.until(new RegExp(`^[^]{${before}}[^]*end\\n`))).slice(before).replace("end\n", "");
    };
    for (const acts of [["caps"], ["nnp"], ["open-read", "/etc/shadow"], ["open-read", "/etc/passwd"], ["unshare"]]) {
      assert.equal(await tell(...acts), await main(...acts), acts.join(" "));
    }
    assert.equal(await tell("open-read", "/etc/shadow"), "EACCES\n");
    assert.match(await tell("fds"), /^0 character-device.*\n1 pipe.*\n2 pipe.*\n$/);
  });

  it("leads a session of its own, and a terminal when asked", async () => {
    await using sandbox = await spawn(service.client, { spec, process: { argv: [guest, "sleep"] } });
    const plain = await sandbox.exec({ argv: [guest, "session"] });
    await plain.exit();
    assert.match(plain.stdout, new RegExp(`session ${plain.pid}\n`));
    assert.match(plain.stdout, /terminal none/);
    const terminal = await sandbox.exec({ argv: [guest, "session"], terminal: {} });
    await terminal.exit();
    assert.match(terminal.stdout, new RegExp(`session ${terminal.pid}\r\n[^]*terminal yes`));
  });

  describe("signals", () => {
    it("reach from an exec'd process to the main one and back, and from neither to another sandbox or the host", async () => {
      await using host = await hostProcess();
      await using other = await spawn(service.client, { spec, process: { argv: [guest, "sleep"] } });
      await using sandbox = await spawn(service.client, { spec, process: shell });
      const inside = await sandbox.exec(shell);
      const ask = async (from: typeof inside, pid: number): Promise<string> => {
        const before = from.stdout.length;
        await from.write(`${guest} kill ${pid} 0\n`);
        return (await from.until(new RegExp(`^[^]{${before}}\\w+\\n`))).slice(before).trim();
      };
      assert.equal(await ask(inside, sandbox.pid), "ok");
      assert.equal(await ask(sandbox, inside.pid), "ok");
      for (const from of [inside, sandbox]) {
        assert.equal(await ask(from, other.pid), "ESRCH");
        assert.equal(await ask(from, host.pid), "ESRCH");
        assert.equal(await ask(from, process.pid), "ESRCH");
        assert.equal(await ask(from, service.service.wardenPid), "ESRCH");
      }
      await inside.write(`kill -KILL ${sandbox.pid}\n`);
      assert.equal(await sandbox.exit(), "signal 9, self");
      assert.deepEqual([isAlive(other.pid), isAlive(host.pid)], [true, true]);
    });
  });

  describe("abstract Unix sockets", () => {
    it("are shared by the processes of a sandbox, and by nobody else", async () => {
      const name = `sandgate-${process.pid}-meet`;
      const listener = startProcess(guestPath("meet"), [`${name}-host`]);
      await once(listener.stdout, "data");
      await using sandbox = await spawn(service.client, {
        spec,
        process: { argv: [guestPath("meet"), `${name}-main`] },
      });
      await sandbox.until(/ready/);
      const inside = await sandbox.exec({ argv: [guestPath("meet"), `${name}-exec`] });
      await inside.until(/ready/);
      await using other = await spawn(service.client, { spec, process: shell });

      const connect = async (from: typeof sandbox, target: string): Promise<string> => {
        const client = await from.exec({ argv: [guest, "abstract-connect", `${name}-${target}`] });
        await client.exit();
        return client.stdout.trim();
      };
      assert.equal(await connect(sandbox, "main"), "ok");
      assert.equal(await connect(sandbox, "exec"), "ok");
      await sandbox.until(/met/);
      await inside.until(/met/);
      assert.equal(await connect(other, "main"), "EPERM");
      assert.equal(await connect(other, "exec"), "EPERM");
      assert.equal(await connect(sandbox, "host"), "EPERM");
      assert.equal(execFileSync(guest, ["abstract-connect", `${name}-host`], { encoding: "utf8" }), "ok\n");
      listener.kill("SIGKILL");
      await once(listener, "exit");
      assert.equal((sandbox.stdout.match(/met/g) ?? []).length, 1);
    });
  });
});
