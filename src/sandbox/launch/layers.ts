/** The two Landlock layers: of the program, and of what acts for it. */
import {
  FS,
  type HandledRights,
  handledRights,
  NET,
  NEWEST_ABI,
  READ_TREE,
  WRITE_TREE,
} from "../../engine/landlock/rights.js";
import type { HostFeatures } from "../host.js";
import type { ProcessSpec, SandboxSpec } from "../model.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import { baselineTrees, programTrees, type TreeRule } from "../policy/sane.js";
import { PROC, type View } from "../policy/view.js";
import type { DeniedPlan } from "./denied.js";
import { type EncodedRules, encodePathRules, encodeRuleset, NOTHING, type PortRule } from "./encode.js";
import { writableTrees } from "./mounts.js";
import type { NetworkPlan } from "./network.js";
import { searchPathOf } from "./process.js";

export function planHandled(network: NetworkPlan, host: HostFeatures, ledger: ProtectionLedger): HandledRights {
  const can = handledRights(Math.min(host.landlockAbi, NEWEST_ABI));
  const files = ledger.need("landlock_fs");
  let fs = files ? can.fs : 0;
  if (files && !ledger.need("landlock_refer")) fs &= ~FS.refer;
  if (files && !ledger.need("landlock_truncate")) fs &= ~FS.truncate;
  if (files && !ledger.need("landlock_ioctl")) fs &= ~FS.ioctlDev;
  const netWanted = ledger.states.get("landlock_net") !== "disabled";
  const net =
    (network.outerPorts === "all" && network.innerPorts === "all" ? 0 : NET.connectTcp) |
    (network.outerBindPorts === "all" && network.innerBindPorts === "all" ? 0 : NET.bindTcp);
  return { fs, net: netWanted ? can.net & net : 0, scoped: ledger.need("landlock_scope") ? can.scoped : 0 };
}

export interface Baseline {
  readonly rules: readonly TreeRule[];
  encode(handledFs: number): EncodedRules;
  /** Paths with every link followed. */
  resolved(view: View): readonly TreeRule[];
}

export function createBaseline(): Baseline {
  const rules = baselineTrees();
  const encoded = new Map<number, EncodedRules>();
  let onHost: readonly TreeRule[] | undefined;
  return {
    rules,
    encode(handledFs) {
      const known = encoded.get(handledFs) ?? encodePathRules(rules, handledFs);
      encoded.set(handledFs, known);
      return known;
    },
    resolved(view) {
      if (view.isOwn) return rules.flatMap((rule) => withRealPath(rule, view));
      onHost ??= rules.flatMap((rule) => withRealPath(rule, view));
      return onHost;
    },
  };
}

export interface Trees {
  /** Without the baseline. */
  readonly program: readonly TreeRule[];
  readonly grantable: readonly TreeRule[];
}

/** `shown` are files that the sandbox is given to read. */
export function planTrees(
  { filesystem }: SandboxSpec,
  process: ProcessSpec,
  view: View,
  shown: readonly string[] = [],
): Trees {
  const rule = (access: number) => (path: string) => ({ path, access, optional: false });
  // The kernel wants both to execute; the engine, which sees every open, refuses to read.
  const executable = (path: string) => ({ ...rule(FS.execute | FS.readFile)(path), executeOnly: true });
  const cwd = process.cwd === "" ? "/" : process.cwd;
  const program = process.argv[0] ?? "";
  return {
    program: [
      ...filesystem.readable.map(rule(READ_TREE)),
      ...writableTrees(filesystem).map(rule(WRITE_TREE)),
      ...filesystem.mappings.filter(({ readOnly }) => readOnly).map(({ inside }) => rule(READ_TREE)(inside)),
      ...(filesystem.privateProc ? [rule(FS.readFile | FS.readDir)(PROC)] : []),
      ...filesystem.executable.map(executable),
      ...shown.map((path) => ({ path, access: FS.readFile, optional: true })),
      ...(filesystem.baseline === "sane"
        ? programTrees({ program, cwd, searchPath: searchPathOf(process) }, view)
        : []),
    ],
    grantable: [
      ...filesystem.grantableReadable.map(rule(READ_TREE)),
      ...filesystem.grantableWritable.map(rule(WRITE_TREE)),
    ],
  };
}

interface Layers {
  /** Of what acts for the program, and of the program: empty when equal. */
  readonly outer: Buffer;
  readonly inner: Buffer;
  /** What the program is granted where the kernel cannot be told all of it. */
  readonly whole: Buffer;
}

export function encodeLayers(
  { filesystem }: SandboxSpec,
  baseline: Baseline,
  trees: Trees,
  handled: HandledRights,
  network: NetworkPlan,
  denials: DeniedPlan | undefined,
): Layers {
  const denied = denials?.by === "mounts" ? undefined : denials;
  const plain = (rules: readonly TreeRule[]) => encodePathRules(rules, handled.fs);
  const isSane = filesystem.baseline === "sane";
  const whole = [...(isSane ? [baseline.encode(handled.fs)] : []), plain(trees.program)];
  const program = [...(isSane ? baseline.rules : []), ...trees.program];
  const carved = (rules: readonly TreeRule[]) => encodePathRules(denied?.carve(rules) ?? [], handled.fs);
  const inner = denied === undefined ? whole : [carved(program)];
  const isServed = denied?.by === "engine";
  const [outer, grantable] =
    denied === undefined || isServed ? [whole, plain(trees.grantable)] : [inner, carved(trees.grantable)];
  const layer = (paths: readonly EncodedRules[], connect: readonly number[] | "all", bind: readonly number[] | "all") =>
    encodeRuleset({
      handledFs: handled.fs,
      handledNet: handled.net & ~(connect === "all" ? NET.connectTcp : 0) & ~(bind === "all" ? NET.bindTcp : 0),
      scoped: handled.scoped,
      paths,
      ports: portRules(handled.net, connect, bind),
    });
  const { outerPorts, outerBindPorts, innerPorts, innerBindPorts, mediateConnect, mediateBind } = network;
  const isEqual = trees.grantable.length === 0 && !mediateConnect && !mediateBind && !isServed;
  if (isEqual) return { outer: layer(outer, outerPorts, outerBindPorts), inner: NOTHING, whole: NOTHING };
  return {
    outer: layer([...outer, grantable], outerPorts, outerBindPorts),
    inner: layer(inner, innerPorts, innerBindPorts),
    whole: isServed ? encodePathRules(denied.exact(program), handled.fs).bytes : NOTHING,
  };
}

function portRules(
  handledNet: number,
  connect: readonly number[] | "all",
  bind: readonly number[] | "all",
): PortRule[] {
  const rules = (ports: readonly number[] | "all", access: number): PortRule[] =>
    ports === "all" || (handledNet & access) === 0 ? [] : ports.map((port) => ({ access, port }));
  return [...rules(connect, NET.connectTcp), ...rules(bind, NET.bindTcp)];
}

export function withRealPath(rule: TreeRule, view: View): TreeRule[] {
  const place = view.resolve(rule.path);
  return place === undefined ? [] : [{ ...rule, path: place.inside }]; // what is missing grants nothing
}
