import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type RunningCommand,
  type ServedService,
  sandgate,
  serveService,
  startSandgate,
  temporaryDirectory,
} from "./command.js";

describe("the commands for a running service", function () {
  this.timeout(30_000);
  let service: ServedService;
  let env: Record<string, string>;
  const running: RunningCommand[] = [];

  before(async () => {
    service = await serveService();
    env = { SANDGATE_ADDRESS: service.address };
  });

  afterEach(async () => {
    for (const { child, result } of running.splice(0)) {
      child.kill("SIGKILL");
      await result;
    }
  });

  after(async () => {
    await service[Symbol.asyncDispose]();
  });

  function start(...args: readonly string[]): RunningCommand {
    const command = startSandgate(args, { env });
    running.push(command);
    return command;
  }

  async function detached(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await sandgate(["run", "--detach", ...args], { env });
    assert.equal(status, 0, stderr);
    return stdout.trim();
  }

  async function jsonOf(...args: readonly string[]) {
    const { status, stdout, stderr } = await sandgate([...args, "--json"], { env });
    assert.equal(status, 0, stderr);
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  }

  it("runs a program on the service, which forgets it afterwards", async () => {
    const { status, stdout } = await sandgate(["run", "--", "echo", "there"], { env });
    assert.deepEqual([status, stdout], [0, "there\n"]);
    assert.deepEqual(await jsonOf("ps", "--all"), []);
  });

  it("lists, inspects and ends a sandbox", async () => {
    const id = await detached("--name", "sleeper", "--label", "team=ci", "--", "sleep", "600");
    const [listed, ...others] = await jsonOf("ps");
    assert.deepEqual([listed.sandboxId, listed.state, others.length], [id, "SANDBOX_STATE_RUNNING", 0]);
    assert.match(
      (await sandgate(["ps"], { env })).stdout,
      new RegExp(`^${id} +running +\\d+\\w+ +0 +sleeper +sleep 600$`, "m"),
    );
    assert.equal((await jsonOf("ps", "--label", "team=other")).length, 0);
    assert.equal((await jsonOf("ps", "--label", "team=ci")).length, 1);

    const [inspected] = await jsonOf("inspect", id);
    assert.deepEqual(inspected.processes[0].spec.argv, ["sleep", "600"]);
    const text = (await sandgate(["inspect", id], { env })).stdout;
    assert.match(text, /state +running/);
    assert.match(text, /landlock_fs +active/);

    assert.equal((await sandgate(["kill", "--grace", "0s", id], { env })).status, 0);
    const [ended] = await jsonOf("ps", "--all");
    assert.deepEqual([ended.sandboxId, ended.state], [id, "SANDBOX_STATE_ENDED"]);
  });

  it("sends one signal to every process of a sandbox", async () => {
    const command = start(
      "run",
      "--",
      "sh",
      "-c",
      "trap 'echo got usr1' USR1; echo ready; while :; do read -r _ || exit 0; done",
    );
    await command.until("stdout", "ready");
    const [{ sandboxId }] = await jsonOf("ps");
    const killed = await sandgate(["kill", "--signal", "USR1", sandboxId], { env });
    assert.equal(killed.status, 0, killed.stderr);
    command.write("\n");
    await command.until("stdout", "got usr1");
    command.child.stdin?.end();
    assert.equal((await command.result).status, 0);
  });

  it("starts one more process in a sandbox, which sees the first one's files and ends as it likes", async () => {
    using directory = temporaryDirectory();
    const id = await detached("--write", directory.path, "--", "sleep", "600");
    const script = `echo inside > ${directory.path}/file && cat ${directory.path}/file && cat; exit 9`;
    const { status, stdout, stderr } = await sandgate(["exec", id, "--", "sh", "-c", script], {
      env,
      input: "piped\n",
    });
    assert.deepEqual([status, stdout], [9, "inside\npiped\n"], stderr);
    const refused = await sandgate(["exec", id, "--", "sh", "-c", `echo x > ${directory.path}/../x`], { env });
    assert.match(refused.stderr, /(Permission denied|Read-only file system)/);
    await sandgate(["kill", "--grace", "0s", id], { env });
  });

  it("attaches to a running process and leaves it running", async () => {
    const first = start("run", "--", "sh", "-c", "echo ready; while read -r x; do echo line $x; done");
    await first.until("stdout", "ready");
    const [{ sandboxId }] = await jsonOf("ps");
    const second = start("attach", "--no-stdin", sandboxId);
    // The attachment begins with what comes from then on, and does not say when that is.
    let attached = false;
    const seen = second.until("stdout", "line").then(() => {
      attached = true;
    });
    for (let line = 1; !attached; line++) {
      first.write(`${line}\n`);
      await first.until("stdout", `line ${line}\n`);
    }
    await seen;
    second.child.kill("SIGTERM");
    await second.result;
    first.child.stdin?.end();
    assert.equal((await first.result).status, 0);
  });

  it("shows events as they happen, and again from a cursor", async () => {
    const watching = start("watch", "--json", "--since", "oldest", "--kind", "process_ended");
    await sandgate(["run", "--", "sh", "-c", "exit 6"], { env });
    const text = await watching.until("stdout", /"code":6/);
    const events = text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
    assert.ok(events.every((event) => event.processEnded !== undefined));
    const [first] = events;
    watching.child.kill("SIGINT");
    assert.equal((await watching.result).status, 0);

    const again = start("watch", "--json", "--since", first.cursor);
    const later = JSON.parse((await again.until("stdout", "\n")).split("\n")[0] ?? "");
    assert.equal(BigInt(later.sequence), BigInt(first.sequence) + 1n);
  });

  it("shows held and settled calls to a person in one line each", async () => {
    const watching = start("watch", "--since", "oldest", "--kind", "call_held", "--kind", "call_settled");
    using directory = temporaryDirectory();
    writeFileSync(join(directory.path, "answers"), "deny\n");
    const name = "$(printf '/tmp/\\033[31m')";
    await sandgate(["run", "--answers", join(directory.path, "answers"), "--", "bash", "-c", `echo x > "${name}"`], {
      env,
    });
    const text = await watching.until("stdout", /denied .*by decider terminal/);
    assert.match(text, /held bash \(pid \d+\) wants to create '\/tmp\/\\x1b\[31m'/);
    assert.ok(!text.includes("\u001b"));
  });

  it("shows only what its filters choose, with the fields that were named, and equal verdicts as one", async () => {
    using directory = temporaryDirectory();
    const answers = join(directory.path, "answers");
    writeFileSync(answers, "deny\n".repeat(4));
    const filter = ["--since", "oldest", "--refused", "--category", "file", "--path", `${directory.path}/*`];
    const label = `watched=${directory.path}`;
    const watching = start("watch", "--json", ...filter, "--label", label, "--every", "200ms");
    const script = `for i in 1 2 3; do : > ${directory.path}/same; done; : > ${directory.path}/other`;
    await sandgate(["run", "--label", label, "--answers", answers, "--", "bash", "-c", script], { env });
    const text = await watching.until("stdout", /other/);
    const counts = new Map<string, number>();
    for (const line of text.split("\n").filter((each) => each !== "")) {
      const { count = "1", callSettled } = JSON.parse(line);
      const path = callSettled.call.file.path.text;
      counts.set(path, (counts.get(path) ?? 0) + Number(count));
    }
    assert.deepEqual(
      [...counts],
      [
        [`${directory.path}/same`, 3],
        [`${directory.path}/other`, 1],
      ],
    );
    const fields = ["--fields", "sequence,call_settled.source"];
    const masked = start("watch", "--json", ...filter, "--label", label, ...fields, "--exclude", "call_held");
    const [line] = (await masked.until("stdout", "\n")).split("\n");
    const { cursor, sequence, ...rest } = JSON.parse(line ?? "");
    assert.deepEqual(rest, { callSettled: { source: "VERDICT_SOURCE_DECIDER" } });
    assert.ok(cursor.endsWith(`:${sequence}`));
    for (const watcher of [watching, masked]) watcher.child.kill("SIGINT");
    await Promise.all([watching.result, masked.result]);
    const { stderr } = await sandgate(["watch", "--fields", "callSettled"], { env });
    assert.match(stderr, /read_mask: "callSettled": Event has no field/);
  });

  it("tells of a sandbox that is not there, and of a cursor and a kind that make no sense", async () => {
    const { status, stderr } = await sandgate(["inspect", "nothing"], { env });
    assert.equal(status, 125);
    assert.match(stderr, /^sandgate: .*nothing.*sandgate ps"\n$/);
    assert.match((await sandgate(["watch", "--since", "yesterday"], { env })).stderr, /write EPOCH:SEQUENCE/);
    assert.match(
      (await sandgate(["watch", "--kind", "nope"], { env })).stderr,
      /--kind nope: write one of sandbox_changed,/,
    );
  });
});

describe("sandgate serve", function () {
  this.timeout(30_000);

  it("listens on a socket that only its user can reach, says when it is ready, and drains on SIGTERM", async () => {
    const service = await serveService();
    const path = service.address.slice("unix:".length);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const env = { SANDGATE_ADDRESS: service.address };
    const client = startSandgate(["run", "--", "sh", "-c", "echo ready; sleep 600"], { env });
    await client.until("stdout", "ready");
    service.command.child.kill("SIGTERM");
    const { status, stderr } = await service.command.result;
    assert.equal(status, 0);
    const messages = stderr
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line).msg);
    assert.deepEqual([messages[0], messages.at(-1)], ["ready", "stopped"]);
    assert.throws(() => statSync(path), /ENOENT/);
    assert.notEqual((await client.result).status, 0);
    await service[Symbol.asyncDispose]();
  });

  it("refuses a TCP port without a token, and with one admits only those who know it", async () => {
    const open = await sandgate(["serve", "--listen", "tcp:127.0.0.1:0"]);
    assert.equal(open.status, 125);
    assert.match(open.stderr, /name a --token-file, or accept it with --anonymous/);

    using directory = temporaryDirectory();
    const file = join(directory.path, "token");
    writeFileSync(file, "correct horse\n", { mode: 0o600 });
    const command = startSandgate(["serve", "--listen", "tcp:127.0.0.1:0", "--token-file", file]);
    const address = /ready (\S+)/.exec(await command.until("stdout", "\n"))?.[1] ?? "";
    const refused = await sandgate(["ps", "--address", address]);
    assert.equal(refused.status, 125);
    assert.match(refused.stderr, /token/);
    assert.equal((await sandgate(["ps", "--address", address], { env: { SANDGATE_TOKEN_FILE: file } })).status, 0);
    command.child.kill("SIGTERM");
    assert.equal((await command.result).status, 0);
  });

  it("writes events to a file, as the command line says rather than its settings, and names a size that is none", async () => {
    using directory = temporaryDirectory();
    const config = join(directory.path, "sandgate.toml");
    const file = join(directory.path, "events.jsonl");
    writeFileSync(config, `events_file = "${directory.path}/other"\nevents_size = "1MiB"\nevents_sync = "write"\n`);
    const listen = ["--listen", `unix:${directory.path}/socket`];
    const command = startSandgate([
      "serve",
      "--config",
      config,
      "--events-file",
      file,
      "--metrics",
      "127.0.0.1:0",
      ...listen,
    ]);
    const address = /ready (\S+)/.exec(await command.until("stdout", "\n"))?.[1] ?? "";
    const figures = /http:[^"]+/.exec(await command.until("stderr", '"metrics":"http'))?.[0] ?? "";
    assert.match(await (await fetch(figures)).text(), /^sandgate_watchers 1$/m, "the file is one");
    assert.equal((await sandgate(["run", "--address", address, "--", "sh", "-c", "exit 3"])).status, 3);
    command.child.kill("SIGTERM");
    assert.equal((await command.result).status, 0);
    assert.match(readFileSync(file, "utf8"), /"processEnded":\{"exit":\{"code":3,/);
    const { status, stderr } = await sandgate(["serve", "--events-file", file, "--events-size", "much"]);
    assert.equal(status, 125);
    assert.match(stderr, /^sandgate: --events-size much: "much" is not a size: write 512k, 64MiB or 1.5G\n$/);
  });

  it("names the line of a mistake in its settings", async () => {
    using directory = temporaryDirectory();
    const file = join(directory.path, "sandgate.toml");
    writeFileSync(file, 'grace = "1s"\n\ngrase = 1\n');
    const { status, stderr } = await sandgate(["serve", "--config", file]);
    assert.equal(status, 125);
    assert.match(stderr, new RegExp(`^sandgate: ${file}:3: grase: unknown key; the keys are listen,`));
  });
});

describe("sandgate check", function () {
  this.timeout(30_000);

  it("looks at the host without a running service, for people and for programs", async () => {
    const { status, stdout } = await sandgate(["check"]);
    assert.equal(status, 0);
    assert.match(stdout, /^sandgate \S+ on Linux \S+\n/);
    assert.match(stdout, /^(yes|no ) {2}seccomp_notify /m);
    const info = JSON.parse((await sandgate(["check", "--json"])).stdout);
    const feature = info.host.find(({ name }: { name: string }) => name === "seccomp_notify");
    assert.equal(typeof feature.available, "boolean");
    assert.ok(feature.available || feature.remedy !== "");
  });
});
