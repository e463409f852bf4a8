import ipaddr from "ipaddr.js";
import { parseHostName } from "../../base/host-names.js";
import type { BindRule, NetworkPolicy, NetworkRule, PortRange, SocketAddress, Transport } from "../model.js";
import { compileUnixHost } from "./unix.js";

/** An address block: 4 or 16 bytes, of which the first `bits` count. */
export interface AddressBlock {
  readonly bytes: readonly number[];
  readonly bits: number;
}

const MAPPED = ipaddr.IPv6.parse("::ffff:0:0").toByteArray().slice(0, 12);
/** RFC 6052's well-known prefix. */
const NAT64 = ipaddr.IPv6.parse("64:ff9b::").toByteArray().slice(0, 12);
const LOOPBACK_V4 = [127, 0, 0, 1];
const LOOPBACK_V6 = [...new Array<number>(15).fill(0), 1];

/**
 * The address that a socket address reaches: IPv4 inside IPv6 as IPv4, and the unspecified address as loopback,
 * which is where the kernel connects it to. 4 or 16 bytes.
 */
export function canonicalAddress(ip: ArrayLike<number>): ArrayLike<number> {
  const folded = foldedAddress(ip);
  for (let index = 0; index < folded.length; index++) if (folded[index] !== 0) return folded;
  return folded.length === 4 ? LOOPBACK_V4 : LOOPBACK_V6;
}

/** IPv4 inside IPv6 as IPv4. */
function foldedAddress(ip: ArrayLike<number>): ArrayLike<number> {
  const isFolded = ip.length === 16 && (startsWith(ip, MAPPED) || startsWith(ip, NAT64));
  return isFolded ? [ip[12] ?? 0, ip[13] ?? 0, ip[14] ?? 0, ip[15] ?? 0] : ip;
}

/** An address or CIDR block; undefined when the text is neither. */
export function parseBlock(host: string): AddressBlock | undefined {
  const [address = "", prefix, ...rest] = host.split("/");
  if (rest.length > 0 || address.includes("%") || !ipaddr.isValid(address)) return undefined;
  // ipaddr.js also takes octal, hexadecimal and shortened IPv4, which people do not read alike.
  if (!address.includes(":") && !ipaddr.IPv4.isValidFourPartDecimal(address)) return undefined;
  const bytes = ipaddr.parse(address).toByteArray();
  const size = bytes.length * 8;
  if (prefix !== undefined && !/^(0|[1-9][0-9]{0,2})$/.test(prefix)) return undefined;
  const bits = prefix === undefined ? size : Number(prefix);
  if (bits > size) return undefined;
  if (bytes.length === 16 && bits >= 96 && (startsWith(bytes, MAPPED) || startsWith(bytes, NAT64))) {
    return { bytes: masked(bytes.slice(12), bits - 96), bits: bits - 96 };
  }
  return { bytes: masked(bytes, bits), bits };
}

/** By name, the addresses that it stands for, as `addressKey` gives them. */
export type NameTable = ReadonlyMap<string, ReadonlySet<string>>;

/** A canonical address as a key. */
export function addressKey(ip: ArrayLike<number>): string {
  return Array.prototype.join.call(ip, ".");
}

/** The name that a host is, in the form in which names are compared; undefined when it is none. */
export function nameOf(host: string): string | undefined {
  return isAnyHost(host) || parseBlock(host) !== undefined ? undefined : parseHostName(host);
}

/** The names in a policy, each with the first field that has it. */
export function namesOf({ allow, grantable }: NetworkPolicy): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  const add = (rules: readonly NetworkRule[], field: string) => {
    rules.forEach(({ transport, host }, index) => {
      const name = transport === "unix" ? undefined : nameOf(host);
      if (name !== undefined && !fields.has(name)) fields.set(name, `${field}[${index}].host`);
    });
  };
  add(allow, "spec.network.allow");
  add(grantable, "spec.network.grantable");
  return fields;
}

/** The block as text, for showing and for crossing to the engine. */
export function formatBlock({ bytes, bits }: AddressBlock): string {
  const address = ipaddr.fromByteArray([...bytes]).toString();
  return bits === bytes.length * 8 ? address : `${address}/${bits}`;
}

/** Whether a rule speaks of the transport; one without speaks of TCP and UDP. */
export function ruleCovers(rule: NetworkRule, transport: Transport): boolean {
  return rule.transport === undefined ? transport === "tcp" || transport === "udp" : rule.transport === transport;
}

