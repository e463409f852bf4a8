import { isIP } from "node:net";
import { parseHostName } from "../base/host-names.js";
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
  /** Address, CIDR block, name, `*.domain`, or socket path; empty means any. */
  readonly host: string;
  /** Empty means all. */
  readonly ports: readonly Ports[];
}

/** What may be bound, as written on the command line or in a spec file. */
export interface Binding {
  readonly transport: "tcp" | "udp";
  /** Address or CIDR block; empty means any. */
  readonly address: string;
  /** Empty means all. */
  readonly ports: readonly Ports[];
}

const FORM =
  "write [tcp://|udp://|icmp://|unix://]HOST[:PORTS], such as api.example.com:443, 10.0.0.0/8, [::1]:80-90, :8080, udp://1.1.1.1:53 or unix:///run/app.sock";
const BIND_FORM = "write [tcp://|udp://][ADDRESS:]PORTS, such as 8080, 8080,9000-9005, 127.0.0.1:8080 or udp://5353";
const LAST_PORT = 65_535;

/** Reads `[tcp://|udp://|icmp://|unix://]HOST[:PORTS]`. Throws UsageError. */
export function parseDestination(text: string): Destination {
  const { scheme, rest } = splitScheme(text);
  if (rest === "") throw new UsageError(`"${text}" names no destination: ${FORM}`);
  switch (scheme) {
    case "unix":
      return { transport: scheme, host: parseSocketName(rest, text), ports: [] };
    case "icmp":
      return { transport: scheme, host: parseHost(withoutBrackets(rest), text), ports: [] };
    case undefined:
    case "tcp":
    case "udp": {
      const { host, ports } = splitPorts(rest, text);
      return { transport: scheme, host: parseHost(host, text), ports: ports === undefined ? [] : parsePorts(ports) };
    }
    default:
      throw new UsageError(`"${text}" has the unknown transport "${scheme}": ${FORM}`);
  }
}

/** Reads `[tcp://|udp://][ADDRESS:]PORTS`; without a transport it is TCP. Throws UsageError. */
export function parseBinding(text: string): Binding {
  const { scheme, rest } = splitScheme(text);
  if (scheme !== undefined && scheme !== "tcp" && scheme !== "udp")
    throw new UsageError(`"${text}" has the transport "${scheme}", and ports are of TCP or UDP: ${BIND_FORM}`);
  const transport = scheme ?? "tcp";
  if (/^[\d,*\s-]+$/.test(rest)) return { transport, address: "", ports: parsePorts(rest) };
  const { host, ports } = splitPorts(rest, text);
  if (ports === undefined) throw new UsageError(`"${text}" names no port: ${BIND_FORM}`);
  const address = parseHost(host, text);
  if (address !== "" && isIP(address.split("/")[0] ?? "") === 0)
    throw new UsageError(`"${text}" has no local address: ${BIND_FORM}`);
  return { transport, address, ports: parsePorts(ports) };
}

/** Reads `80`, `8000-8999` or `80,443`; `*` alone means all. Throws UsageError. */
export function parsePorts(text: string): Ports[] {
  if (text.trim() === "*") return [];
  return text.split(",").map((part) => {
    const range = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim());
    const first = Number(range?.[1]);
    const last = range?.[2] === undefined ? first : Number(range[2]);
    if (part.trim() === "*") throw new UsageError(`"${text}" mixes * with ports: write * alone for all of them`);
    if (range === null || first < 1 || last > LAST_PORT)
      throw new UsageError(`"${part}" is not a port: write 80, 8000-8999 or 80,443, from 1 to ${LAST_PORT}`);
    if (first > last) throw new UsageError(`"${part}" is not a port range: the first port is above the last`);
    return { first, last };
  });
}

function splitScheme(text: string): { scheme: string | undefined; rest: string } {
  const scheme = /^([a-z]+):\/\/(.*)$/s.exec(text);
  return scheme === null ? { scheme: undefined, rest: text } : { scheme: scheme[1], rest: scheme[2] ?? "" };
}

function parseSocketName(name: string, text: string): string {
  if (name === "*") return "";
  if (!name.startsWith("/") && !/^@./.test(name))
    throw new UsageError(
      `"${text}" is not a Unix socket: write unix:///run/app.sock, unix://@abstract-name or unix://*`,
    );
  return name;
}

function withoutBrackets(host: string): string {
  return /^\[([^\]]*)\](\/\d+)?$/.exec(host)?.slice(1).join("") ?? host;
}

/** The host and the text of the ports; undefined when there is no colon for them. */
function splitPorts(rest: string, text: string): { host: string; ports: string | undefined } {
  if (rest.startsWith("[")) {
    const bracketed = /^\[([^\]]*)\](\/\d+)?(?::(.*))?$/.exec(rest);
    if (bracketed === null || isIP(bracketed[1] ?? "") !== 6)
      throw new UsageError(`"${text}" has no IPv6 address in its brackets: ${FORM}`);
    return { host: `${bracketed[1] ?? ""}${bracketed[2] ?? ""}`, ports: bracketed[3] };
  }
  const colon = rest.indexOf(":");
  if (colon < 0) return { host: rest, ports: undefined };
  if (rest.indexOf(":", colon + 1) >= 0) return { host: rest, ports: undefined }; // an IPv6 address without brackets
  return { host: rest.slice(0, colon) || "*", ports: rest.slice(colon + 1) };
}

/** The host as the API takes it. */
function parseHost(host: string, text: string): string {
  if (host === "*") return "";
  const [address = "", bits, ...more] = host.split("/");
  const version = isIP(address);
  if (bits !== undefined) {
    const largest = version === 6 ? 128 : 32;
    if (version === 0 || more.length > 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > largest)
      throw new UsageError(`"${text}" is not a CIDR block: write 10.0.0.0/8 or 2001:db8::/32`);
    return host;
  }
  if (version !== 0) {
    if (address.includes("%")) throw new UsageError(`"${text}" names an interface: leave out everything from the %`);
    return host;
  }
  if (host.includes(":")) throw new UsageError(`"${text}" is not an IPv6 address: ${FORM}`);
  if (parseHostName(host.replace(/^\*\./, "")) === undefined)
    throw new UsageError(`"${text}" is not a destination: ${FORM}`);
  return host;
}
