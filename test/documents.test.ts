import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { startTestService } from "./support/service.js";

const root = join(import.meta.dirname, "../..");
const run = promisify(execFile);

function documents(): string[] {
  const below = (directory: string): string[] =>
    readdirSync(join(root, directory), { recursive: true, encoding: "utf8" }).map((file) => join(directory, file));
  const top = readdirSync(root);
  return [...top, ...below("docs"), ...below("examples")].filter(
    (file) => file.endsWith(".md") && !/venv|node_modules/.test(file),
  );
}

describe("the documents", () => {
  it("link to nothing that is not there", () => {
    const broken = documents().flatMap((file) => {
      const text = readFileSync(join(root, file), "utf8");
      const targets = [...text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map(([, target = ""]) => target);
      return targets
        .filter((target) => !existsSync(join(root, dirname(file), target)))
        .map((target) => `${file}: ${target}`);
    });
    assert.ok(documents().includes("README.md"));
    assert.deepEqual(broken, []);
  });

  it("show Node code in the README that runs as it stands", async () => {
    const [, code = ""] = /```js\n(.*?)```/s.exec(readFileSync(join(root, "README.md"), "utf8")) ?? [];
    await using service = await startTestService();
    const here = code.replace("unix:/run/sandgate/sandgate.sock", service.address);
    assert.notEqual(here, code, "the address was not found");
    const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", here], { cwd: root });
    assert.equal(stdout, "hello\n");
  });
});
