/** Says for each rule of a spec which mechanism enforces it. */
import type { FilterPolicy } from "../../engine/bpf/filter.js";
import { syscallRows } from "../../engine/syscalls/table.js";
import type { NetworkRule, SandboxSpec } from "../model.js";
import type { Mediation } from "../policy/mediation.js";
import { nameOf } from "../policy/network.js";
import type { DeniedPlan } from "./denied.js";
import type { LimitPlan } from "./limits.js";
import type { MetadataPlan } from "./mounts.js";
import type { NetworkPlan } from "./network.js";

const DENIED: Readonly<Record<DeniedPlan["by"], string>> = {
  mounts: "mounts over them",
  engine: "landlock, with the engine for the directories that lead there",
  landlock: "landlock, without the directories that lead there",
};

const MECHANISMS = { allow: "", engine: "engine, below writable trees", refuse: "seccomp, refused" } as const;

export function mechanismsOf(
  spec: SandboxSpec,
  mediation: Mediation,
  network: NetworkPlan,
  filter: FilterPolicy,
  metadata: MetadataPlan,
  planned: LimitPlan,
  denied: DeniedPlan | undefined,
  verifyExec: boolean,
): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const each = (list: readonly unknown[], field: string, mechanism: (index: number) => string) => {
    list.forEach((_, index) => {
      found.set(`${field}[${index}]`, mechanism(index));
    });
  };
  const { filesystem, limits, holds, rules } = spec;
  found.set("spec.filesystem.baseline", filesystem.baseline === "sane" ? "landlock" : "");
  each(filesystem.readable, "spec.filesystem.readable", () => "landlock");
  each(filesystem.writable, "spec.filesystem.writable", () => "landlock");
  each(filesystem.executable, "spec.filesystem.executable", () => "landlock; reading refused by the engine");
  each(filesystem.mappings, "spec.filesystem.mappings", () => "mount and landlock");
  if (filesystem.root !== "") found.set("spec.filesystem.root", "mount and PID namespace");
  if (filesystem.privateTmp !== undefined) found.set("spec.filesystem.private_tmp", "mount");
  if (filesystem.privateProc) found.set("spec.filesystem.private_proc", "mount and PID namespace");
  if (spec.runAs !== undefined) found.set("spec.run_as", "ids");
  each(filesystem.denied, "spec.filesystem.denied", () => (denied === undefined ? "" : DENIED[denied.by]));
  each(
    filesystem.grantableReadable,
    "spec.filesystem.grantable_readable",
    () => "verdict within the outer landlock layer",
  );
  each(
    filesystem.grantableWritable,
    "spec.filesystem.grantable_writable",
    () => "verdict within the outer landlock layer",
  );
  const metadataMechanism = metadata === "mounts" ? "read-only mounts" : MECHANISMS[filter.metadata];
  if (metadataMechanism !== "") found.set("modes, owners, times and attributes of files", metadataMechanism);
  if (filter.watch !== "allow") {
    found.set("watching files", filter.watch === "engine" ? "engine, below readable trees" : "seccomp, refused");
  }
  const reached = (rule: NetworkRule | undefined) =>
    rule === undefined || !["tcp", undefined].includes(rule.transport)
      ? reachedByMessage(rule)
      : network.mediateConnect
        ? judged(rule)
        : "landlock";
  const reachedByMessage = (rule: NetworkRule | undefined) =>
    network.mediateSend || rule?.transport === "unix" ? "engine" : "seccomp";
  const judged = ({ host }: NetworkRule) =>
    nameOf(host) === undefined ? "engine" : "engine, on the addresses that the service resolved";
  each(spec.network.allow, "spec.network.allow", (index) => reached(spec.network.allow[index]));
  each(spec.network.deny, "spec.network.deny", (index) => reached(spec.network.deny[index]));
  each(spec.network.grantable, "spec.network.grantable", () => "verdict");
  each(spec.network.bind, "spec.network.bind", () =>
    network.mediateBind ? "engine" : filter.listen === "engine" ? "landlock; listening by the engine" : "landlock",
  );
  each(holds.triggers, "spec.holds.triggers", () => "seccomp notification");
  each(rules, "spec.rules", () => "engine");
  if (mediation.holdExec) {
    found.set("starting programs", `engine, ${verifyExec ? "compared by the tracer before they begin" : "racy"}`);
  }
  if (limits.openFiles > 0) found.set("spec.limits.open_files", "rlimit, per process");
  if (limits.outputBytes > 0n) found.set("spec.limits.output_bytes", "service, as it reads the streams");
  for (const [field, mechanism] of planned.mechanisms) found.set(`spec.limits.${field}`, mechanism);
  if (mediation.holdOpen === "writes") found.set("opens for reading", "landlock, not notified");
  found.set("signals to other processes", "landlock");
  found.set(
    "processes named by number",
    filter.processes === "engine"
      ? "engine; none is there outside of the sandbox"
      : "seccomp: only the caller can be changed",
  );
  found.set("system calls", describeCalls(filter));
  found.set("capabilities", "none in any set");
  return new Map([...found].filter(([, mechanism]) => mechanism !== ""));
}

/** How many calls of the table pass as they are, by their registers, or not at all. */
function describeCalls({ arch }: FilterPolicy): string {
  const counts = { allow: 0, registers: 0, errno: 0 };
  for (const { treatment } of syscallRows(arch)) counts[treatment.kind]++;
  return `seccomp: ${counts.allow} pass, ${counts.registers} by their registers; ${counts.errno} and unknown ones do not`;
}
