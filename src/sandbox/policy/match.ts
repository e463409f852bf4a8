import type { CallMatch, FileOperation, HeldCall } from "../model.js";
import { compileGlobs } from "./glob.js";
import { compileNetworkRules } from "./network.js";

export { compileNetworkRules };

/** What a match looks at. `task` is only read when the match names executables. */
export type MatchableCall = Pick<HeldCall, "syscall" | "category" | "detail" | "task">;

/** Compiled once, used for every call. Every given part must hold; a part about another kind of call does not. */
export function compileMatch(match: CallMatch): (call: MatchableCall) => boolean {
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
    tests.push(({ detail }) => detail.kind === "exec" && matches(detail.program));
  }
  if (words.length > 0) {
    const wanted = words.map((word) => Buffer.from(word));
    tests.push(
      ({ detail }) =>
        detail.kind === "exec" && wanted.every((word) => detail.argv.some((argument) => word.equals(argument))),
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
