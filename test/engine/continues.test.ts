/** Every place that lets a notified call run as its caller issued it, with the reason why that is safe there. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ContinueReason } from "../../src/engine/verdict.js";

const source = fileURLToPath(new URL("../../../src/", import.meta.url));

/** By file: the reasons that it gives, and why each holds. Memory that was looked at is never one. */
const SAFE: Readonly<Record<string, Readonly<Partial<Record<ContinueReason, string>>>>> = {
  "sandbox/handlers/exec.ts": {
    launch: "the launcher's own execve, before any code of the program ran",
    verified_after: "the tracer compares the new program with what was judged before its first instruction",
    accepted_race: "a decider was told that the arguments are racy, and no such allowance is remembered",
  },
  "sandbox/handlers/path-act.ts": {
    kernel_decides: "the program's own Landlock layer refuses everything that is denied, whatever the call says then",
  },
  "sandbox/handlers/processes.ts": {
    registers_only: "the caller itself, or one of the sandbox, for a call that only asks or signals within its scope",
  },
  "sandbox/handlers/registers.ts": {
    registers_only: "the verdict is on the number and the registers, which the kernel holds",
  },
};

function continues(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const entry of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    if (!entry.endsWith(".ts") || entry.startsWith("gen/")) continue;
    const text = readFileSync(join(source, entry), "utf8");
    const verdicts = [...text.matchAll(/kind: "continue"([^}\n]*)\}/g)];
    for (const [whole, rest] of verdicts) {
      if (entry === "engine/verdict.ts") continue;
      const reason = /because: "(\w+)"/.exec(rest ?? "")?.[1];
      // A type that names the verdict gives no reason, and needs none.
      if (reason === undefined) assert.match(text, /Extract<Verdict, \{ kind: "continue" \}>/, `${entry}: ${whole}`);
      else found.set(entry, (found.get(entry) ?? new Set()).add(reason));
    }
  }
  return found;
}

describe("a verdict that lets a call run as it was issued", () => {
  it("is given only where a reason is written down, and every such reason is still in use", () => {
    const written = Object.entries(SAFE).map(([file, reasons]) => [file, Object.keys(reasons).sort()]);
    const given = [...continues()].map(([file, reasons]) => [file, [...reasons].sort()]);
    const byFile = ([one]: unknown[], [other]: unknown[]) => (String(one) < String(other) ? -1 : 1);
    assert.deepEqual(given.sort(byFile), written.sort(byFile));
  });

  it("reaches the kernel in no other way than by its kind", () => {
    // The flag of the answer is set in one place, which the loop reaches from the verdict's kind alone.
    const usersOf = (word: string): string[] =>
      readdirSync(source, { recursive: true, encoding: "utf8" })
        .filter((entry) => entry.endsWith(".ts") && readFileSync(join(source, entry), "utf8").includes(word))
        .sort();
    assert.deepEqual(usersOf("ANSWER_FLAG"), ["native/abi.ts", "native/exchange.ts"]);
    assert.deepEqual(usersOf("continueCall"), ["engine/loop.ts", "native/exchange.ts"]);
  });
});
