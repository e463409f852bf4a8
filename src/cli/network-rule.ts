import { isIP } from "node:net";
import { UsageError } from "./failure.js";

export type RuleTransport = "tcp" | "udp" | "icmp" | "unix";

/** Inclusive. */
export interface Ports {
  readonly first: number;
  readonly last: number;
}

/** One destination as written on the command line or in a spec file. */
export interface Destination {
  /** Undefined: TCP and UDP. */
  readonly transport: RuleTransport | undefined;
  /** Address, CIDR block, name, or socket path; empty means any. */
  readonly host: string;
  /** Empty means all. */
  readonly ports: readonly Ports[];
}

const FORM =
  "write [tcp://|udp://|unix://]HOST[:PORTS], such as 127.0.0.1:8080, 10.0.0.0/8, [::1]:443, *:80-90 or unix:///run/app.sock";

/** Reads `[tcp://|udp://|icmp://|unix://]HOST[:PORTS]`. Throws UsageError. */
export function parseDestination(text: string): Destination {
  const scheme = /^([a-z]+):\/\/(.*)$/s.exec(text);
  const transport = scheme === null ? undefined : parseTransport(scheme[1] ?? "", text);
  const rest = scheme === null ? text : (scheme[2] ?? "");
  if (rest === "") throw new UsageError(`"${text}" names no destination: ${FORM}`);
  if (transport === "unix") return { transport, host: rest === "*" ? "" : rest, ports: [] };
  const { host, ports } = splitPorts(rest, text);
  checkHost(host, text);
  return { transport, host: host === "*" ? "" : host, ports: ports === "" ? [] : parsePorts(ports) };
}

/** Reads `80`, `8000-8999` or `80,443`; `*` means all. Throws UsageError. */
export function parsePorts(text: string): Ports[] {
  if (text === "*") return [];
  return text.split(",").map((part) => {
    const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim());
    const first = Number(range?.[1]);
    const last = range?.[2] === undefined ? first : Number(range[2]);
    if (range === null || last > 65_535) throw new UsageError(`"${part}" is not a port: write 80, 8000-8999 or 80,443`);
    if (first > last) throw new UsageError(`"${part}" is not a port range: the first port is above the last`);
    return { first, last };
  });
}

function parseTransport(scheme: string, text: string): RuleTransport {
  switch (scheme) {
    case "tcp":
    case "udp":
    case "icmp":
    case "unix":
      return scheme;
    default:
      throw new UsageError(`"${text}" has the unknown transport "${scheme}": ${FORM}`);
  }
}

function splitPorts(rest: string, text: string): { host: string; ports: string } {
  if (rest.startsWith("[")) {
    const bracketed = /^\[([^\]]*)\](\/\d+)?(?::(.*))?$/.exec(rest);
    if (bracketed === null) throw new UsageError(`"${text}" has an unfinished [address]: ${FORM}`);
    return { host: `${bracketed[1] ?? ""}${bracketed[2] ?? ""}`, ports: bracketed[3] ?? "" };
  }
  const colon = rest.indexOf(":");
  if (colon < 0) return { host: rest, ports: "" };
  if (rest.indexOf(":", colon + 1) >= 0) return { host: rest, ports: "" }; // an IPv6 address without brackets
  return { host: rest.slice(0, colon), ports: rest.slice(colon + 1) };
}

function checkHost(host: string, text: string): void {
  if (host === "") throw new UsageError(`"${text}" has an empty host: write * for any`);
  const slash = host.indexOf("/");
  const address = slash < 0 ? host : host.slice(0, slash);
  const version = isIP(address);
  if (slash >= 0) {
    const bits = host.slice(slash + 1);
    const largest = version === 6 ? 128 : 32;
    if (version === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > largest) {
      throw new UsageError(`"${text}" is not a CIDR block: write 10.0.0.0/8 or 2001:db8::/32`);
    }
    return;
  }
  if (version === 0 && host.includes(":")) throw new UsageError(`"${text}" is not an IPv6 address: ${FORM}`);
  if (version === 0 && host !== "*" && !/^[A-Za-z0-9_.*-]+$/.test(host))
    throw new UsageError(`"${text}" is not a destination: ${FORM}`);
}
