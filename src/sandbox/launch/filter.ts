/** What the filter of a sandbox must know, and the filters that were built already. */
import { buildFilter, EXEC_CALLS, type Filter, type FilterPolicy } from "../../engine/bpf/filter.js";
import type { HandledRights } from "../../engine/landlock/rights.js";
import { FILTER_FLAG, type HostFeatures } from "../host.js";
import type { SandboxSpec } from "../model.js";
import type { Mediation } from "../policy/mediation.js";
import { bindPorts, isAnyHost } from "../policy/network.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import type { DeniedPlan } from "./denied.js";
import type { LimitPlan } from "./limits.js";
import type { MetadataPlan } from "./mounts.js";
import type { NetworkPlan } from "./network.js";
import { cannotEnforce } from "./refusals.js";

/** Every sandbox has a listener: its end tells the engine that no filtered task is left. */
export function planFilterFlags(mediation: Mediation, network: NetworkPlan, ledger: ProtectionLedger): number {
  const notifies =
    mediation.holdOpen !== "none" ||
    mediation.holdExec ||
    mediation.holdSyscalls.length > 0 ||
    network.mediateConnect ||
    network.mediateBind;
  if (!ledger.need("seccomp_notify")) {
    if (notifies) throw cannotEnforce("spec.holds.triggers", "without seccomp_notify, holding calls");
    return 0;
  }
  return FILTER_FLAG.newListener | (ledger.need("wait_killable") ? FILTER_FLAG.waitKillable : 0);
}

export interface FilterCache {
  get(policy: FilterPolicy): Filter;
}

const MAX_FILTERS = 256;

export function createFilterCache(): FilterCache {
  const filters = new Map<string, Filter>();
  return {
    get(policy) {
      const key = JSON.stringify({ ...policy, notified: [...policy.notified] });
      const known = filters.get(key);
      if (known !== undefined) return known;
      if (filters.size >= MAX_FILTERS) filters.clear();
      const built = buildFilter(policy);
      filters.set(key, built);
      return built;
    },
  };
}

/** What Landlock does not judge: with a listener the engine does. */
function unjudged(filterFlags: number, handled: HandledRights): "allow" | "engine" | "refuse" {
  if (handled.fs === 0) return "allow";
  return filterFlags === 0 ? "refuse" : "engine";
}

/** Undefined: no mount keeps these calls to what may be written. */
const METADATA: Readonly<Record<MetadataPlan, "allow" | "refuse" | undefined>> = {
  none: "refuse",
  mounts: "allow",
  everywhere: "allow",
  mediated: undefined,
};

/** A TCP socket that was never bound listens on a port of the kernel's choice, and Landlock does not look at that. */
function listening(
  { network: { bind } }: SandboxSpec,
  network: NetworkPlan,
  filterFlags: number,
): FilterPolicy["listen"] {
  if (bind.length === 0 && !network.unix) return "refuse";
  const everyPort = bindPorts(bind.filter(({ address }) => isAnyHost(address))) === "all";
  return !network.tcp || everyPort || filterFlags === 0 ? "allow" : "engine";
}

export function filterPolicyOf(
  spec: SandboxSpec,
  mediation: Mediation,
  network: NetworkPlan,
  metadata: MetadataPlan,
  host: HostFeatures,
  filterFlags: number,
  handled: HandledRights,
  limits: LimitPlan,
  denied: DeniedPlan | undefined,
): FilterPolicy {
  return {
    arch: host.arch,
    tcp: network.tcp,
    udp: network.udp,
    icmp: network.icmp,
    unix: network.unix,
    sends: network.mediateSend ? "engine" : "allow",
    listen: listening(spec, network, filterFlags),
    metadata: METADATA[metadata] ?? unjudged(filterFlags, handled),
    watch: unjudged(filterFlags, handled),
    processes: filterFlags === 0 ? "nobody" : "engine",
    checkpointable: spec.checkpointable,
    paths: denied?.by === "engine",
    holdOpen: mediation.holdOpen,
    memoryFiles: !limits.watchesMemory,
    notified: new Set([
      ...(mediation.holdExec ? EXEC_CALLS : []),
      ...(network.mediateConnect ? ["connect"] : []),
      ...(network.mediateBind ? ["bind"] : []),
      ...mediation.holdSyscalls,
    ]),
  };
}
