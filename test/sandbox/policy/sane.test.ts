import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FS, READ_TREE } from "../../../src/engine/landlock/rights.js";
import { baselineTrees, programTrees } from "../../../src/sandbox/policy/sane.js";
import { isBeneath } from "../../../src/sandbox/policy/trees.js";
import { HOST_VIEW } from "../../../src/sandbox/policy/view.js";

function program(path: string, content = "\x7fELF"): void {
  writeFileSync(path, content);
  chmodSync(path, 0o755);
}

describe("the sane baseline", () => {
  it("covers loader, libraries and harmless devices, and no home, secret or temporary file", () => {
    const trees = baselineTrees();
    const covering = (path: string, right: number) =>
      trees.some((rule) => (rule.access & right) !== 0 && isBeneath(Buffer.from(path), [rule.path]));
    for (const path of [
      "/usr/bin/env",
      "/lib/x.so",
      "/lib64/ld.so",
      "/etc/ld.so.cache",
      "/etc/passwd",
      "/etc/ssl/certs/a.pem",
    ]) {
      assert.ok(covering(path, FS.readFile), path);
    }
    for (const path of [
      "/etc/shadow",
      "/etc/ssl/private/key",
      "/home/u/x",
      "/root/x",
      "/tmp/x",
      "/proc/1/environ",
      "/dev/mem",
      "/var/x",
    ]) {
      assert.ok(!covering(path, FS.readFile), path);
    }
    assert.ok(covering("/dev/null", FS.writeFile));
    assert.ok(!covering("/dev/random", FS.writeFile));
    assert.ok(!covering("/usr/x", FS.writeFile));
    assert.ok(trees.every(({ optional }) => optional));
  });
});

describe("the installation of a program", () => {
  let root: string;
  beforeEach(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), "sandgate-sane-")));
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  const trees = (name: string, parts: { cwd?: string; searchPath?: string } = {}) =>
    programTrees({ program: name, cwd: "/", searchPath: "/usr/bin:/bin", ...parts }, HOST_VIEW);
  const paths = (...args: Parameters<typeof trees>) => trees(...args).map(({ path }) => path);

  it("is nothing more for what the baseline covers, or for what does not exist", () => {
    assert.deepEqual(trees("sh"), []);
    assert.deepEqual(trees("/bin/sh"), []);
    assert.deepEqual(trees("/nowhere/program"), []);
    assert.deepEqual(trees("no-such-program-anywhere"), []);
  });

  it("is the file alone outside a bin directory", () => {
    program(join(root, "tool"));
    assert.deepEqual(trees(join(root, "tool")), [
      { path: join(root, "tool"), access: FS.execute | FS.readFile, optional: true },
    ]);
    assert.deepEqual(paths("./tool", { cwd: root }), [join(root, "tool")]);
  });

  it("is what lies beside a bin directory, found by the search path", () => {
    mkdirSync(join(root, "opt/bin"), { recursive: true });
    program(join(root, "opt/bin/tool"));
    const found = trees("tool", { searchPath: `/nowhere:${join(root, "opt/bin")}` });
    assert.ok(found.some(({ path, access }) => path === join(root, "opt/lib") && access === READ_TREE));
    assert.ok(found.some(({ path }) => path === join(root, "opt/bin/tool")));
    assert.ok(!found.some(({ path }) => path === join(root, "opt") || path === root));
  });

  it("follows links, keeping the environment that a link stands in", () => {
    mkdirSync(join(root, "venv/bin"), { recursive: true });
    mkdirSync(join(root, "real/bin"), { recursive: true });
    program(join(root, "real/bin/python"));
    symlinkSync(join(root, "real/bin/python"), join(root, "venv/bin/python"));
    const found = paths(join(root, "venv/bin/python"));
    for (const path of ["venv/lib", "venv/pyvenv.cfg", "real/lib", "real/bin/python"]) {
      assert.ok(found.includes(join(root, path)), path);
    }
  });

  it("includes a script's interpreter", () => {
    mkdirSync(join(root, "lang/bin"), { recursive: true });
    program(join(root, "lang/bin/lang"));
    program(join(root, "script"), `#! ${join(root, "lang/bin/lang")} -x\n`);
    const found = paths(join(root, "script"));
    assert.ok(found.includes(join(root, "script")));
    assert.ok(found.includes(join(root, "lang/lib")));
    program(join(root, "loop"), `#!${join(root, "loop")}\n`);
    assert.ok(paths(join(root, "loop")).length > 0);
  });
});
