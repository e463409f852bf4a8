import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync } from "node:fs";
import { Socket } from "node:net";
import { createInterface } from "node:readline";
import { createChannels } from "../../../src/native/channel.js";
import { createDescriptors } from "../../../src/native/descriptors.js";
import { loadLibrary } from "../../../src/native/library.js";
import { createProbe } from "../../../src/native/probe.js";
import { type EngineClient, startEngine } from "../../../src/sandbox/engine/client.js";
import { type Host, probeHost } from "../../../src/sandbox/host.js";
import type { ShownFile } from "../../../src/sandbox/launch/mounts.js";
import { createPlanCompiler, planHeader } from "../../../src/sandbox/launch/plan.js";
import { skip } from "../../support/service.js";
import { processOf, type SpecParts, specOf } from "../../support/specs.js";

const SCRIPT = 'while read -r command; do eval "$command" 2>&1; echo .; done';

describe("a file that is shown to a sandbox", () => {
  const library = loadLibrary();
  const descriptors = createDescriptors();
  let host: Host;
  let engine: EngineClient;
  const goneLaunches = new Map<number, () => void>();

  before(async function () {
    host = probeHost(createProbe(library));
    if (!host.features.mountNamespaces && !host.features.userMountNamespaces)
      skip(this, "this host has no mount namespaces");
    const fail = (what: unknown): never => assert.fail(String(what));
    engine = await startEngine({
      channels: createChannels(library),
      planHeader,
      spinUs: 0,
      countSettled: false,
      events: {
        exited: () => undefined,
        gone: (launchId) => goneLaunches.get(launchId)?.(),
        held: fail,
        holdGone: fail,
        automatic: fail,
        recordsLost: fail,
        settled: fail,
        grantUsed: fail,
        grantEnded: fail,
        limited: fail,
        lost: fail,
        error: fail,
        failed: fail,
      },
    });
  });
  after(() => engine?.close());

  /** A shell in a sandbox that is shown the files. */
  async function start(files: readonly ShownFile[], parts: SpecParts = {}) {
    const compiler = createPlanCompiler(host.features);
    const compiled = compiler.compileLaunch(specOf(parts), processOf(["/bin/sh", "-c", SCRIPT]), {
      nursery: false,
      files,
    });
    const launchId = engine.newLaunchId();
    const [stdinRead, stdinWrite] = descriptors.pipe();
    const [stdoutRead, stdoutWrite] = descriptors.pipe();
    const childFds = [stdinRead, stdoutWrite, openSync("/dev/null", "w")];
    const gone = new Promise<void>((resolve) => goneLaunches.set(launchId, resolve));
    await engine.launch({
      launchId,
      sandboxId: "shown",
      processId: "main",
      policy: compiled.engine,
      names: new Map(),
      startMayWait: false,
      plan: compiler.encodePlan(compiled, BigInt(launchId), BigInt(launchId)),
      fds: childFds,
      onSent() {
        for (const fd of childFds) closeSync(fd);
      },
      onStarted: () => undefined,
    });
    const input = new Socket({ fd: stdinWrite, readable: false, writable: true });
    const lines = createInterface({ input: new Socket({ fd: stdoutRead, readable: true, writable: false }) });
    const answers = lines[Symbol.asyncIterator]();
    return {
      launchId,
      async ask(command: string): Promise<string> {
        input.write(`${command}\n`);
        const said: string[] = [];
        for (;;) {
          const { value, done } = await answers.next();
          if (done === true) assert.fail("the shell ended");
          if (value === ".") return said.join("\n");
          said.push(value);
        }
      },
      async [Symbol.asyncDispose]() {
        input.destroy();
        engine.kill(launchId);
        await gone;
        lines.close();
      },
    };
  }

  const hosts = (content: string, changes = false): ShownFile => ({
    path: "/etc/hosts",
    content: Buffer.from(content),
    mode: 0o444,
    changes,
  });

  for (const [what, parts] of [
    ["where nothing may be written", {}],
    ["where something may be written", { filesystem: { writable: ["/var/tmp"] } }],
    ["in a PID namespace", { checkpointable: true }],
  ] as const) {
    it(`is what a program reads, and cannot change, ${what}`, async () => {
      const real = readFileSync("/etc/hosts", "utf8");
      await using one = await start([hosts("10.0.0.1 shown\n")], parts);
      await using other = await start([hosts("10.0.0.2 shown\n")], parts);
      assert.equal(await one.ask("cat /etc/hosts"), "10.0.0.1 shown");
      assert.equal(await other.ask("cat /etc/hosts"), "10.0.0.2 shown");
      assert.match(await one.ask("echo x >/etc/hosts"), /Permission denied|Read-only file system/);
      assert.match(await one.ask("chmod 666 /etc/hosts"), /not permitted|Read-only file system/);
      assert.match(await one.ask("rm -f /etc/hosts || mv /etc/hosts /var/tmp/"), /Permission denied|Read-only|busy/);
      assert.equal(readFileSync("/etc/hosts", "utf8"), real);
    });
  }

  it("shows new content at once when it is replaced, longer or shorter", async () => {
    await using one = await start([hosts("unchanged\n"), { ...hosts("first\n", true), path: "/etc/hostname" }], {
      filesystem: { writable: ["/var/tmp"] },
    });
    assert.equal(await one.ask("exec 5</etc/hostname; cat /etc/hostname"), "first");
    for (const content of ["a longer second\n", "3\n"]) {
      engine.showFile(one.launchId, 0, Buffer.from(content));
      // The engine works in order: an answer to a later question says that the earlier one was done.
      assert.equal(await engine.signalAll(one.launchId, 0), true);
      assert.equal(await one.ask("cat /etc/hostname /etc/hosts"), `${content}unchanged`);
    }
    assert.equal(await one.ask("cat <&5"), "3", "also by a descriptor that was opened before");
  });
});
