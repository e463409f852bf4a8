import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { serveService, startCommand, temporaryDirectory } from "../cli/command.js";
import { assertExampleOutput, cache, examples, needPrograms } from "./example.js";

describe("the example in Python", function () {
  // The first run installs the packages of requirements.txt.
  this.timeout(300_000);
  const directory = join(examples, "python");
  const requirements = join(directory, "requirements.txt");
  let python: string;

  before(function () {
    needPrograms(
      this,
      ["bash", "--version"],
      ["python3", "-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 10)"],
    );
    const digest = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 16);
    const venv = join(cache, `python-${digest}`);
    python = join(venv, "bin/python");
    if (existsSync(join(venv, "installed"))) return;
    rmSync(venv, { recursive: true, force: true });
    mkdirSync(cache, { recursive: true });
    const made = spawnSync("python3", ["-m", "venv", venv], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements];
    const installed = spawnSync(python, pip, { encoding: "utf8" });
    if (installed.status !== 0) {
      process.stderr.write(`skipped: the Python packages cannot be had here: ${installed.stderr}\n`);
      this.skip();
    }
    mkdirSync(join(venv, "installed"));
  });

  it("runs a program, decides its connects, prints its output and unpacks errors", async () => {
    using generated = temporaryDirectory();
    const env = { PYTHON: python, PYTHONPATH: generated.path, PYTHONDONTWRITEBYTECODE: "1" };
    const generation = await startCommand(join(directory, "generate.sh"), [generated.path], { env }).result;
    assert.equal(generation.status, 0, generation.stderr);
    await using service = await serveService();
    const result = await startCommand(python, [join(directory, "main.py"), service.address], { env }).result;
    assertExampleOutput(result, {
      invalid: "INVALID_ARGUMENT",
      precondition: "FAILED_PRECONDITION",
      notFound: "NOT_FOUND",
    });
  });
});
