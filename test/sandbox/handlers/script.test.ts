import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interpreterOf } from "../../../src/sandbox/handlers/script.js";

/** The interpreter and its argument, or undefined. */
function read(head: string | Buffer): readonly (string | undefined)[] | undefined {
  const found = interpreterOf(Buffer.from(head as string));
  if (found === undefined) return undefined;
  return [found.name, found.argument].map((part) => (part === undefined ? undefined : Buffer.from(part).toString()));
}

describe("the first line of a script", () => {
  it("names an interpreter and at most one argument, without the blanks around them", () => {
    assert.deepEqual(read("#!/bin/sh\necho"), ["/bin/sh", undefined]);
    assert.deepEqual(read("#! \t/bin/sh \t -e -x \t \n"), ["/bin/sh", "-e -x"]);
    assert.deepEqual(read("#!/bin/sh"), ["/bin/sh", undefined]);
    assert.deepEqual(read("#!"), ["", undefined]);
    assert.deepEqual(read("#!sh -e"), ["sh", "-e"]);
    assert.deepEqual(read("#!/bin/a\0b\n"), ["/bin/a", undefined]);
    assert.deepEqual(read("#!/bin/a b\0c\n"), ["/bin/a", "b"]);
  });

  it("may be none", () => {
    for (const head of ["", "#", "#!\n/bin/sh", "#! \t \n", " #!/bin/sh\n", "\x7fELF", `#!/${"a".repeat(300)}`]) {
      assert.equal(read(head), undefined, JSON.stringify(head));
    }
    assert.deepEqual(read(`#!/${"a".repeat(200)} ${"b".repeat(300)}`)?.[0], `/${"a".repeat(200)}`);
  });

  it("is understood as the kernel understands it", () => {
    const directory = mkdtempSync(join(tmpdir(), "sandgate-script-"));
    try {
      const lines = [
        "#!/bin/echo",
        "#!/bin/echo one two  \n",
        "#!\t/bin/echo\tone\n",
        "#! /bin/echo\r\n",
        `#!/bin/echo ${"x".repeat(400)}\n`,
        "#!/bin/echo a\0b\n",
      ];
      for (const [index, line] of lines.entries()) {
        const path = join(directory, `${index}`);
        writeFileSync(path, line);
        chmodSync(path, 0o755);
        const [name, argument] = read(line) ?? assert.fail(line);
        const given = [...(argument === undefined ? [] : [argument]), path, "more"].join(" ");
        // An interpreter whose name ends with a carriage return is not there: nothing to compare.
        if (name !== "/bin/echo") continue;
        assert.equal(execFileSync(path, ["more"], { encoding: "utf8" }), `${given}\n`, JSON.stringify(line));
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
