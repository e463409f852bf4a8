import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { EventKind } from "../../src/client/client.js";
import { guestPath } from "../support/guests.js";
import { pipelines } from "../support/pipelines.js";
import { eventually, statusOf } from "../support/processes.js";
import {
  describeExit,
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
const LIMITS = { kinds: [EventKind.LIMIT_REACHED] };
const isRoot = process.geteuid?.() === 0;
const MIB = 1n << 20n;
const limit = 64n * MIB;
/** What the guests use, well beyond the limit. */
const [much, some] = ["256", "16"];

/** Where a program is, or undefined when it is not installed. */
function find(program: string): string | undefined {
  try {
    return execFileSync("/bin/sh", ["-c", `PATH=/usr/bin:$PATH; command -v ${program}`], { encoding: "utf8" }).trim();
  } catch {
    return undefined;
  }
}

describe("limits", () => {
  let service: TestService;
  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  const ran = (spec: Spec, argv: readonly string[], process: Omit<Process, "argv"> = {}) =>
    run(service.client, { spec, process: { argv: [...argv], ...process } });

  /** How a program ended, and which limits were reported of its sandbox. */
  async function ending(spec: Spec, ...argv: string[]): Promise<{ exit: string; limits: string[]; stdout: string }> {
    const { exit, stdout, sandboxId } = await ran(spec, argv);
    const start = { case: "fromOldest", value: {} } as const;
    const limits: string[] = [];
    for await (const { events, caughtUp } of service.client.watch.watch({ start, include: [LIMITS] })) {
      for (const { event, sandboxId: about } of events) {
        if (event.case === "limitReached" && about === sandboxId) limits.push(event.value.limit);
      }
      if (caughtUp) break;
    }
    return { exit: describeExit(exit), limits, stdout: stdout.trimEnd() };
  }

  describe("of memory", () => {
    for (const kind of [
      "anonymous",
      "shared",
      "zero",
      "zero-shared",
      "unmapped",
      "exited-writer",
      "stack",
      "private-file",
      "copies",
      "daemon",
    ]) {
      it(`counts ${kind.replaceAll("-", " ")} memory, and lets as much as is allowed be used`, async () => {
        const file = kind === "private-file" ? [guest] : [];
        const readable = kind === "private-file" ? [guest] : [];
        const spec: Spec = { limits: { memoryBytes: limit }, filesystem: { readable } };
        assert.equal((await ran(spec, [guest, `memory-${kind}`, some, "end", ...file])).stdout, "ok\n");
        const free: Spec = { filesystem: { readable } };
        assert.equal((await ran(free, [guest, `memory-${kind}`, much, "end", ...file])).stdout, "ok\n");
        const { exit, stdout } = await ran(spec, [guest, `memory-${kind}`, much, "hold", ...file]);
        assert.deepEqual([stdout, describeExit(exit)], ["", "signal 9, limit"]);
      });
    }

    it("gives no files in memory, which would belong to no process", async () => {
      assert.equal((await ran({ limits: { memoryBytes: limit } }, [guest, "memory-file", some])).stdout, "ENOSYS\n");
      assert.equal((await ran({}, [guest, "memory-file", some])).stdout, "ok\n");
    });

    it("refuses a writable tree in memory, naming it", async function () {
      let directory: string;
      try {
        directory = mkdtempSync("/dev/shm/sandgate-");
      } catch (error) {
        return skip(this, `/dev/shm cannot be written: ${error}`);
      }
      try {
        const spec = (memoryBytes: bigint): Spec => ({
          limits: { memoryBytes },
          filesystem: { writable: [directory] },
        });
        const refusal = await refused(ran(spec(limit), ["/bin/true"]), {
          code: "FAILED_PRECONDITION",
          reason: "PROTECTION_UNAVAILABLE",
          field: "spec.filesystem.writable",
        });
        assert.match(refusal.message, /tmpfs/);
        assert.equal(describeExit((await ran(spec(0n), ["/bin/true"])).exit), "code 0, self");
      } finally {
        rmSync(directory, { recursive: true });
      }
    });

    it("does not count addresses that are only reserved", async () => {
      assert.equal((await ran({ limits: { memoryBytes: limit } }, [guest, "memory-reserve", "65536"])).stdout, "ok\n");
    });

    it("is told as an event", async () => {
      const { limits } = await ending({ limits: { memoryBytes: limit } }, guest, "memory-anonymous", much, "hold");
      assert.deepEqual(limits, ["limits.memory_bytes"]);
    });

    for (const [program, ...args] of [
      ["node", "-e", "console.log(6 * 7)"],
      ["java", "-Xmx64m", "-version"],
      ["python3", "-c", "print(6 * 7)"],
      ["go", "version"],
    ] as const) {
      it(`lets ${program} run, which reserves far more than it uses`, async function () {
        this.timeout(60_000);
        const path = find(program);
        if (path === undefined) return skip(this, `${program} is not installed`);
        const { exit, stderr } = await ran({ limits: { memoryBytes: 512n * MIB } }, [path, ...args]);
        assert.equal(describeExit(exit), "code 0, self", stderr);
      });
    }
  });

  describe("of processes", () => {
    const spec: Spec = { limits: { processes: 8 } };

    it("leaves a program alone that keeps within it while signals arrive", async function () {
      this.timeout(60_000);
      const { exit, stdout, stderr } = await ran(spec, pipelines(100));
      assert.deepEqual([stdout, stderr, describeExit(exit)], ["done\n", "", "code 0, self"]);
    });

    for (const kind of ["fork", "raw-fork", "thread", "setsid"]) {
      it(`stops a bomb by ${kind}`, async () => {
        const { exit, stdout, limits } = await ending(spec, guest, "bomb", kind, "50");
        if (isRoot) assert.deepEqual([exit, limits], ["signal 9, limit", ["limits.processes"]]);
        else assert.equal(stdout, "7\nEAGAIN");
      });
    }

    it("is told as an event where the kernel refuses", async function () {
      if (isRoot) skip(this, "the kernel exempts root: the sandbox is killed");
      const watch = service.client.watch.watch({ include: [LIMITS] });
      await using sandbox = await spawn(service.client, {
        spec,
        process: { argv: [guest, "bomb", "fork", "50", "stay"] },
      });
      for await (const { events } of watch) {
        const found = events.find(({ sandboxId }) => sandboxId === sandbox.sandboxId);
        if (found?.event.case !== "limitReached") continue;
        assert.match(found.event.value.action, /EAGAIN/);
        break;
      }
      assert.match(await sandbox.until(/E\w+/), /^7\nEAGAIN/);
    });

    it("lets as many be without it", async () => {
      assert.equal((await ran({}, [guest, "bomb", "raw-fork", "50", "end"])).stdout, "50\nok\n");
    });

    it("has room for what is started later", async () => {
      const { stdout } = await ran({ limits: { processes: 1 } }, ["/bin/echo", "alone"]);
      assert.equal(stdout, "alone\n");
    });
  });

  describe("of the CPU share", () => {
    const burn = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done";
    /** The share that a program got of the time it took. */
    async function share(spec: Spec, script: string): Promise<number> {
      const startMs = performance.now();
      const { exit } = await ran(spec, ["/bin/bash", "-c", script]);
      const tookMs = performance.now() - startMs;
      assert.equal(describeExit(exit), "code 0, self");
      const { seconds = 0n, nanos = 0 } = exit.usage?.cpuTime ?? {};
      return (Number(seconds) * 1000 + nanos / 1e6) / tookMs;
    }

    it("holds back all processes together, those of other sessions too", async () => {
      const script = `(${burn}) & setsid bash -c '${burn}' & wait`;
      const held = await share({ limits: { cpuMillis: 200 } }, script);
      assert.ok(held < 0.35, `${held} of a processor`);
    });

    it("lets all end that was held back, and says once that it was", async () => {
      const little = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
      const script = `${little}; (${little}); exit 5`;
      const { exit, limits } = await ending({ limits: { cpuMillis: 50 } }, "/bin/bash", "-c", script);
      assert.deepEqual([exit, limits], ["code 5, self", ["limits.cpu_millis"]]);
    });

    it("leaves a paused sandbox stopped, whose turn it would be", async () => {
      const spec: Spec = { limits: { cpuMillis: 100 } };
      const program = { argv: ["/bin/sh", "-c", "while :; do :; done"] };
      await using sandbox = await spawn(service.client, { spec, process: program });
      const { sandboxId, pid } = sandbox;
      const watch = service.client.watch.watch({ include: [LIMITS], start: { case: "fromOldest", value: {} } });
      for await (const { events } of watch) if (events.some((event) => event.sandboxId === sandboxId)) break;
      await service.client.sandbox.pauseSandbox({ sandboxId });
      const used = () => Number(readFileSync(`/proc/${pid}/stat`, "latin1").split(" ")[13]);
      await eventually("it is stopped", () => statusOf(pid)?.state === "T");
      const usedWhenPaused = used();
      // Long enough for its share to come round many times over.
      await run(service.client, { process: { argv: ["/bin/sleep", "1"] } });
      assert.deepEqual([statusOf(pid)?.state, used()], ["T", usedWhenPaused]);
      await service.client.sandbox.resumeSandbox({ sandboxId });
      await eventually("it goes on", () => used() > usedWhenPaused);
    });
  });

  describe("of CPU time", () => {
    it("counts all processes together, those that ended included", async () => {
      const burn = "i=0; while [ $i -lt 20000000 ]; do i=$((i+1)); done";
      const { exit, limits } = await ending(
        { limits: { cpuTime: { nanos: 500_000_000 } } },
        "/bin/sh",
        "-c",
        `while :; do (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done); done; ${burn}`,
      );
      assert.deepEqual([exit, limits], ["signal 9, limit", ["limits.cpu_time"]]);
    });

    it("leaves a program alone that uses less", async () => {
      const { exit } = await ran({ limits: { cpuTime: { seconds: 20n } } }, ["/bin/sh", "-c", "exit 4"]);
      assert.equal(describeExit(exit), "code 4, self");
    });
  });

  describe("of output", () => {
    const endless = "while :; do echo 0123456789; echo abcdefghij >&2; done";
    const outputs = (outputBytes: bigint): Spec => ({ limits: { outputBytes } });

    it("kills beyond it, and delivers what came up to it", async () => {
      const { exit, stdout, stderr } = await ran(outputs(250_005n), ["/bin/sh", "-c", endless]);
      assert.deepEqual([stdout.length + stderr.length, describeExit(exit)], [250_005, "signal 9, limit"]);
      const { limits } = await ending(outputs(5n), "/bin/sh", "-c", endless);
      assert.deepEqual(limits, ["limits.output_bytes"]);
    });

    it("leaves a program alone that writes all it may", async () => {
      const { exit, stdout, limits } = await ending(outputs(6n), "/bin/sh", "-c", "printf 123; printf 456; exit 4");
      assert.deepEqual([stdout, exit, limits], ["123456", "code 4, self", []]);
    });

    it("cuts off what is read after the end of the program, and tells of it", async () => {
      const { stdout, limits } = await ending(outputs(3n), "/bin/echo", "12345");
      assert.deepEqual([stdout, limits], ["123", ["limits.output_bytes"]]);
    });

    it("counts what a child of an ended process goes on to write", async () => {
      const process = { argv: ["/bin/sleep", "1000"] };
      await using sandbox = await spawn(service.client, { spec: outputs(100_000n), process });
      const parent = await sandbox.exec({ argv: ["/bin/sh", "-c", `setsid sh -c '${endless}' & exit 0`] });
      assert.equal(await sandbox.exit(), "signal 9, limit");
      await parent.exit();
      assert.equal(parent.stdout.length + parent.stderr.length, 100_000);
    });

    it("counts what a terminal prints", async () => {
      const { exit, stdout } = await ran(outputs(50_001n), ["/bin/sh", "-c", endless], { terminal: {} });
      assert.deepEqual([stdout.length, describeExit(exit)], [50_001, "signal 9, limit"]);
    });

    it("is one for all processes, whether or not anybody reads", async () => {
      const spec = outputs(10n);
      const script = (text: string) => ["/bin/sh", "-c", `printf ${text}; sleep 1000`];
      await using sandbox = await spawn(service.client, { spec, process: { argv: script("123456") } });
      await sandbox.until(/6/);
      const second = await sandbox.exec({ argv: script("abcdef") });
      assert.deepEqual([await second.exit(), await sandbox.exit()], ["signal 9, limit", "signal 9, limit"]);
      assert.deepEqual([second.stdout, sandbox.stdout], ["abcd", "123456"]);
      const process = { argv: ["/bin/sh", "-c", endless] };
      const { sandbox: unread } = await service.client.sandbox.spawn({ requestId: requestId(), spec, process });
      const { exit } = await service.client.sandbox.waitProcess({ sandboxId: unread?.sandboxId ?? "" });
      assert.equal(exit && describeExit(exit), "signal 9, limit");
    });

    it("is shown among the mechanisms", async () => {
      await using sandbox = await spawn(service.client, { spec: outputs(10n), process: { argv: ["/bin/true"] } });
      const { plan, spec } = await sandbox.get();
      assert.equal(spec?.limits?.outputBytes, 10n);
      assert.equal(plan?.mechanisms["spec.limits.output_bytes"], "service, as it reads the streams");
    });
  });
});
