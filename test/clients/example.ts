import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CommandResult } from "../cli/command.js";

/** The repository's examples, from the compiled test. */
export const examples = fileURLToPath(new URL("../../../examples/", import.meta.url));

/** Where toolchains keep what they install and build for these tests; outside where another user installed the packages. */
export const cache = cacheDirectory(fileURLToPath(new URL("../../../node_modules/", import.meta.url)));

function cacheDirectory(modules: string): string {
  try {
    accessSync(modules, constants.W_OK);
    return join(modules, ".cache/sandgate-clients");
  } catch {
    return join(tmpdir(), `sandgate-clients-${process.getuid?.() ?? 0}`);
  }
}

/** Skips visibly unless every program can be run. */
export function needPrograms(context: Mocha.Context, ...programs: readonly (readonly [string, ...string[]])[]): void {
  for (const [program, ...args] of programs) {
    const { status, error } = spawnSync(program, args, { stdio: "ignore" });
    if (error === undefined && status === 0) continue;
    process.stderr.write(`skipped: "${[program, ...args].join(" ")}" does not work on this machine\n`);
    context.skip();
  }
}

/** What each example prints, whatever its language calls a status. */
export function assertExampleOutput(
  { status, stdout, stderr }: CommandResult,
  codes: Readonly<Record<string, string>>,
): void {
  assert.equal(status, 0, `${stdout}${stderr}`);
  const lines = stdout.split("\n");
  const expected = [
    "held: bash wants connect to 127.0.0.1: allow",
    "stdout: 127.0.0.1 says hello",
    "held: bash wants connect to 127.0.0.2: deny",
    "stdout: 127.0.0.2 is out of reach",
    "exit code 0",
    `spawn without a program: ${codes.invalid} reason=INVALID_FIELD field=process.argv`,
    `spawn with a relative path: ${codes.invalid} reason=INVALID_FIELD field=spec.filesystem.readable[0]`,
    `spawn of a missing program: ${codes.precondition} reason=EXEC_FAILED field=process.argv[0] stage=program`,
    `look up a sandbox that is not there: ${codes.notFound} reason=SANDBOX_NOT_FOUND field=sandbox_id`,
  ];
  for (const line of expected) assert.ok(lines.includes(line), `"${line}" is not in:\n${stdout}`);
  assert.match(lines[0] ?? "", /^server \S+ on Linux \S+, Landlock ABI \d+$/);
  assert.ok(
    lines.some((line) => line.startsWith("stderr: ") && line.endsWith("Operation not permitted")),
    stdout,
  );
}
