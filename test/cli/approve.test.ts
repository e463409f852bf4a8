import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type RunningCommand,
  type ServedService,
  sandgate,
  serveService,
  startSandgate,
  temporaryDirectory,
} from "./command.js";

interface ListedCall {
  readonly holdId: string;
  readonly task: { readonly sandboxId: string };
  readonly file?: { readonly path: { readonly text: string } };
}

describe("sandgate approve", function () {
  this.timeout(30_000);
  let service: ServedService;
  let env: Record<string, string>;
  let directory: ReturnType<typeof temporaryDirectory>;
  const running: RunningCommand[] = [];

  before(async () => {
    service = await serveService();
    env = { SANDGATE_ADDRESS: service.address };
    directory = temporaryDirectory();
  });

  afterEach(async () => {
    for (const { child, result } of running.splice(0)) {
      child.kill("SIGKILL");
      await result;
    }
  });

  after(async () => {
    directory[Symbol.dispose]();
    await service[Symbol.asyncDispose]();
  });

  function start(...args: readonly string[]): RunningCommand {
    const command = startSandgate(args, { env });
    running.push(command);
    return command;
  }

  /** Runs a shell script whose writes wait for an answer. */
  function held(script: string): RunningCommand {
    return start("run", "--hold", "60s", "--", "sh", "-c", script);
  }

  const pathOf = (name: string) => join(directory.path, name);

  async function approve(...args: readonly string[]) {
    return await sandgate(["approve", ...args], { env });
  }

  /** The call about this file, as soon as it waits. */
  async function waiting(name: string): Promise<ListedCall> {
    const watching = start("watch", "--json", "--since", "oldest", "--kind", "call_held");
    await watching.until("stdout", pathOf(name));
    watching.child.kill("SIGINT");
    await watching.result;
    const { stdout } = await approve("--json");
    const calls: ListedCall[] = stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
    const call = calls.find(({ file }) => file?.path.text === pathOf(name));
    assert.ok(call !== undefined, stdout);
    return call;
  }

  it("lists what waits, and lets go on or refuses what is named", async () => {
    const command = held(`echo a > ${pathOf("yes")}; echo b > ${pathOf("no")}; echo end`);
    const yes = await waiting("yes");
    const { stdout: table } = await approve();
    assert.match(
      table,
      new RegExp(`^${yes.holdId} +run-\\S+ +\\d+\\w+ +sh \\(pid \\d+\\) wants to create \\S+/yes$`, "m"),
    );
    const { sandboxId } = yes.task;
    assert.doesNotMatch((await approve("--sandbox", "another")).stdout, /yes/);
    assert.match((await approve("--sandbox", sandboxId)).stdout, /yes/);
    assert.match((await approve(yes.holdId)).stdout, /^allowed to create \S+\/yes$/m);

    const no = await waiting("no");
    assert.match((await approve("--deny", no.holdId)).stdout, /^not allowed to create \S+\/no$/m);
    const { stdout, stderr } = await command.result;
    assert.equal(stdout, "end\n");
    assert.match(stderr, /cannot create \S+\/no: Operation not permitted/);
    assert.deepEqual([existsSync(pathOf("yes")), existsSync(pathOf("no"))], [true, false]);

    const late = await approve(yes.holdId, no.holdId);
    assert.equal(late.status, 125);
    assert.equal(late.stderr.match(/no such call waits any more/g)?.length, 2);
  });

  it("remembers for the executable, so that an equal call is not asked about again", async () => {
    writeFileSync(pathOf("again"), "");
    const command = held(`for i in 1 2 3; do echo $i > ${pathOf("again")} || exit 1; done; echo done`);
    assert.match((await approve("--remember", (await waiting("again")).holdId)).stdout, /^allowed from now on to open/);
    const { status, stdout } = await command.result;
    assert.deepEqual([status, stdout], [0, "done\n"]);
  });

  it("asks for each as it comes, until it is interrupted", async () => {
    writeFileSync(pathOf("answers"), "allow\ndeny\n");
    const following = start("approve", "--follow", "--answers", pathOf("answers"));
    const command = held(`echo a > ${pathOf("first")}; echo b > ${pathOf("second")}; echo end`);
    await following.until("stderr", /wants to create \S+\/second/);
    const { stdout } = await command.result;
    assert.equal(stdout, "end\n");
    assert.deepEqual([existsSync(pathOf("first")), existsSync(pathOf("second"))], [true, false]);
    assert.match(await following.until("stderr", /run-/), /run-[0-9a-f-]+ · \S+ · open/);
    following.child.kill("SIGINT");
    assert.equal((await following.result).status, 0);
    assert.match((await approve("--follow")).stderr, /no terminal to ask at/);
  });

  it("kills the sandbox of a call", async () => {
    const command = held(`echo a > ${pathOf("killed")}; echo never`);
    const { holdId } = await waiting("killed");
    const { status, stdout } = await approve("--kill", "--json", holdId);
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), { holdId, answer: "kill" });
    const result = await command.result;
    assert.deepEqual([result.status, result.stdout], [137, ""]);
  });

  it("says what makes no sense", async () => {
    assert.match((await approve("--deny")).stderr, /say which calls/);
    assert.match((await approve("seventeen")).stderr, /write the number of a call, such as 17/);
    assert.match((await approve("--deny", "--kill", "1")).stderr, /choose one of/);
    assert.match((await approve("--follow", "1")).stderr, /leave out numbers/);
  });

  it("refuses what nobody answered in time", async () => {
    const file = pathOf("late");
    const { stdout, stderr } = await sandgate(
      ["run", "--hold", "200ms", "--", "sh", "-c", `echo a > ${file}; echo end`],
      {
        env,
      },
    );
    assert.equal(stdout, "end\n");
    assert.match(stderr, /cannot create \S+\/late: Operation not permitted/);
    assert.equal(existsSync(file), false);
  });
});
