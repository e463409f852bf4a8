import assert from "node:assert/strict";
import { closeSync, fstatSync, openSync } from "node:fs";
import { parseProcessId, parseSandboxId, type SandboxId } from "../../src/base/brands.js";
import { ownFd } from "../../src/base/fd.js";

describe("owned descriptor", () => {
  it("is closed at the end of its scope, unless it was handed on", () => {
    const fd = openSync("/dev/null", "r");
    {
      using owned = ownFd(fd);
      assert.equal(owned.fd, fd);
    }
    assert.throws(() => fstatSync(fd), { code: "EBADF" });

    let released: number;
    {
      using owned = ownFd(openSync("/dev/null", "r"));
      released = owned.release();
      assert.throws(() => owned.fd, /no longer owned/);
    }
    assert.equal(fstatSync(released).isCharacterDevice(), true);
    closeSync(released);
  });

  it("refuses what is not a descriptor", () => {
    assert.throws(() => ownFd(-9), RangeError);
  });
});

describe("ids", () => {
  it("accepts what is safe in a path and refuses the rest, naming the field", () => {
    assert.equal(parseSandboxId("build-1.a_B"), "build-1.a_B");
    assert.equal(parseProcessId("x".repeat(64)), "x".repeat(64));
    for (const text of ["", ".", "..", "-rf", ".hidden", "a/b", "a b", "ä", "a\n", "x".repeat(65)]) {
      assert.throws(
        () => parseSandboxId(text),
        { code: "invalid_argument", field: "sandbox_id" },
        JSON.stringify(text),
      );
    }
    // @ts-expect-error: text becomes an id only through the parser
    const id: SandboxId = "text";
    assert.equal(typeof id, "string");
  });
});
