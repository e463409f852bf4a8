import assert from "node:assert/strict";
import { UsageError } from "../../src/cli/failure.js";
import { buildSpec } from "../../src/cli/run-spec.js";
import { parseSpec } from "../../src/cli/spec-file.js";

describe("the limit options of run", () => {
  it("set what is given and leave the rest of the spec file", () => {
    const base = parseSpec('[limits]\nmemory_bytes = "64MiB"\nprocesses = 3\nopen_files = 9', "policy.toml");
    assert.equal(base.limits?.memoryBytes, 64n << 20n);
    const { limits } = buildSpec(
      base,
      { memory: "1.5G", cpu: "50%", cpuTime: "1m", output: "2M", disk: "10KB" },
      "/",
      0,
    );
    assert.deepEqual(
      [limits?.memoryBytes, limits?.processes, limits?.openFiles, limits?.cpuMillis, limits?.cpuTime?.seconds],
      [3n << 29n, 3, 9, 500, 60n],
    );
    assert.equal(limits?.outputBytes, 2n << 20n);
    assert.equal(limits?.diskBytes, 10_240n);
    assert.equal(buildSpec(undefined, { cpu: "2" }, "/", 0).limits?.cpuMillis, 2000);
    assert.equal(buildSpec(undefined, {}, "/", 0).limits, undefined);
  });

  it("name the option and an example when a value is no good", () => {
    for (const [options, message] of [
      [{ memory: "5 apples" }, /^--memory: "5 apples" is not a size: write 512k/],
      [{ memory: "0" }, /^--memory: zero would be no limit/],
      [{ processes: "-1" }, /^--processes: "-1" .* write 64/],
      [{ openFiles: "1.5" }, /^--open-files: /],
      [{ cpu: "fast" }, /^--cpu: "fast" .* write 50%, 0.5 or 2/],
      [{ cpuTime: "1y" }, /^--cpu-time: "1y" .* 10s/],
      [{ output: "much" }, /^--output: "much" is not a size/],
      [{ disk: "1Q" }, /^--disk: /],
    ] as const) {
      const isIt = (error: unknown) => error instanceof UsageError && message.test(error.message);
      assert.throws(() => buildSpec(undefined, options, "/", 0), isIt, JSON.stringify(options));
    }
    assert.throws(() => parseSpec('[limits]\nmemory_bytes = "lots"', "policy.toml"), /policy.toml:2.*512k/);
  });
});
