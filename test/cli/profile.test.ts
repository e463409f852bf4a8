import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sandgate, temporaryDirectory } from "./command.js";

describe("sandgate profile", function () {
  this.timeout(30_000);
  let directory: ReturnType<typeof temporaryDirectory>;
  let env: Record<string, string>;

  beforeEach(() => {
    directory = temporaryDirectory();
    env = { XDG_CONFIG_HOME: join(directory.path, "config") };
  });

  afterEach(() => directory[Symbol.dispose]());

  function specFile(source: string): string {
    const file = join(directory.path, "policy.toml");
    writeFileSync(file, source);
    return file;
  }

  const profile = (...args: readonly string[]) => sandgate(["profile", ...args], { env });

  it("keeps a spec under a name, from which run starts", async () => {
    writeFileSync(join(directory.path, "secret"), "readable\n");
    const read = ["--", "cat", join(directory.path, "secret")];
    const source = `display_name = "reads"\n[filesystem]\nreadable = ["${directory.path}"]\n`;
    const saved = await profile("save", "reader", specFile(source));
    assert.equal(saved.status, 0, saved.stderr);
    assert.equal(statSync(saved.stdout.trim()).mode & 0o777, 0o600);
    assert.equal((await profile("show", "reader")).stdout, source);
    assert.match((await profile("list")).stdout, /^reader +reads$/m);

    assert.equal((await sandgate(["run", "--profile", "reader", ...read], { env })).stdout, "readable\n");
    assert.match((await sandgate(["run", ...read], { env })).stderr, /Permission denied/);
  });

  it("replaces one only when told to", async () => {
    const file = specFile('display_name = "first"\n');
    assert.equal((await profile("save", "one", file)).status, 0);
    writeFileSync(file, 'display_name = "second"\n');
    const refused = await profile("save", "one", file);
    assert.deepEqual([refused.status, /replace it with --force/.test(refused.stderr)], [125, true]);
    assert.match((await profile("list")).stdout, /first/);
    assert.equal((await profile("save", "--force", "one", file)).status, 0);
    assert.match((await profile("list")).stdout, /second/);
  });

  it("says whether one can be used, and names the line of a mistake", async () => {
    const file = specFile('display_name = "x"\n\n[filesystem]\nreadabel = ["/srv"]\n');
    for (const refused of [await profile("check", file), await profile("save", "bad", file)]) {
      assert.equal(refused.status, 125);
      assert.match(refused.stderr, /policy\.toml:4: filesystem\.readabel: unknown key; did you mean readable\?/);
    }
    assert.equal((await profile("list", "--json")).stdout, "");

    const good = await profile("check", specFile('[filesystem]\nreadable = ["/usr"]\n'));
    assert.deepEqual([good.status, /can be used here/.test(good.stdout)], [0, true], good.stderr);
    const relative = await profile("check", specFile('[filesystem]\nreadable = ["usr"]\n'));
    assert.equal(relative.status, 125);
    assert.match(relative.stderr, /spec\.filesystem\.readable\[0\].*not absolute/);
  });

  it("says what there is when a name is none, and what a name may be", async () => {
    await profile("save", "known", specFile(""));
    for (const args of [
      ["profile", "show", "unknown"],
      ["run", "-p", "unknown", "--", "true"],
    ]) {
      const { status, stderr } = await sandgate(args, { env });
      assert.equal(status, 125);
      assert.match(stderr, /no profile unknown; there are known/);
    }
    assert.match((await profile("save", "../x", specFile(""))).stderr, /a profile's name has letters/);
    const both = await sandgate(["run", "-p", "known", "--spec", specFile(""), "--", "true"], { env });
    assert.match(both.stderr, /not from both/);
  });
});