export function isAnyHost(host: string): boolean {
  return host === "" || host === "*";
}

/** Landlock takes ports one by one; more than this many in a policy would slow every launch. */
export const MAX_PORT_RULES = 1024;

/** The ports that rules speak of: each of them, all, or too many to name to the kernel. */
export function connectPorts(rules: readonly NetworkRule[]): readonly number[] | "all" | "many" {
  return listPorts(
    rules.some(({ ports }) => ports.length === 0) ? [{ first: 1, last: 65535 }] : rules.flatMap(({ ports }) => ports),
  );
}

/** Likewise the TCP ports that may be bound. */
export function bindPorts(rules: readonly BindRule[]): readonly number[] | "all" | "many" {
  const tcp = rules.filter(({ transport }) => transport === "tcp");
  return listPorts(tcp.flatMap(({ ports }) => (ports.length === 0 ? [{ first: 1, last: 65535 }] : ports)));
}

export function listPorts(ranges: readonly PortRange[]): readonly number[] | "all" | "many" {
  if (ranges.some(({ first, last }) => first === 1 && last === 65535)) return "all";
  if (portsOf(ranges) > MAX_PORT_RULES) return "many";
  const ports = new Set<number>();
  for (const { first, last } of ranges) for (let port = first; port <= last; port += 1) ports.add(port);
  return [...ports];
}

export function portsOf(ports: readonly PortRange[]): number {
  return ports.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

/**
 * Whether any rule matches. `names` gives what names stand for at the time of the question. Hosts that are neither
 * match nothing: the spec's validation names them before.
 */
export function compileNetworkRules(
  rules: readonly NetworkRule[],
  names: () => NameTable = () => NO_NAMES,
): (transport: Transport, address: SocketAddress) => boolean {
  const compiled = rules.map((rule) => ({
    rule,
    any: isAnyHost(rule.host),
    block: isAnyHost(rule.host) || rule.transport === "unix" ? undefined : parseBlock(rule.host),
    isSocket: rule.transport === "unix" ? compileUnixHost(rule.host) : () => false,
    name: rule.transport === "unix" ? undefined : nameOf(rule.host),
  }));
  return (transport, address) => {
    if (address.kind === "unspecified") return false;
    const ip = address.kind === "ip" ? canonicalAddress(address.ip) : undefined;
    return compiled.some(({ rule, any, block, isSocket, name }) => {
      if (!ruleCovers(rule, transport)) return false;
      if (address.kind === "unix") return any || isSocket(address.path);
      if (
        rule.ports.length > 0 &&
        !rule.ports.some(({ first, last }) => first <= address.port && address.port <= last)
      ) {
        return false;
      }
      if (any) return true;
      if (ip === undefined) return false;
      if (name !== undefined) return names().get(name)?.has(addressKey(ip)) === true;
      return block !== undefined && isInBlock(ip, block);
    });
  };
}

const NO_NAMES: NameTable = new Map();

/** Whether a rule lets a local address be bound: the unspecified address is itself here, and no loopback. */
export function compileBindRules(
  rules: readonly BindRule[],
): (transport: BindRule["transport"], ip: ArrayLike<number>, port: number) => boolean {
  const compiled = rules.map((rule) => ({
    rule,
    block: isAnyHost(rule.address) ? undefined : parseBlock(rule.address),
  }));
  return (transport, ip, port) =>
    compiled.some(
      ({ rule, block }) =>
        rule.transport === transport &&
        (rule.ports.length === 0 || rule.ports.some(({ first, last }) => first <= port && port <= last)) &&
        (isAnyHost(rule.address) || (block !== undefined && isInBlock(foldedAddress(ip), block))),
    );
}

function isInBlock(ip: ArrayLike<number>, { bytes, bits }: AddressBlock): boolean {
  if (ip.length !== bytes.length) return false;
  for (let index = 0; index * 8 < bits; index++) {
    const mask = 0xff00 >> Math.min(8, bits - index * 8);
    if ((((ip[index] ?? 0) ^ (bytes[index] ?? 0)) & mask & 0xff) !== 0) return false;
  }
  return true;
}

function masked(bytes: readonly number[], bits: number): number[] {
  return bytes.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - index * 8))) & 0xff);
}

function startsWith(bytes: ArrayLike<number>, prefix: readonly number[]): boolean {
  return prefix.every((byte, index) => bytes[index] === byte);
}
