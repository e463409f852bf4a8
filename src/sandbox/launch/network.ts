/** Which mechanism takes each network rule. */
import { networkInterfaces } from "node:os";
import { SandboxError } from "../../base/errors.js";
import type { SandboxSpec } from "../model.js";
import type { Mediation } from "../policy/mediation.js";
import { bindPorts, connectPorts, isAnyHost, namesOf, ruleCovers } from "../policy/network.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import { planDatagrams } from "./datagrams.js";
import { cannotEnforce, noted } from "./refusals.js";

export interface NetworkPlan {
  /** Internet sockets can be made. */
  readonly tcp: boolean;
  readonly udp: boolean;
  readonly unix: boolean;
  readonly icmp: boolean;
  /** Calls that can name where a message goes are notified. */
  readonly mediateSend: boolean;
  readonly mediateConnect: boolean;
  /** Its rules have names, which the sandbox sees in its /etc/hosts. */
  readonly showsNames: boolean;
  /** What Landlock grants by port: to the program, and to what acts for it. */
  readonly innerPorts: readonly number[] | "all";
  readonly outerPorts: readonly number[] | "all";
  readonly innerBindPorts: readonly number[] | "all";
  readonly outerBindPorts: readonly number[] | "all";
  /** bind is notified. */
  readonly mediateBind: boolean;
  readonly warnings: readonly SandboxError[];
}

/** No rule reaches the service itself: what a sandbox could ask of it is what a sandbox is kept from. */
export function withoutOwnPorts(spec: SandboxSpec, ports: readonly number[]): SandboxSpec {
  const { allow, deny, grantable } = spec.network;
  const reachable = ports.filter((port) =>
    [...allow, ...grantable].some(
      (rule) =>
        ruleCovers(rule, "tcp") &&
        (rule.ports.length === 0 || rule.ports.some(({ first, last }) => first <= port && port <= last)),
    ),
  );
  if (reachable.length === 0) return spec;
  const hosts = [...LOOPBACK, ...addressesOfThisMachine()];
  const own = reachable.flatMap((port) =>
    hosts.map((host) => ({ transport: "tcp" as const, host, ports: [{ first: port, last: port }] })),
  );
  return { ...spec, network: { ...spec.network, deny: [...deny, ...own] } };
}

const LOOPBACK = ["127.0.0.0/8", "::1"];

/** A service that takes remote clients is reached by each of them from here too. */
function addressesOfThisMachine(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.filter(({ internal }) => !internal).map(({ address }) => address.replace(/%.*$/, ""));
}

export function planNetwork({ network }: SandboxSpec, mediation: Mediation, ledger: ProtectionLedger): NetworkPlan {
  const datagrams = planDatagrams({ network }, mediation, ledger);
  const warnings = [...datagrams.warnings];
  const allowed = network.allow.filter((rule) => ruleCovers(rule, "tcp"));
  const grantable = network.grantable.filter((rule) => ruleCovers(rule, "tcp"));
  network.bind.forEach(({ transport }, index) => {
    if (transport === "udp" && !datagrams.udp)
      throw cannotEnforce(`spec.network.bind[${index}].transport`, "UDP ports where no UDP destination is allowed");
  });
  const bound = named(bindPorts(network.bind));
  if (network.deny.length > 0 && network.allow.length === 0 && network.grantable.length === 0 && !mediation.holdConnect)
    warnings.push(noted("spec.network.deny", "denies what nothing allows: allow any host to reach everything else"));
  const tcp = allowed.length > 0 || grantable.length > 0 || network.bind.length > 0 || mediation.holdConnect;
  const allowedPorts = connectPorts(allowed);
  const restricts = tcp && (mediation.mediateConnect || allowedPorts !== "all" || bound !== "all");
  // Without Landlock's port rules the engine can still judge every connect.
  const mediateConnect =
    mediation.mediateConnect ||
    datagrams.judgesConnect ||
    (restricts && !ledger.need("landlock_net") && allowedPorts !== "all");
  const mediateBind = judgesBind(network, { tcp, udp: datagrams.udp }, ledger);
  return {
    tcp,
    udp: datagrams.udp,
    icmp: datagrams.icmp,
    unix: datagrams.unix,
    mediateSend: datagrams.judgesSend,
    mediateConnect,
    showsNames: namesOf(network).size > 0,
    innerPorts: mediateConnect ? [] : named(allowedPorts),
    outerPorts: mediateConnect ? named(connectPorts([...allowed, ...grantable])) : named(allowedPorts),
    mediateBind,
    innerBindPorts: mediateBind ? [] : bound,
    outerBindPorts: bound,
    warnings,
  };
}

/** Landlock knows ports of TCP, one by one. What says more is the engine's to judge. */
function judgesBind(
  { bind }: SandboxSpec["network"],
  sockets: { readonly tcp: boolean; readonly udp: boolean },
  ledger: ProtectionLedger,
): boolean {
  const tcp = bind.filter(({ transport }) => transport === "tcp");
  const ports = bindPorts(bind);
  const byAddress = tcp.some(({ address }) => !isAnyHost(address));
  const byPort = sockets.tcp && ports !== "all" && !ledger.need("landlock_net");
  return sockets.udp || byAddress || ports === "many" || byPort;
}

/** Where there are too many ports to name, the engine's judgement is the only one. */
function named(ports: readonly number[] | "all" | "many"): readonly number[] | "all" {
  return ports === "many" ? "all" : ports;
}

export function refuseUnjudgedConnects(): never {
  throw new SandboxError(
    "failed_precondition",
    "spec.network: judging connects and binds needs pidfd_getfd; use rules with ports alone and no trigger on connect",
    { reason: "PROTECTION_UNAVAILABLE", field: "spec.network", metadata: { protection: "pidfd_getfd" } },
  );
}
