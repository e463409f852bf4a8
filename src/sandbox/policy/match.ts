import type { CallMatch, FileOperation, HeldCall } from "../model.js";
import { compileGlobs } from "./glob.js";
import { compileNetworkRules } from "./network.js";

export { compileNetworkRules };

/** What a match looks at. `task` is only read when the match names executables. */
export type MatchableCall = Pick<HeldCall, "syscall" | "category" | "detail" | "task" | "integrity">;

/**
 * Compiled once, used for every call. Every given part must hold; a part about another kind of call does not.
 * A script matches by its own path or by that of an interpreter, and arguments that were cut match any: but not
 * `toAllow`. Then a script's own path must match, and where another file may be put under its name, the
 * interpreters' too, since these may be made to do anything.
 */
export function compileMatch(match: CallMatch, toAllow = false): (call: MatchableCall) => boolean {
  const tests: ((call: MatchableCall) => boolean)[] = [];
  const { syscalls, categories, paths, writesOnly, destinations, executables, programs, arguments: words } = match;
  if (syscalls.length > 0) {
    const names = new Set(syscalls);
    tests.push(({ syscall }) => names.has(syscall));
  }
  if (categories.length > 0) tests.push(({ category }) => categories.includes(category));
  if (writesOnly) tests.push(({ detail }) => detail.kind !== "file" || isWrite(detail.operation));
  if (paths.length > 0) {
    const matches = compileGlobs(paths);
    tests.push(({ detail }) => detail.kind === "file" && matches(detail.path));
  }
  if (destinations.length > 0) {
    const matches = compileNetworkRules(destinations);
    tests.push(({ detail }) => detail.kind === "network" && matches(detail.transport, detail.address));
  }
  if (programs.length > 0) {
    const matches = compileGlobs(programs);
    tests.push(({ detail, integrity }) => {
      if (detail.kind !== "exec") return false;
      const { program, interpreters } = detail;
      if (!toAllow) return matches(program) || interpreters.some(matches);
      return matches(program) && (integrity !== "racy" || interpreters.every(matches));
    });
  }
  if (words.length > 0) {
    const wanted = words.map((word) => Buffer.from(word));
    tests.push(
      ({ detail }) =>
        detail.kind === "exec" &&
        ((detail.argvCut && !toAllow) || wanted.every((word) => detail.argv.some((argument) => word.equals(argument)))),
    );
  }
  if (executables.length > 0) {
    const matches = compileGlobs(executables);
    tests.push(({ task }) => matches(task.executable));
  }
  return (call) => tests.every((test) => test(call));
}

function isWrite(operation: FileOperation): boolean {
  return operation !== "read" && operation !== "stat";
}
