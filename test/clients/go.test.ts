import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { serveService, startCommand } from "../cli/command.js";
import { assertExampleOutput, cache, examples, needPrograms } from "./example.js";

describe("the example in Go", function () {
  // The first build compiles gRPC itself.
  this.timeout(300_000);
  const directory = join(examples, "go");
  const binary = join(cache, "go-example");

  before(function () {
    needPrograms(this, ["bash", "--version"], ["go", "version"]);
    const { status, stderr } = spawnSync("go", ["build", "-o", binary, "."], { cwd: directory, encoding: "utf8" });
    if (status === 0) return;
    // A machine that cannot get the modules is not a machine with Go for this purpose; a compile error is ours.
    if (!/dial tcp|no such host|download|proxy|toolchain not available/.test(stderr)) assert.fail(stderr);
    process.stderr.write(`skipped: the Go modules cannot be had here: ${stderr}\n`);
    this.skip();
  });

  it("runs a program, decides its connects, prints its output and unpacks errors", async () => {
    await using service = await serveService();
    assertExampleOutput(await startCommand(binary, [service.address]).result, {
      invalid: "InvalidArgument",
      precondition: "FailedPrecondition",
      notFound: "NotFound",
    });
  });

  it("is formatted and passes vet", () => {
    assert.equal(spawnSync("gofmt", ["-l", "main.go"], { cwd: directory, encoding: "utf8" }).stdout, "");
    const vet = spawnSync("go", ["vet", "."], { cwd: directory, encoding: "utf8" });
    assert.equal(vet.status, 0, vet.stderr);
  });

  it("has code for the API that is up to date", () => {
    const check = spawnSync("./generate.sh", ["--check"], { cwd: directory, encoding: "utf8" });
    assert.equal(check.status, 0, `run examples/go/generate.sh: ${check.stdout.slice(0, 2000)}${check.stderr}`);
  });
});
