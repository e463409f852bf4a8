/** Sockets whose messages can each name a destination, and sockets of files: which exist, and who judges them. */
import type { SandboxError } from "../../base/errors.js";
import type { NetworkPolicy, NetworkRule, SandboxSpec, Transport } from "../model.js";
import type { Mediation } from "../policy/mediation.js";
import { isAnyHost, listPorts, ruleCovers } from "../policy/network.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import { noted } from "./refusals.js";

export interface DatagramPlan {
  /** Sockets of the transport can be made. */
  readonly udp: boolean;
  readonly icmp: boolean;
  readonly unix: boolean;
  /** Their connects must be judged. */
  readonly judgesConnect: boolean;
  /** Likewise whatever can name where a message goes. */
  readonly judgesSend: boolean;
  readonly warnings: readonly SandboxError[];
}

type MessageTransport = Exclude<Transport, "tcp">;

export function planDatagrams(
  { network }: Pick<SandboxSpec, "network">,
  mediation: Mediation,
  ledger: ProtectionLedger,
): DatagramPlan {
  const mayMake = (transport: MessageTransport): boolean =>
    [...network.allow, ...network.grantable].some((rule) => ruleCovers(rule, transport)) &&
    !network.deny.some((rule) => coversAll(rule, transport));
  const isJudged = (transport: MessageTransport): boolean =>
    mayMake(transport) && (mediation.holdSend || mediation.holdConnect || !isFree(network, transport));
  const judgesSend = isJudged("udp") || isJudged("icmp") || isJudged("unix");
  const unix = mayMake("unix");
  return {
    udp: mayMake("udp"),
    icmp: mayMake("icmp"),
    unix,
    // The service's own sockets are refused to everybody, so that there is always one to be judged.
    judgesConnect: judgesSend || unix,
    judgesSend,
    warnings: unix ? outOfScope(network, ledger) : [],
  };
}

/** Whether everything may be reached, so that nobody need look. */
function isFree({ allow, deny }: NetworkPolicy, transport: MessageTransport): boolean {
  return !deny.some((rule) => ruleCovers(rule, transport)) && allow.some((rule) => coversAll(rule, transport));
}

function coversAll(rule: NetworkRule, transport: MessageTransport): boolean {
  const isAnyPort = rule.ports.length === 0 || listPorts(rule.ports) === "all";
  return ruleCovers(rule, transport) && isAnyHost(rule.host) && isAnyPort;
}

/** Landlock keeps abstract names that were bound elsewhere out of reach, whatever a rule says. */
function outOfScope({ allow, grantable }: NetworkPolicy, ledger: ProtectionLedger): SandboxError[] {
  if (!ledger.need("landlock_scope")) return [];
  const remark = "abstract names reach only what was bound in the same sandbox";
  const at = (field: string) => (rule: NetworkRule, index: number) =>
    rule.transport === "unix" && rule.host.startsWith("@")
      ? [noted(`spec.network.${field}[${index}].host`, remark)]
      : [];
  return [...allow.flatMap(at("allow")), ...grantable.flatMap(at("grantable"))];
}
