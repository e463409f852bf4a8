import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { commandPath } from "./cli/command.js";
import { listen } from "./support/listeners.js";
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

  it("show commands for network rules that do what is said of them", async function () {
    this.timeout(30_000);
    await using server = await listen("0.0.0.0");
    const [, commands = ""] = /```sh\n(.*?)```/s.exec(readFileSync(join(root, "docs/network.md"), "utf8")) ?? [];
    const shell = (line: string) =>
      run("bash", ["-c", line.replace("sandgate", `"${process.execPath}" "${commandPath}"`).replaceAll("8080", `${server.port}`)]); // biome-ignore format: one command
    const [reaching = "", refused = ""] = commands.trim().split("\n");
    assert.equal((await shell(reaching)).stdout, "reached\n");
    await assert.rejects(shell(refused), /Connection refused/);
    assert.equal(server.accepted(), 1);
  });
});
