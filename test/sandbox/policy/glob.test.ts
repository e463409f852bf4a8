import assert from "node:assert/strict";
import fc from "fast-check";
import { compileGlob } from "../../../src/sandbox/policy/glob.js";

function matches(pattern: string, path: string | Buffer): boolean {
  return compileGlob(pattern)(Buffer.from(path as string));
}

describe("path patterns", () => {
  it("take * for bytes inside a segment and ** for segments", () => {
    const table: readonly (readonly [pattern: string, matching: readonly string[], other: readonly string[]])[] = [
      ["/usr/bin/git", ["/usr/bin/git"], ["/usr/bin/gitk", "/usr/bin", "/usr/bin/git/x", "usr/bin/git"]],
      ["/tmp/*", ["/tmp/a", "/tmp/.hidden", "/tmp/a\nb"], ["/tmp", "/tmp/a/b"]],
      ["/tmp/*.txt", ["/tmp/a.txt", "/tmp/.txt", "/tmp/a.b.txt"], ["/tmp/a.txt.gz", "/tmp/d/a.txt"]],
      ["/tmp/a*b*c", ["/tmp/abc", "/tmp/axbxbxc"], ["/tmp/acb", "/tmp/abcd"]],
      ["/home/**", ["/home", "/home/a", "/home/a/b/.c"], ["/homes/a", "/"]],
      ["/home/**/.ssh/**", ["/home/.ssh", "/home/a/.ssh/id", "/home/a/b/.ssh/x/y"], ["/home/a/ssh/id"]],
      ["/**/x/**/y", ["/x/y", "/a/x/b/y", "/x/x/y"], ["/x/y/z", "/y"]],
      ["**", ["/", "/a/b", "a"], []],
      ["**/node", ["/usr/bin/node", "/node"], ["/usr/bin/nodejs"]],
      ["/a/b**c", ["/a/bxc", "/a/bc"], ["/a/b/c"]],
      ["/a/[b](c|d){e,f}?+!", ["/a/[b](c|d){e,f}?+!"], ["/a/bce"]],
    ];
    for (const [pattern, matching, other] of table) {
      for (const path of matching) assert.ok(matches(pattern, path), `${pattern} should match ${path}`);
      for (const path of other) assert.ok(!matches(pattern, path), `${pattern} should not match ${path}`);
    }
  });

  it("match paths that are not UTF-8, and text by its bytes", () => {
    const odd = Buffer.concat([Buffer.from("/tmp/"), Buffer.from([0xff, 0xfe, 0x80]), Buffer.from("/x")]);
    assert.ok(matches("/tmp/**", odd));
    assert.ok(matches("/tmp/*/x", odd));
    assert.ok(!matches("/tmp/\ufffd\ufffd\ufffd/x", odd));
    assert.ok(matches("/tmp/é*", Buffer.from("/tmp/état")));
    assert.ok(!matches("/tmp/é*", Buffer.from("/tmp/\xe9tat", "latin1")));
  });

  it("do not take an unresolved path for what it only begins like", () => {
    assert.ok(matches("/usr/bin/**", "/usr/bin/env"));
    assert.ok(!matches("/usr/bin/**", "/usr/bin/../../tmp/evil"));
    assert.ok(!matches("/usr/bin/*", "/usr/bin/.."));
    assert.ok(matches("/usr/bin/../x", "/usr/bin/../x"));
  });

  it("take no longer than both lengths multiplied, whatever a program calls its files", () => {
    const pattern = `/${"**/a*a*a*a*a*b/".repeat(20)}z`;
    const path = `/${`${"a".repeat(200)}/`.repeat(20)}`;
    const start = process.hrtime.bigint();
    for (let run = 0; run < 20; run += 1) assert.ok(!matches(pattern, path));
    assert.ok(process.hrtime.bigint() - start < 2_000_000_000n);
  });

  it("agree with a plain definition on short inputs", () => {
    const define = (pattern: string): RegExp => {
      const parts = pattern.split("/").map((part) => (part === "**" ? part : part.replace(/\*+/g, "[^/]*")));
      const source = parts
        .join("/")
        .replace(/^\*\*$/, "[^]*")
        .replace(/^\*\*\//, "(?:[^]*/)?")
        .replace(/(?:\/\*\*)+$/, "(?:/[^]*)?")
        .replace(/(?:\/\*\*)+\//g, "/(?:[^]*/)?");
      return new RegExp(`^${source}$`);
    };
    const text = (alphabet: string[]) =>
      fc.array(fc.constantFrom(...alphabet), { maxLength: 8 }).map((all) => all.join(""));
    fc.assert(
      fc.property(text(["/", "a", "b", "*", "/**/"]), text(["/", "a", "b", "ab"]), (pattern, path) => {
        fc.pre(!pattern.includes("***") && !/^\*\*\/\*\*|\*\*\/\*\*$/.test(pattern));
        assert.equal(
          matches(`/${pattern}`, `/${path}`),
          define(`/${pattern}`).test(`/${path}`),
          `/${pattern} on /${path}`,
        );
      }),
      { numRuns: 3000 },
    );
  });
});
