import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { skip } from "../support/service.js";
import { greetingListener, sandgate, startSandgate, temporaryDirectory } from "./command.js";

describe("sandgate run", function () {
  this.timeout(30_000);

  it("passes on what the program writes and how it ended", async () => {
    const { status, stdout, stderr } = await sandgate(["run", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert.deepEqual({ status, stdout, stderr }, { status: 3, stdout: "out\n", stderr: "err\n" });
    assert.equal((await sandgate(["run", "--", "sh", "-c", "kill -9 $$"])).status, 137);
  });

  it("passes on its input to the last byte, and its end", async () => {
    const input = randomBytes(3 << 20);
    const { status, stdout } = await sandgate(["run", "--", "sha256sum"], { input });
    assert.equal(status, 0);
    assert.equal(stdout, `${createHash("sha256").update(input).digest("hex")}  -\n`);
  });

  it("ends a program that is not done in time with 124, and leaves one that is alone", async () => {
    const late = await sandgate(["run", "--timeout", "300ms", "--", "sleep", "60"]);
    assert.equal(late.status, 124);
    assert.match(late.stderr, /ended by a limit/);
    assert.equal((await sandgate(["run", "--timeout", "20s", "--", "true"])).status, 0);
  });

  it("lets a program write below --write, and nowhere else", async () => {
    using directory = temporaryDirectory();
    const script = "echo a > inside/file; echo b > outside";
    writeFileSync(join(directory.path, "script"), script);
    const { stdout, stderr } = await sandgate(
      [
        "run",
        "--read",
        "script",
        "--write",
        ".",
        "--",
        "sh",
        "-c",
        "mkdir inside && echo a > inside/file && cat inside/file",
      ],
      { cwd: directory.path },
    );
    assert.equal(stdout, "a\n", stderr);
    const refused = await sandgate(["run", "--read", ".", "--", "sh", "-c", "cat script; echo b > outside"], {
      cwd: directory.path,
    });
    assert.equal(refused.stdout, script);
    assert.match(refused.stderr, /cannot create outside: Permission denied/);
    assert.ok(!existsSync(join(directory.path, "outside")));
  });

  it("explains before it runs which mechanism enforces what, and which calls are notified", async () => {
    const args = ["run", "--explain", "--read", "/etc", "--net-allow", "tcp://127.0.0.1:80-90"];
    const { status, stdout, stderr } = await sandgate([...args, "--", "sh", "-c", "echo ran >&2; echo out"]);
    assert.deepEqual({ status, stdout }, { status: 0, stdout: "out\n" });
    assert.match(stderr, /^enforced by\n {2}RULE +VALUE +MECHANISM\n/);
    assert.match(stderr, /spec\.filesystem\.readable\[0\] +\/etc +landlock\n/);
    assert.match(stderr, /spec\.network\.allow\[0\] +.*127\.0\.0\.1.* +engine/);
    assert.match(stderr, /notified of \d+ calls, in some forms\n(?: .*)*connect[\s\S]*\nran\n$/);
    const machine = await sandgate([...args, "--json", "--", "true"]);
    const [first = "", last = ""] = machine.stderr.trimEnd().split("\n");
    const { plan, protections } = JSON.parse(first) as {
      plan: { mechanisms: Record<string, string>; notifiedSyscalls: string[] };
      protections: Record<string, string>;
    };
    assert.equal(plan.mechanisms["spec.filesystem.readable[0]"], "landlock");
    assert.ok(plan.notifiedSyscalls.includes("connect") && !plan.notifiedSyscalls.includes("openat"));
    assert.ok("landlock_fs" in protections);
    assert.equal((JSON.parse(last) as { status: number }).status, 0);
    const refused = await sandgate(["run", "--explain", "--spec", "/nowhere", "--", "true"]);
    assert.equal(refused.status, 125);
    assert.doesNotMatch(refused.stderr, /enforced by/);
  });

  it("keeps a program from what --deny names, below what --read and --write grant", async () => {
    using directory = temporaryDirectory();
    mkdirSync(join(directory.path, "keys"));
    for (const name of ["keys/one", "plain"]) writeFileSync(join(directory.path, name), `${name}\n`);
    const script = "cat plain keys/one; echo more >> plain; echo more >> keys/one";
    const options = { cwd: directory.path };
    const ran = await sandgate(["run", "--write", ".", "--deny", "keys", "--", "sh", "-c", script], options);
    assert.equal(ran.stdout, "plain\n");
    assert.match(ran.stderr, /keys\/one: Permission denied/);
    assert.equal(readFileSync(join(directory.path, "plain"), "utf8"), "plain\nmore\n");
    assert.equal(readFileSync(join(directory.path, "keys/one"), "utf8"), "keys/one\n");
    const wrong = await sandgate(["run", "--write", ".", "--deny", "kyes", "--", "true"], options);
    assert.equal(wrong.status, 125);
    assert.match(wrong.stderr, /kyes cannot be denied, because it cannot be found \(ENOENT\)/);
  });

  it("shows a program another root, what is mapped into it, and ids, /tmp and /proc of its own", async function () {
    const check = await sandgate(["check", "--json"]);
    if (!/"name":\s*"mount_namespace",\s*"available":\s*true/.test(check.stdout))
      skip(this, "this host has no mount namespaces");
    using directory = temporaryDirectory();
    for (const name of ["root", "work"]) mkdirSync(join(directory.path, name));
    for (const name of ["bin", "lib", "lib64"]) symlinkSync(`usr/${name}`, join(directory.path, "root", name));
    writeFileSync(join(directory.path, "work/file"), "content\n");
    const view = ["--root", "root", "--map", "/usr:/usr:ro", "--map", "/work:work", "--tmp", "--proc", "--uid", "4321"];
    const script = "cat file; echo made >made; ls -d /tmp /work; id -u; echo temporary >/tmp/x; cat /proc/self/comm";
    const ran = await sandgate(["run", ...view, "--cwd", "/work", "--", "sh", "-c", script], { cwd: directory.path });
    assert.deepEqual(
      [ran.stdout, ran.stderr],
      [
        "content\n/tmp\n/work\n4321\ncat\n",
        process.geteuid?.() === 0 ? "sh: 1: cannot create made: Permission denied\n" : "",
      ],
    );
    const bad = await sandgate(["run", "--map", "work:/x", "--", "true"]);
    assert.deepEqual(
      [bad.status, /--map work:\/x: write INSIDE:HOST.*as in --map \/data/.test(bad.stderr)],
      [125, true],
    );
    const nowhere = await sandgate(["run", "--root", "nowhere", "--", "true"], { cwd: directory.path });
    assert.match(nowhere.stderr, /nowhere.*ENOENT/);
  });

  it("executes what --exec names without letting it be read", async () => {
    using directory = temporaryDirectory();
    copyFileSync("/bin/true", join(directory.path, "copy"));
    const { stdout, stderr } = await sandgate(
      ["run", "--exec", ".", "--", "sh", "-c", "./copy && echo ran; cat ./copy"],
      { cwd: directory.path },
    );
    assert.equal(stdout, "ran\n");
    assert.match(stderr, /Permission denied/);
  });

  it("lets a program reach what --net-allow names, and nothing else", async () => {
    await using listener = await greetingListener();
    const script = `for host in 127.0.0.1 127.0.0.2; do
      if read -r line </dev/tcp/$host/${listener.port}; then echo $host $line; else echo $host refused; fi; done`;
    const { stdout } = await sandgate([
      "run",
      "--net-allow",
      `tcp://127.0.0.1:${listener.port}`,
      "--",
      "bash",
      "-c",
      script,
    ]);
    assert.equal(stdout, "127.0.0.1 hello\n127.0.0.2 refused\n");
  });

  it("gives the program none of the caller's variables but those that --env names", async () => {
    const env = { SECRET: "do not tell", PASSED: "this one" };
    const { stdout } = await sandgate(["run", "--env", "PASSED", "--env", "SET=here", "--", "env"], { env });
    assert.match(stdout, /^PASSED=this one$/m);
    assert.match(stdout, /^SET=here$/m);
    assert.ok(!stdout.includes("do not tell"));
    const { status, stderr } = await sandgate(["run", "--env", "NOT_THERE", "--", "env"]);
    assert.equal(status, 125);
    assert.match(stderr, /no variable of that name/);
  });

  it("ends as a shell would for a program that is missing or not executable, with a remedy", async () => {
    const missing = await sandgate(["run", "--", "no-such-program"]);
    assert.equal(missing.status, 127);
    assert.match(missing.stderr, /^sandgate: .*no-such-program.*ENOENT.*PATH.*\n$/);
    const plain = await sandgate(["run", "--", "/etc/passwd"]);
    assert.equal(plain.status, 126);
    assert.match(plain.stderr, /^sandgate: .*EACCES.*make it executable.*\n$/);
  });

  it("ends with 125 for its own mistakes, and says what to write instead", async () => {
    const { status, stderr } = await sandgate(["run", "--read", "/no/such/path", "--", "true"]);
    assert.equal(status, 125);
    assert.match(stderr, /ENOENT.*--read and --write need paths that exist/);
    assert.equal((await sandgate(["run", "--no-such-option", "--", "true"])).status, 125);
    assert.match((await sandgate(["run", "--timeout", "soon", "--", "true"])).stderr, /"soon" is not a duration/);
  });

  it("starts from a spec file, and names the line of a mistake in it", async () => {
    using directory = temporaryDirectory();
    const file = join(directory.path, "policy.toml");
    writeFileSync(file, `[filesystem]\nreadable = ["${directory.path}"]\n`);
    assert.equal((await sandgate(["run", "--spec", file, "--", "cat", file])).stdout, readFileSync(file, "utf8"));
    assert.equal((await sandgate(["run", "--", "cat", file])).status, 1);
    writeFileSync(file, "[filesystem]\n\nredable = []\n");
    const { status, stderr } = await sandgate(["run", "--spec", file, "--", "true"]);
    assert.equal(status, 125);
    assert.equal(stderr, `sandgate: ${file}:3: filesystem.redable: unknown key; did you mean readable?\n`);
  });

  it("writes one JSON object with exit and usage at the end", async () => {
    const { stdout, stderr } = await sandgate(["run", "--json", "--", "sh", "-c", "echo out; exit 5"]);
    assert.equal(stdout, "out\n");
    const { sandboxId, status, exit, usage } = JSON.parse(stderr);
    assert.match(sandboxId, /^run-/);
    assert.equal(status, 5);
    assert.deepEqual([exit.code, exit.cause], [5, "END_CAUSE_SELF"]);
    assert.ok(Number(usage.peakMemoryBytes) > 0);
    const failed = await sandgate(["run", "--json", "--", "no-such-program"]);
    assert.equal(JSON.parse(failed.stderr.split("\n")[0] ?? "").error.reason, "EXEC_FAILED");
  });

  it("passes SIGTERM to the program, which may end as it likes", async () => {
    const command = startSandgate([
      "run",
      "--",
      "sh",
      "-c",
      "trap 'echo bye; exit 7' TERM; echo ready; while :; do read -r _; done",
    ]);
    await command.until("stdout", "ready");
    command.child.kill("SIGTERM");
    command.write("\n"); // a shell runs its trap between commands
    const { status, stdout } = await command.result;
    assert.deepEqual([status, stdout], [7, "ready\nbye\n"]);
  });

  it("kills a program that ignores the first SIGINT with the second", async () => {
    const command = startSandgate([
      "run",
      "--",
      "sh",
      "-c",
      "trap 'echo no' INT; echo ready; while :; do read -r _; done",
    ]);
    await command.until("stdout", "ready");
    command.child.kill("SIGINT");
    command.write("\n");
    await command.until("stdout", "no");
    command.child.kill("SIGINT");
    assert.equal((await command.result).status, 137);
  });

  it("ends a program whose reader went away", async () => {
    const command = startSandgate(["run", "--", "yes"]);
    await command.until("stdout", "y\n");
    command.child.stdout?.destroy();
    assert.equal((await command.result).status, 141);
  });

  it("leaves nothing in the temporary directory", async () => {
    using directory = temporaryDirectory();
    await sandgate(["run", "--", "true"], { env: { TMPDIR: directory.path } });
    await sandgate(["run", "--", "no-such-program"], { env: { TMPDIR: directory.path } });
    assert.deepEqual(readdirSync(directory.path), []);
  });
});
