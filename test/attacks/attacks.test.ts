/**
 * Real programs that try to get out, under shapes of policy. Each is shown to get what it wants without a sandbox, and
 * to be kept from it inside.
 */
import assert from "node:assert/strict";
import { spawn as startProcess } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { guestPath } from "../support/guests.js";
import { eventually, hostProcess, isAlive, statusOf, withArgument } from "../support/processes.js";
import { run, type Spec, skip, startTestService, type TestService } from "../support/service.js";
import { CLASSES } from "./classes.js";
import { makeFiles, SECRET, SHAPES, type Shape, specOf, type Targets } from "./shapes.js";
import type { Attack } from "./table.js";

const isRoot = process.geteuid?.() === 0;
const all: readonly Attack[] = CLASSES.flatMap(({ attacks }) => attacks);
/** Arguments of one run; the guest's own limits of a command line are far above. */
const PER_RUN = 400;

type Outcomes = ReadonlyMap<Attack, string>;

function commandOf(attacks: readonly Attack[], targets: Targets): string[] {
  return attacks.flatMap((attack) => ["--", ...attack.args(targets)]);
}

function parse(attacks: readonly Attack[], stdout: string): Outcomes {
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.length, attacks.length, stdout);
  return new Map(
    lines.map((line) => {
      const [, index = "", outcome = ""] = /^(\d+) (.+)$/.exec(line) ?? [];
      const attack = attacks[Number(index)];
      assert.ok(attack, line);
      return [attack, outcome];
    }),
  );
}

