import { join } from "node:path";
import { serveService, startCommand } from "../cli/command.js";
import { assertExampleOutput, examples, needPrograms } from "./example.js";

describe("the example in Node", function () {
  this.timeout(60_000);

  it("runs a program, decides its connects, prints its output and unpacks errors", async function () {
    needPrograms(this, ["bash", "--version"]);
    await using service = await serveService();
    const { result } = startCommand(process.execPath, [join(examples, "node/main.js"), service.address]);
    assertExampleOutput(await result, {
      invalid: "INVALID_ARGUMENT",
      precondition: "FAILED_PRECONDITION",
      notFound: "NOT_FOUND",
    });
  });
});
