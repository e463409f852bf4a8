/** Which calls a spec's triggers and rules need to see, and so which the filter notifies. */
import { invalidField, SandboxError } from "../../base/errors.js";
import { CONNECT_CALLS, EXEC_CALLS, HOLDABLE, OPEN_CALLS, SEND_CALLS } from "../../engine/bpf/filter.js";
import { isSyscallName, syscallSiblings } from "../../engine/syscalls/table.js";
import type { ArgumentIntegrity, CallCategory, CallMatch, HoldTrigger, Rule, SandboxSpec } from "../model.js";
import { connectPorts, isAnyHost, ruleCovers } from "./network.js";

export interface Mediation {
  readonly triggers: readonly HoldTrigger[];
  readonly rules: readonly Rule[];
  readonly holdOpen: "none" | "writes" | "all";
  /** Opens that a decider may be asked about, and so may allow within the grantable trees. */
  readonly askOpen: "none" | "writes" | "all";
  readonly holdExec: boolean;
  readonly holdConnect: boolean;
  readonly askConnect: boolean;
  /** Messages that name where they go. */
  readonly holdSend: boolean;
  readonly mediateConnect: boolean;
  readonly holdSyscalls: readonly string[];
}

/** Calls of a category that this version can hold. */
const CATEGORY_CALLS: Readonly<Record<CallCategory, readonly string[]>> = {
  file: OPEN_CALLS,
  network: [...CONNECT_CALLS, ...SEND_CALLS],
  process: EXEC_CALLS,
  memory: [],
  ipc: [],
};

/** Throws `invalid_argument` for calls that cannot be held, naming those that can. */
export function mediationOf(spec: SandboxSpec): Mediation {
  const needs = createNeeds();
  const triggers = spec.holds.triggers.map((trigger, index) => {
    const field = `spec.holds.triggers[${index}]`;
    const calls = namedCalls(trigger.syscalls, trigger.categories, field);
    if (calls.length === 0) throw invalidField(field, "names no system call and no category");
    if (trigger.match !== undefined) namedCalls(trigger.match.syscalls, trigger.match.categories, `${field}.match`);
    requireIntegrity(trigger, calls, field);
    needs.add(calls, trigger.match?.writesOnly === true, true);
    const match = trigger.match === undefined ? undefined : withSiblings(trigger.match);
    return { ...trigger, syscalls: siblingsOf(trigger.syscalls), match };
  });
  const rules = spec.rules.map((rule, index) => {
    const { match, action } = rule;
    const calls = callsOfRule(match, `spec.rules[${index}].match`);
    // Allowing what the static policy allows needs no look, unless it is to be recorded; everything else does.
    if (action.kind !== "allow" || spec.journal.recordAutomatic)
      needs.add(calls, match.writesOnly, action.kind === "ask");
    return { ...rule, match: withSiblings(match) };
  });
  // The kernel cannot tell reading from executing; no decider is asked.
  if (spec.filesystem.executable.length > 0) needs.add(OPEN_CALLS, false, false);
  const held = needs.calls;
  const holdConnect = CONNECT_CALLS.some((name) => held.has(name));
  const special = new Set([...OPEN_CALLS, ...EXEC_CALLS, ...CONNECT_CALLS, ...SEND_CALLS]);
  return {
    triggers,
    rules,
    holdOpen: needs.open,
    askOpen: needs.askOpen,
    holdExec: EXEC_CALLS.some((name) => held.has(name)),
    holdConnect,
    askConnect: needs.askConnect,
    holdSend: SEND_CALLS.some((name) => held.has(name)),
    mediateConnect: holdConnect || needsEngine(spec),
    holdSyscalls: [...held].filter((name) => !special.has(name)).sort(),
  };
}

type Opens = "none" | "writes" | "all";

function createNeeds() {
  const calls = new Set<string>();
  let open: Opens = "none";
  let askOpen: Opens = "none";
  let askConnect = false;
  const widen = (current: Opens, writesOnly: boolean): Opens => (writesOnly && current !== "all" ? "writes" : "all");
  return {
    calls: calls as ReadonlySet<string>,
    add(names: readonly string[], writesOnly: boolean, asks: boolean): void {
      for (const name of names) calls.add(name);
      if (names.includes("openat")) {
        open = widen(open, writesOnly);
        if (asks) askOpen = widen(askOpen, writesOnly);
      }
      if (asks && (names.includes("connect") || names.includes("sendto"))) askConnect = true;
    },
    get open() {
      return open;
    },
    get askOpen() {
      return askOpen;
    },
    get askConnect() {
      return askConnect;
    },
  };
}

