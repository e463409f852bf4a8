import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRotatingFile } from "../../src/base/rotating-file.js";

const options = { maxBytes: 20, keep: 2, sync: "rotation" } as const;

describe("a rotating file", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "sandgate-rotating-"));
    path = join(directory, "events");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const text = (suffix = ""): string => readFileSync(path + suffix, "utf8");

  it("goes on where it ended, puts full files aside by number, and keeps as many as it was told", async () => {
    writeFileSync(path, "earlier\n");
    const file = await openRotatingFile(path, options);
    await file.write(["line 1\n"]);
    assert.equal(text(), "earlier\nline 1\n");
    await file.write(["line 2\n", "line 3\n", "line 4\n", "line 5\n", "line 6\n", "line 7\n"]);
    await file.close();
    assert.deepEqual([text(), text(".1"), text(".2")], ["line 6\nline 7\n", "line 4\nline 5\n", "line 2\nline 3\n"]);
    assert.deepEqual(readdirSync(directory).sort(), ["events", "events.1", "events.2"]);
  });

  it("keeps none aside when it was told so, and gives a line longer than a file one of its own", async () => {
    const file = await openRotatingFile(path, { ...options, keep: 0, sync: "write" });
    await file.write(["short\n", `${"x".repeat(40)}\n`, "after\n"]);
    assert.equal(text(), "after\n");
    await file.close();
    assert.deepEqual(readdirSync(directory), ["events"]);
  });

  it("lets only its owner read it, also where others could before", async () => {
    writeFileSync(path, "");
    chmodSync(path, 0o644);
    const file = await openRotatingFile(path, options);
    await file.write(["line 1\n", "line 2\n", "line 3\n"]);
    await file.close();
    for (const name of readdirSync(directory)) assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600);
  });

  it("refuses a link, a pipe and a file with another name, which could be somebody else's", async () => {
    const other = join(directory, "other");
    writeFileSync(other, "other's\n");
    symlinkSync(other, path);
    await assert.rejects(openRotatingFile(path, options), /ELOOP/);
    rmSync(path);
    linkSync(other, path);
    await assert.rejects(openRotatingFile(path, options), /other names/);
    rmSync(path);
    execFileSync("mkfifo", [path]);
    await assert.rejects(openRotatingFile(path, options), /ENXIO|no regular file/);
    assert.equal(readFileSync(other, "utf8"), "other's\n");
  });

  it("goes on with a line of its own after a write that failed, once it can write again", async () => {
    // The directory is gone when the next file is to be made.
    const inside = join(directory, "inside");
    execFileSync("mkdir", [inside]);
    const file = await openRotatingFile(join(inside, "events"), { ...options, maxBytes: 10 });
    await file.write(["line 1\n"]);
    execFileSync("mv", [inside, join(directory, "moved")]);
    await assert.rejects(file.write(["line 2\n"]), /ENOENT/);
    await assert.rejects(file.write(["line 3\n"]), /ENOENT/);
    assert.ok(!existsSync(inside));
    execFileSync("mkdir", [inside]);
    await file.write(["line 4\n"]);
    await file.close();
    assert.equal(readFileSync(join(inside, "events"), "utf8"), "line 4\n");
  });
});
