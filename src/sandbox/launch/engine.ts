/** What the engine thread is told of a sandbox. */
import { INJECTABLE } from "../../engine/bpf/filter.js";
import { FS, type HandledRights, SCOPE } from "../../engine/landlock/rights.js";
import { syscallNumber } from "../../engine/syscalls/table.js";
import type { HostFeatures } from "../host.js";
import type { NetworkRule, Rule, SandboxSpec } from "../model.js";
import { BASELINE_RULE, type EnginePolicy } from "../policy/engine-policy.js";
import type { Mediation } from "../policy/mediation.js";
import { formatBlock, isAnyHost, parseBlock } from "../policy/network.js";
import { HARMLESS_FILES, PROGRAM_TREES } from "../policy/sane.js";
import type { View } from "../policy/view.js";
import type { DeniedPlan } from "./denied.js";
import { type Baseline, type Trees, withRealPath } from "./layers.js";
import type { NetworkPlan } from "./network.js";
import { canonicalUnixRule, refusedSockets } from "./sockets.js";

export function enginePolicyOf(
  spec: SandboxSpec,
  mediation: Mediation,
  network: NetworkPlan,
  trees: Trees,
  baseline: Baseline,
  host: HostFeatures,
  view: View,
  handled: HandledRights,
  ownSockets: readonly string[],
  denied: DeniedPlan | undefined,
  hasListener: boolean,
  verifyExec: boolean,
): EnginePolicy {
  const mediatesOpens = mediation.holdOpen !== "none";
  const isSane = spec.filesystem.baseline === "sane";
  const own = mediatesOpens
    ? [...(isSane ? baseline.resolved(view) : []), ...trees.program.flatMap((rule) => withRealPath(rule, view))]
    : [];
  const pathsWith = (right: number) =>
    own.filter(({ access, executeOnly }) => executeOnly !== true && (access & right) !== 0).map(({ path }) => path);
  const exchangeable = [...trees.program, ...trees.grantable].filter(({ access }) => (access & FS.writeFile) !== 0);
  return {
    rules: mediatesOpens && isSane ? [...mediation.rules, HARMLESS] : mediation.rules,
    triggers: mediation.triggers,
    network: {
      allow: spec.network.allow.map((rule) => canonical(rule, view)),
      deny: spec.network.deny.map((rule) => canonical(rule, view)),
      grantable: spec.network.grantable.map((rule) => canonical(rule, view)),
      bind: spec.network.bind,
    },
    hasListener,
    refusedSockets: network.unix ? refusedSockets(spec, ownSockets, view) : [],
    scopesAbstract: (handled.scoped & SCOPE.abstractUnixSocket) !== 0,
    keeperWritesMore: spec.filesystem.grantableWritable.length > 0 || denied?.by === "engine",
    holdExec: mediation.holdExec,
    verifyExec,
    exchangeableTrees: mediation.holdExec
      ? exchangeable.flatMap((rule) => withRealPath(rule, view)).map(({ path }) => path)
      : [],
    holdConnect: mediation.holdConnect,
    holdOpen: mediation.holdOpen,
    holdSyscalls: mediation.holdSyscalls,
    mediateConnect: network.mediateConnect,
    readableTrees: pathsWith(FS.readFile),
    writableTrees: pathsWith(FS.writeFile),
    servesPaths: denied?.by === "engine",
    kernelTrees: denied?.by === "engine" ? PROGRAM_TREES.filter((tree) => !denied.touches(tree)) : [],
    injectable: spec.checkpointable ? injectableNumbers(host) : new Map(),
    maxHeld: spec.holds.maxHeld,
    maxHoldMs: spec.holds.maxHoldMs,
    recordAutomatic: spec.journal.recordAutomatic,
  };
}

/** After the spec's own rules, which may say otherwise. */
const HARMLESS: Rule = {
  name: BASELINE_RULE,
  match: {
    syscalls: [],
    categories: ["file"],
    paths: HARMLESS_FILES,
    writesOnly: false,
    destinations: [],
    executables: [],
    programs: [],
    arguments: [],
  },
  action: { kind: "allow" },
};

function canonical(rule: NetworkRule, view: View): NetworkRule {
  if (rule.transport === "unix" && !isAnyHost(rule.host)) return canonicalUnixRule(rule, view);
  if (isAnyHost(rule.host)) return { ...rule, host: "" };
  const block = parseBlock(rule.host);
  return block === undefined ? rule : { ...rule, host: formatBlock(block) };
}

function injectableNumbers(host: HostFeatures): ReadonlyMap<number, number> {
  return new Map(
    INJECTABLE.flatMap(({ syscall, errno }) => {
      const number = syscallNumber(host.arch, syscall);
      return number === undefined ? [] : [[number, errno] as const];
    }),
  );
}