function namedCalls(syscalls: readonly string[], categories: readonly CallCategory[], field: string): string[] {
  syscalls.forEach((name, index) => {
    const at = `${field}.syscalls[${index}]`;
    if (!isSyscallName(name)) throw invalidField(at, `${JSON.stringify(name)} is no system call of Linux`);
    if (!HOLDABLE.includes(name)) {
      throw invalidField(at, `${name} cannot be held in this version; these can: ${HOLDABLE.join(", ")}`);
    }
  });
  categories.forEach((category, index) => {
    if (CATEGORY_CALLS[category].length > 0) return;
    throw invalidField(
      `${field}.categories[${index}]`,
      `no call of the category ${category} can be held as a whole in this version; name calls instead`,
    );
  });
  return siblingsOf([...syscalls, ...categories.flatMap((category) => CATEGORY_CALLS[category])]);
}

function siblingsOf(names: readonly string[]): string[] {
  return [...new Set(names.flatMap(syscallSiblings))];
}

function withSiblings(match: CallMatch): CallMatch {
  return { ...match, syscalls: siblingsOf(match.syscalls) };
}

/** What a rule is about: the calls it names, else those that its other parts can match; all may be empty. */
function callsOfRule(match: CallMatch, field: string): string[] {
  const named = namedCalls(match.syscalls, match.categories, field);
  if (named.length > 0) return named;
  return [
    ...(match.paths.length > 0 ? OPEN_CALLS : []),
    ...(match.destinations.length > 0 ? CATEGORY_CALLS.network : []),
    ...(match.programs.length > 0 || match.arguments.length > 0 ? EXEC_CALLS : []),
  ];
}

/** The kernel's rules know TCP ports only, one by one. */
function needsEngine({ network }: SandboxSpec): boolean {
  const tcp = (list: SandboxSpec["network"]["allow"]) => list.filter((rule) => ruleCovers(rule, "tcp"));
  const allowed = tcp(network.allow);
  if (allowed.length === 0) return false;
  if (allowed.some(({ host }) => !isAnyHost(host)) || tcp(network.deny).length > 0) return true;
  return connectPorts(allowed) === "many";
}

/** From what may still change to what cannot. */
const STRENGTH: readonly ArgumentIntegrity[] = ["racy", "frozen", "copied", "registers"];

function requireIntegrity(trigger: HoldTrigger, calls: readonly string[], field: string): void {
  const { requiredIntegrity: required } = trigger;
  if (required === undefined) return;
  const weak = calls.find((name) => STRENGTH.indexOf(integrityOf(name)) < STRENGTH.indexOf(required));
  if (weak !== undefined) throw tooWeak(weak, integrityOf(weak), required, field);
}

function tooWeak(syscall: string, given: string, required: ArgumentIntegrity, trigger: string): SandboxError {
  const field = `${trigger}.required_integrity`;
  return new SandboxError(
    "failed_precondition",
    `${field}: the arguments of ${syscall} are ${given}, not ${required}`,
    { reason: "PROTECTION_UNAVAILABLE", field, metadata: { syscall, required_integrity: required } },
  );
}

/** Throws where a trigger asks for more than an execve gives without being verified. */
export function refuseRacyExecs(triggers: readonly HoldTrigger[]): void {
  triggers.forEach(({ syscalls, categories, requiredIntegrity }, index) => {
    if (requiredIntegrity === undefined || requiredIntegrity === "racy") return;
    const syscall = EXEC_CALLS.find((name) => syscalls.includes(name) || categories.includes("process"));
    if (syscall !== undefined)
      throw tooWeak(syscall, "racy without exec_verify", requiredIntegrity, `spec.holds.triggers[${index}]`);
  });
}

function integrityOf(name: string): ArgumentIntegrity {
  if (EXEC_CALLS.includes(name)) return "frozen";
  return [...OPEN_CALLS, ...CONNECT_CALLS, ...SEND_CALLS].includes(name) ? "copied" : "registers";
}
