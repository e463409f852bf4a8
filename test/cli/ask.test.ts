import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  commandPath,
  greetingListener,
  type RunningCommand,
  sandgate,
  startCommand,
  startSandgate,
  temporaryDirectory,
} from "./command.js";

/** Runs a script of a shell with these answers. */
async function asked(script: string, answers: readonly string[], shell = "sh") {
  using directory = temporaryDirectory();
  const file = join(directory.path, "answers");
  writeFileSync(file, answers.map((answer) => `${answer}\n`).join(""));
  return await sandgate(["run", "--answers", file, "--", shell, "-c", script]);
}

describe("sandgate run --ask", function () {
  this.timeout(30_000);

  it("runs a program that was allowed and refuses one that was denied", async () => {
    const { stdout, stderr } = await asked("/bin/echo one; /bin/echo two; echo end", ["allow", "deny"]);
    assert.equal(stdout, "one\nend\n");
    assert.match(stderr, /sh \(pid \d+\) wants to run \S+ as \/bin\/echo one\n/);
    assert.match(stderr, /wants to run \S+ as \/bin\/echo two\n/);
    assert.match(stderr, /echo: Operation not permitted/);
  });

  it("opens a file for writing that was allowed and refuses one that was denied", async () => {
    using directory = temporaryDirectory();
    const [yes, no] = [join(directory.path, "yes"), join(directory.path, "no")];
    const { stderr } = await asked(`echo a > ${yes}; echo b > ${no}`, ["allow", "deny"]);
    assert.match(stderr, /wants to create \S+\/yes\n/);
    assert.match(stderr, /cannot create \S+\/no: Operation not permitted/);
    assert.deepEqual([existsSync(yes), existsSync(no)], [true, false]);
  });

  it("connects where it was allowed, refuses where it was denied, and does not ask again what it remembers", async () => {
    await using listener = await greetingListener();
    const script = `for host in 127.0.0.1 127.0.0.2 127.0.0.1 127.0.0.1; do
      if read -r line </dev/tcp/$host/${listener.port}; then echo $host $line; else echo $host refused; fi; done`;
    const { stdout, stderr } = await asked(script, ["allow", "deny", "remember"], "bash");
    assert.equal(stdout, "127.0.0.1 hello\n127.0.0.2 refused\n127.0.0.1 hello\n127.0.0.1 hello\n");
    assert.equal(stderr.match(/wants to connect to 127\.0\.0\.\d:\d+ over TCP/g)?.length, 3);
  });

  it("kills the program on request", async () => {
    const { status, stdout, stderr } = await asked("echo before; /bin/echo never; echo after", ["kill"]);
    assert.deepEqual([status, stdout], [137, "before\n"]);
    assert.match(stderr, /killed by a verdict/);
  });

  it("denies what is no answer, and everything once the answers are used up", async () => {
    const { stdout, stderr } = await asked("/bin/echo one; /bin/echo two; /bin/echo three; echo end", ["perhaps"]);
    assert.equal(stdout, "end\n");
    assert.match(stderr, /"perhaps" is no answer: denied/);
    assert.equal(stderr.match(/there is nobody to ask/g)?.length, 1);
  });

  it("denies where there is nobody to ask, and says so once", async () => {
    const { stdout, stderr } = await sandgate([
      "run",
      "--ask",
      "--",
      "sh",
      "-c",
      "/bin/echo one; /bin/echo two; echo end",
    ]);
    assert.equal(stdout, "end\n");
    assert.equal(stderr.match(/there is nobody to ask/g)?.length, 1);
  });

  it("reads answers as they are written, before the program's own output that depends on them", async () => {
    const command = startSandgate(["run", "--answers", "-", "--", "sh", "-c", "/bin/echo one; /bin/echo two"]);
    await command.until("stderr", "echo one\n");
    command.write("allow\n");
    await command.until("stdout", "one\n");
    await command.until("stderr", "echo two\n");
    command.write("allow\n");
    command.child.stdin?.end();
    assert.equal((await command.result).stdout, "one\ntwo\n");
  });
});

describe("sandgate run --ask at a terminal", function () {
  this.timeout(30_000);

  before(function () {
    // script(1) of util-linux makes the terminal that a person would sit at.
    if (spawnSync("script", ["--version"]).error !== undefined) {
      process.stderr.write("skipped: script(1) of util-linux is not installed\n");
      this.skip();
    }
  });

  function atTerminal(...args: readonly string[]): RunningCommand {
    const line = [process.execPath, commandPath, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(" ");
    return startCommand("script", ["--quiet", "--return", "--flush", "--command", line, "/dev/null"], {
      env: { TERM: "dumb", SHELL: "/bin/sh" },
    });
  }

  const prompt = "[k]ill ? ";

  it("asks between the program's own reads from the same terminal, and gives each line to whom it was typed for", async () => {
    const command = atTerminal(
      "run",
      "--ask",
      "--",
      "sh",
      "-c",
      "echo ready; read x; /bin/echo got $x; read y; echo then $y",
    );
    await command.until("stdout", "ready");
    command.write("first\r");
    await command.until("stdout", prompt);
    command.write("what\r");
    await command.until("stdout", "type a, r, d or k");
    command.write("a\r");
    await command.until("stdout", "got first\r\n");
    command.write("second\r");
    const { status, stdout } = await command.result;
    assert.equal(status, 0);
    assert.match(stdout, /then second/);
  });

  it("asks at the terminal although the program runs on pipes", async () => {
    const command = atTerminal("run", "--ask", "--no-tty", "--", "sh", "-c", "/bin/echo never; read x; echo then $x");
    await command.until("stdout", prompt);
    command.write("d\r");
    await command.until("stdout", "Operation not permitted");
    command.write("line\r");
    assert.match((await command.result).stdout, /then line/);
  });

  it("takes Ctrl-C at a question for a refusal, and passes it on", async () => {
    const script = "trap 'echo interrupted' INT; /bin/echo never; echo end";
    const command = atTerminal("run", "--ask", "--no-tty", "--", "sh", "-c", script);
    await command.until("stdout", prompt);
    command.write("\u0003");
    const { stdout } = await command.result;
    assert.match(stdout, /Operation not permitted/);
    assert.match(stdout, /interrupted/);
    assert.match(stdout, /end/);
    assert.ok(!stdout.split(/\r?\n/).includes("never"), stdout);
  });

  it("gives the program a terminal of the same size", async () => {
    const command = atTerminal("run", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size");
    assert.match((await command.result).stdout, /^[1-9]\d* [1-9]\d*\r\n$/);
  });
});
