import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { ArgumentIntegrity, GrantScope } from "../../src/client/client.js";
import { cache, needPrograms } from "../clients/example.js";
import { allow, connectDecider, deny } from "../support/decider.js";
import { guestDirectory, guestPath, sources } from "../support/guests.js";
import { run, type Spec, spawn, startTestService, type TestService } from "../support/service.js";

const guest = guestPath("execute");
const allowed = guestPath("allowed");
const forbidden = guestPath("forbidden");
/** Guests have paths of one length, so that a thread can make one of the other. */
const ROUNDS = "80";
/** Of so many rounds each, at most, until a race was won by either side. */
const RUNS = 20;

const FROZEN = ArgumentIntegrity.FROZEN;

describe("an execve under a rule", () => {
  let service: TestService;
  /** Of the test that runs; the sandbox may write to it. */
  let files: string;
  let serial = 0;

  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());
  beforeEach(() => {
    files = join(service.directory, `files${++serial}`);
    mkdirSync(files);
    chmodSync(files, 0o777);
  });

  const place = (name: string, content: string): string => {
    const path = join(files, name);
    writeFileSync(path, content);
    chmodSync(path, 0o755);
    return path;
  };
  const copy = (from: string, name: string): string => {
    const path = join(files, name);
    mkdirSync(join(path, ".."), { recursive: true });
    copyFileSync(from, path);
    chmodSync(path, 0o755);
    return path;
  };

  const specOf = (...rules: NonNullable<Spec["rules"]>): Spec => ({
    filesystem: { readable: [guestDirectory, "/proc"], writable: [files] },
    rules,
  });
  const denying = (...programs: string[]): Spec => specOf({ name: "no", match: { programs }, action: deny(1) });

  async function inside(spec: Spec, ...argv: string[]) {
    const ran = await run(service.client, { spec, process: { argv, cwd: files } });
    const status = ran.exit.result.case === "code" ? ran.exit.result.value : `${ran.exit.result.case}`;
    return { ...ran, status };
  }

  /** What was not what had been judged was killed, and told of. */
  function takeReports(): void {
    for (const error of service.errors.splice(0)) assert.match(error, /started something else than what was judged/);
  }

  interface Counts {
    readonly allowed: number;
    readonly forbidden: number;
    readonly refused: number;
    readonly killed: number;
  }

  const NONE: Counts = { allowed: 0, forbidden: 0, refused: 0, killed: 0 };

  /** Where the threads meet is chance: on a quiet machine one of them can win a whole run. */
  async function racesUntil(
    isEnough: (sum: Counts) => boolean,
    runOnce: () => Counts | Promise<Counts>,
  ): Promise<Counts> {
    let sum = NONE;
    for (let done = 0; done < RUNS && !isEnough(sum); done++) {
      const { allowed: yes, forbidden: no, refused, killed } = await runOnce();
      sum = {
        allowed: sum.allowed + yes,
        forbidden: sum.forbidden + no,
        refused: sum.refused + refused,
        killed: sum.killed + killed,
      };
    }
    return sum;
  }

  /** The forbidden program never ran, although it was tried for, and the allowed one did. */
  async function isNeverWon(runOnce: () => Promise<Counts>): Promise<void> {
    const counts = await racesUntil(
      (sum) => sum.forbidden > 0 || (sum.allowed > 0 && sum.refused + sum.killed > 0),
      runOnce,
    );
    assert.equal(counts.forbidden, 0, JSON.stringify(counts));
    assert.ok(counts.allowed > 0 && counts.refused + counts.killed > 0, JSON.stringify(counts));
  }

  function countsOf(text: string): Counts {
    const [, yes, no, refused, killed] =
      /^allowed (\d+) forbidden (\d+) refused (\d+) killed (\d+)/.exec(text)?.map(Number) ?? assert.fail(text);
    return { allowed: yes ?? 0, forbidden: no ?? 0, refused: refused ?? 0, killed: killed ?? 0 };
  }

  async function race(spec: Spec, kind: string, one: string, other: string): Promise<Counts> {
    const { stdout } = await inside(spec, guest, "race", kind, one, other, ROUNDS);
    takeReports();
    return countsOf(stdout);
  }

  function raceOutside(kind: string, one: string, other: string): Counts {
    return countsOf(execFileSync(guest, ["race", kind, one, other, ROUNDS], { cwd: files, encoding: "utf8" }));
  }

  const RACES: Readonly<Record<string, string>> = {
    thread: "a thread that writes another path",
    shared: "another process that writes another path into shared memory",
    link: "another process that turns a link",
    directory: "a thread that changes the current directory",
    descriptor: "a thread that exchanges the descriptor",
    argument: "a thread that writes another argument",
    vector: "a thread that exchanges the pointer to an argument",
  };

  for (const [kind, who] of Object.entries(RACES)) {
    it(`is not fooled by ${who}`, async function () {
      this.timeout(120_000);
      const isWord = kind === "argument" || kind === "vector";
      let [one, other] = [copy(allowed, "one/program"), copy(forbidden, "two/program")];
      if (kind === "directory") [one, other] = [join(files, "one"), join(files, "two")];
      if (isWord) [one, other] = ["good", "evil"];
      const spec = isWord
        ? specOf({ name: "no evil", match: { programs: [guest], arguments: ["evil"] }, action: deny(1) })
        : denying(join(files, "two/*"));
      const fresh = () => {
        if (kind === "link") rmSync(join(files, "turned"), { force: true });
      };
      const bare = await racesUntil(
        (sum) => sum.allowed > 0 && sum.forbidden > 0,
        () => {
          fresh();
          return raceOutside(kind, one, other);
        },
      );
      assert.ok(bare.allowed > 0 && bare.forbidden > 0, `the race is none: ${JSON.stringify(bare)}`);
      await isNeverWon(() => {
        fresh();
        return race(spec, kind, one, other);
      });
    });
  }

  it("judges a script by its interpreter too, and lets it be allowed by its own name", async () => {
    const shell = realpathSync("/bin/sh");
    const script = place("script", "#! /bin/sh -e\necho ran as $0 with $1\n");
    const start = ["/bin/sh", "-c", `${script} this; echo status $?`];
    assert.equal((await inside(denying(forbidden), ...start)).stdout, `ran as ${script} with this\nstatus 0\n`);
    assert.equal((await inside(denying(shell), ...start)).stdout, "status 126\n");
    assert.equal((await inside(denying(script), ...start)).stdout, "status 126\n");
    const only = specOf(
      { name: "yes", match: { programs: [script] }, action: allow },
      { name: "nothing else", match: { programs: ["/**"] }, action: deny(13) },
    );
    assert.equal((await inside(only, ...start)).stdout, `ran as ${script} with this\nstatus 0\n`);
    assert.equal((await inside(only, "/bin/sh", "-c", `${shell} -c :; echo status $?`)).stdout, "status 126\n");
  });

  it("takes a script for no more than its interpreter where another could be put under its name", async () => {
    const fixed = join(service.directory, `fixed${serial}`);
    mkdirSync(fixed);
    const script = join(fixed, "script");
    writeFileSync(script, "#!/bin/sh\necho ran\n");
    chmodSync(script, 0o755);
    symlinkSync(script, join(files, "alias"));
    const base = specOf(
      { name: "yes", match: { programs: [script] }, action: allow },
      { name: "nothing else", match: { programs: ["/**"] }, action: deny(13) },
    );
    const spec = { ...base, filesystem: { ...base.filesystem, readable: [fixed] } };
    assert.equal((await inside(spec, "/bin/sh", "-c", script)).stdout, "ran\n");
    assert.equal((await inside(spec, "/bin/sh", "-c", join(files, "alias"))).stdout, "");
    const [yes, no] = base.rules ?? [];
    const both = { name: "both", match: { programs: [script, realpathSync("/bin/sh")] }, action: allow };
    assert.ok(yes !== undefined && no !== undefined);
    const wider = { ...spec, rules: [yes, both, no] };
    assert.equal((await inside(wider, "/bin/sh", "-c", join(files, "alias"))).stdout, "ran\n");
  });

  it("by a descriptor or from a directory is judged by the file that it reaches", async () => {
    for (const how of ["fexecve", "execveat"]) {
      assert.equal((await inside(denying(forbidden), guest, how, allowed)).status, 10);
      const refused = await inside(denying(forbidden), guest, how, forbidden);
      assert.deepEqual([refused.status, refused.stdout], [1, `${how}: EPERM\n`]);
    }
  });

  it("shows a decider arguments that are frozen, and an allowance of them can be remembered", async () => {
    const script = place("script", `#!${allowed} line\n`);
    const held: Spec = { ...specOf(), holds: { triggers: [{ syscalls: ["execve"], requiredIntegrity: FROZEN }] } };
    await using decider = await connectDecider(service.client, {
      judge: () => allow,
      remember: { scope: GrantScope.SANDBOX, match: { case: "sameCall", value: {} } },
    });
    const { stdout } = await inside(held, "/bin/sh", "-c", `for i in 1 2 3; do ${script} on; echo $?; done`);
    assert.equal(stdout, "10\n10\n10\n");
    const [call, ...more] = decider.calls;
    assert.ok(call?.detail.case === "exec" && more.length === 0);
    assert.equal(call.integrity, FROZEN);
    assert.deepEqual(
      call.detail.value.interpreters.map(({ text }) => text),
      [allowed],
    );
  });

  it("is racy where the policy does without being verified, and refused where it may not be", async () => {
    const racy: Spec = { ...specOf(), protections: { disabled: ["exec_verify"] } };
    const held = (requiredIntegrity: ArgumentIntegrity): Spec => ({
      ...racy,
      holds: { triggers: [{ syscalls: ["execve"], requiredIntegrity }] },
    });
    await using decider = await connectDecider(service.client, { judge: () => allow });
    assert.equal((await inside(held(ArgumentIntegrity.RACY), "/bin/sh", "-c", `${allowed}; exit $?`)).status, 10);
    assert.equal(decider.calls[0]?.integrity, ArgumentIntegrity.RACY);
    const [one, other] = [copy(allowed, "one/program"), copy(forbidden, "two/program")];
    const unseen = { ...denying(join(files, "two/*")), protections: racy.protections ?? {} };
    const won = await racesUntil(
      (sum) => sum.forbidden > 0,
      () => race(unseen, "thread", one, other),
    );
    assert.ok(won.forbidden > 0, "a race that is not looked at can be won");
    await assert.rejects(inside(held(FROZEN), allowed), /required_integrity: the arguments of execve are racy/);
  });

  it("judges no more arguments than it can read, and compares those", async () => {
    const long = `${guest} said good $(seq 30000)`;
    const spec = specOf({ name: "no", match: { programs: [guest], arguments: ["never"] }, action: deny(1) });
    assert.equal((await inside(denying(forbidden), "/bin/sh", "-c", `${long}; exit $?`)).status, 10);
    assert.equal((await inside(spec, "/bin/sh", "-c", `${long}; exit $?`)).status, 126, "what is cut may be there");
  });

  it("goes on where the sandbox is paused and resumed meanwhile", async function () {
    this.timeout(120_000);
    const argv = [guest, "spawn", "fork", "4", "100", allowed];
    await using sandbox = await spawn(service.client, { spec: denying(forbidden), process: { argv, cwd: files } });
    const { sandboxId } = sandbox;
    for (let pauses = 0; pauses < 10; pauses++) {
      try {
        await service.client.sandbox.pauseSandbox({ sandboxId });
        await service.client.sandbox.resumeSandbox({ sandboxId });
      } catch (error) {
        assert.match(String(error), /ended/);
      }
    }
    assert.equal(await sandbox.exit(), "code 0, self");
    assert.equal(sandbox.stdout, "400 ran\n");
  });

  const ELSEWHERE: Readonly<Record<string, (spec: Spec) => Spec>> = {
    "a PID namespace": (spec) => ({ ...spec, checkpointable: true }),
    "a /proc of its own": (spec) => ({ ...spec, filesystem: { ...spec.filesystem, privateProc: true } }),
    "an executable tree": (spec) => ({
      ...spec,
      filesystem: { ...spec.filesystem, readable: [], executable: [guestDirectory] },
    }),
  };
  for (const [where, change] of Object.entries(ELSEWHERE)) {
    it(`is judged in a sandbox with ${where}`, async function () {
      this.timeout(120_000);
      const broken = place("broken", "");
      const { stdout } = await inside(change(denying(forbidden)), guest, "storm", "4", "20", broken, allowed);
      assert.equal(stdout, "20 ran\n");
      const [one, other] = [copy(allowed, "one/program"), copy(forbidden, "two/program")];
      await isNeverWon(() => race(change(denying(join(files, "two/*"))), "thread", one, other));
    });
  }

  describe("of a program with many threads", () => {
    const FEW = 4;
    const spec = () => denying(forbidden);

    for (const how of ["fork", "vfork", "spawn"]) {
      it(`starts every program by ${how}, while signals arrive`, async function () {
        this.timeout(120_000);
        const { stdout } = await inside(spec(), guest, "spawn", how, `${FEW}`, "100", allowed);
        assert.equal(stdout, "400 ran\n");
      });
    }

    it("starts one of all that its threads execute at once, after what fails", async function () {
      this.timeout(120_000);
      const { stdout } = await inside(spec(), guest, "storm", `${FEW}`, "50", place("broken", ""), allowed);
      assert.equal(stdout, "50 ran\n");
    });

    /** What runtimes start, from as many threads as they have. */
    const RUNTIMES: Readonly<Record<string, (program: string) => readonly string[]>> = {
      "/usr/bin/python3": (program) => [
        "-c",
        `import subprocess, concurrent.futures as f
with f.ThreadPoolExecutor(4) as pool:
    codes = list(pool.map(lambda _: subprocess.call(["${program}"]), range(200)))
print(codes.count(10))`,
      ],
      "/usr/bin/node": (program) => [
        "-e",
        `const { spawn } = require("node:child_process");
let ran = 0, ended = 0;
for (let i = 0; i < 200; i++)
  spawn("${program}").on("exit", (code) => { ran += code === 10; if (++ended === 200) console.log(ran); });`,
      ],
      "/usr/bin/perl": (program) => [
        "-e",
        `my $ran = 0; for (1..200) { $ran += system("${program}") == 2560 } print "$ran\n";`,
      ],
    };
    for (const [runtime, argumentsFor] of Object.entries(RUNTIMES)) {
      it(`runs ${runtime} with two hundred children`, async function () {
        this.timeout(120_000);
        if (!existsSync(runtime)) this.skip();
        const { stdout, stderr } = await inside(spec(), runtime, ...argumentsFor(allowed));
        assert.equal(stdout, "200\n", stderr);
      });
    }

    it("runs a Go program with two hundred children", async function () {
      this.timeout(180_000);
      needPrograms(this, ["go", "version"]);
      const built = join(cache, "spawner");
      mkdirSync(cache, { recursive: true });
      execFileSync("go", ["build", "-o", built, join(sources, "spawner.go")], {
        env: { ...process.env, CGO_ENABLED: "0" },
      });
      const { stdout, stderr } = await inside(spec(), copy(built, "spawner"), allowed);
      assert.equal(stdout, "200\n", stderr);
    });

    it("runs a Java program with two hundred children", async function () {
      this.timeout(180_000);
      needPrograms(this, ["java", "--list-modules"], ["javac", "--version"]);
      copyFileSync(join(sources, "Spawner.java"), join(files, "Spawner.java"));
      execFileSync("javac", [join(files, "Spawner.java")]);
      const java = realpathSync(execFileSync("sh", ["-c", "command -v java"], { encoding: "utf8" }).trim());
      const options = ["-XX:-UsePerfData", "-Xmx64m", "-Xshare:auto", "-XX:TieredStopAtLevel=1"];
      const { stdout, stderr } = await inside(spec(), java, ...options, "-cp", files, "Spawner", allowed);
      assert.equal(stdout, "200\n", stderr);
    });
  });
});