describe("attacks", function () {
  this.timeout(120_000);
  let service: TestService;
  let host: Awaited<ReturnType<typeof hostProcess>>;
  let closers: (() => Promise<unknown>)[];
  let shared: Omit<Targets, "files">;
  /** Connections and datagrams that reached what is never granted. */
  const reached = { connections: 0, datagrams: 0 };

  async function listen(address: { host?: string; path?: string }): Promise<{ server: Server; port: string }> {
    const server = createServer((socket) => {
      if (address.host === "::") reached.connections++;
      // It ends with its client: a reset would hide from the client whom it had reached.
      socket.on("error", () => undefined).resume();
    });
    server.listen(address.path === undefined ? { port: 0, ...address } : address);
    await once(server, "listening");
    closers.push(async () => {
      server.close();
      await once(server, "close");
    });
    const bound = server.address();
    return { server, port: typeof bound === "object" && bound !== null ? `${bound.port}` : "" };
  }

  before(async () => {
    closers = [];
    service = await startTestService();
    host = await hostProcess({ detached: true });
    const open = await listen({ host: "127.0.0.1" });
    const target = await listen({ host: "::" });
    const datagrams: Socket = createSocket("udp4", () => reached.datagrams++).bind(Number(target.port), "127.0.0.1");
    await once(datagrams, "listening");
    closers.push(async () => {
      datagrams.close();
      await once(datagrams, "close");
    });
    const socket = join(service.directory, "host.sock");
    await listen({ path: socket });
    const abstract = `sandgate-attack-${process.pid}`;
    for (const args of [[abstract], [`${socket}.datagram`, "datagram"]]) {
      const meeting = startProcess(guestPath("meet"), args, { stdio: ["ignore", "pipe", "ignore"] });
      await once(meeting.stdout, "data");
      closers.push(async () => {
        meeting.kill("SIGKILL");
        await once(meeting, "exit");
      });
    }
    shared = {
      pid: host.pid,
      openPort: open.port,
      port: target.port,
      socket,
      endpoint: service.address.replace(/^unix:/, ""),
      abstract,
    };
    process.env.SANDGATE_ATTACK_SECRET = "secret";
  });
  after(async () => {
    delete process.env.SANDGATE_ATTACK_SECRET;
    for (const close of closers.reverse()) await close();
    await host[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
  });

  const targetsOf = (name: string): Targets => ({
    ...shared,
    files: makeFiles(join(service.directory, name.replaceAll(" ", "-"))),
  });

  async function inside(attacks: readonly Attack[], targets: Targets, spec: Spec): Promise<Outcomes> {
    const outcomes = new Map<Attack, string>();
    for (let first = 0; first < attacks.length; first += PER_RUN) {
      const part = attacks.slice(first, first + PER_RUN);
      const argv = [guestPath("attack"), ...commandOf(part, targets)];
      const { stdout, exit } = await run(service.client, { spec, process: { argv } });
      assert.deepEqual(exit.result, { case: "code", value: 0 }, stdout);
      for (const [attack, outcome] of parse(part, stdout)) outcomes.set(attack, outcome);
    }
    return outcomes;
  }

  for (const shape of SHAPES) {
    describe(`under a policy of ${shape}`, () => {
      const attacks = all.filter(({ granted }) => granted === undefined || !granted.includes(shape));
      let outcomes: Outcomes;
      let targets: Targets;
      const before_ = { ...reached };

      before(async function () {
        const { protections } = await service.client.server.getServerInfo({});
        if (shape === "another root" && protections.mount_namespace !== true) skip(this, "no mount namespaces here");
        Object.assign(before_, reached);
        targets = targetsOf(shape);
        outcomes = await inside(attacks, targets, specOf(shape, targets));
      });

      for (const { name, attacks: ofClass } of CLASSES) {
        const here = ofClass.filter((attack) => attacks.includes(attack));
        it(`keeps a program from ${here.length} attacks on ${name}`, function () {
          const escaped = here.filter((attack) => gotOut(attack, outcomes.get(attack)));
          const unknown = escaped.filter(({ known }) => known === undefined);
          assert.deepEqual(unknown.map(({ what }) => what), []); // biome-ignore format: one line
          const odd = here
            .map((attack) => [attack.what, outcomes.get(attack), attack.held] as const)
            .filter(([, outcome, held]) => /^(signal 14|no-process|unknown)$/.test(outcome ?? "") || (held !== undefined && outcome !== held)); // biome-ignore format: one line
          assert.deepEqual(odd, [], "an attack ended in another way than it should");
          if (escaped.length > 0) skip(this, reasons(escaped));
        });
      }

      it("and leaves no trace of them outside", () => {
        assert.equal(reached.connections, before_.connections, "the port that is never granted was reached");
        if (shape !== "all but one thing") assert.equal(reached.datagrams, before_.datagrams);
        assert.equal(readFileSync(join(targets.files, "secret/file"), "utf8"), SECRET);
        assert.equal(readFileSync(join(targets.files, "secret/doomed"), "utf8"), SECRET);
        assert.ok(isAlive(host.pid));
        assert.equal(statusOf(host.pid)?.state, "S");
      });
    });
  }

  describe("whose success shows outside alone", () => {
    const only = async (args: readonly string[], shape: Shape): Promise<void> => {
      const targets = targetsOf(`${shape} alone ${args[0]}`);
      await run(service.client, {
        spec: specOf(shape, targets),
        process: { argv: [guestPath("attack"), "--", ...args] },
      });
    };
    const freely = async (args: readonly string[]): Promise<void> => {
      await once(startProcess(guestPath("attack"), ["--", ...args], { stdio: "ignore" }), "exit");
    };

    it("leave no process behind", async () => {
      for (const shape of SHAPES) {
        const mark = `outlast-${process.pid}-${SHAPES.indexOf(shape)}`;
        await only(["daemonize", mark, guestPath("attack")], shape);
        // It is killed when the main process has ended, which Run tells at once.
        await eventually(`nothing is left: ${shape}`, () => withArgument(mark).length === 0);
      }
      const mark = `outlast-${process.pid}`;
      await freely(["daemonize", mark, guestPath("attack")]);
      await eventually("the daemon runs", () => withArgument(mark).length > 0);
      for (const { pid } of withArgument(mark)) process.kill(pid, "SIGKILL");
      await eventually("the daemon ended", () => withArgument(mark).length === 0);
    });

    it("signal nobody by owning a descriptor", async () => {
      await using victim = await hostProcess();
      for (const shape of SHAPES) await only(["signal-by-owner", `${victim.pid}`], shape);
      assert.ok(isAlive(victim.pid));
      await freely(["signal-by-owner", `${victim.pid}`]);
      await eventually("the signal came", () => !isAlive(victim.pid));
    });
  });

  describe("without a sandbox", () => {
    it("succeed where there is no sandbox, so that what keeps them inside is the sandbox", async () => {
      // It is traced and signalled.
      await using victim = await hostProcess({ detached: true });
      const targets = { ...targetsOf("outside"), pid: victim.pid };
      // Inheritable, as descriptors of a careless service would be.
      const extra = openSync("/dev/null", "r");
      const child = startProcess(guestPath("attack"), commandOf(all, targets), {
        stdio: ["ignore", "pipe", "inherit", extra],
      });
      let stdout = "";
      child.stdout?.on("data", (data: Buffer) => {
        stdout += data.toString();
      });
      await once(child, "close");
      closeSync(extra);
      const outcomes = parse(all, stdout);
      const failed = all
        .map((attack) => [attack, outcomes.get(attack) ?? ""] as const)
        .filter(([{ needsRoot }]) => isRoot || needsRoot === undefined)
        .filter(([{ lacking = [] }, outcome]) => outcome !== "ok" && !lacking.includes(outcome))
        .map(([{ what }, outcome]) => `${what}: ${outcome}`);
      assert.deepEqual(failed, []);
    });
  });
});

function gotOut({ accepted }: Attack, outcome: string | undefined): boolean {
  return outcome === "ok" && accepted === undefined;
}

function reasons(escaped: readonly Attack[]): string {
  const known = new Map<string, number>();
  for (const { known: reason = "" } of escaped) known.set(reason, (known.get(reason) ?? 0) + 1);
  return `known to get out: ${[...known].map(([reason, count]) => `${count} because ${reason}`).join("; ")}`;
}
