import type { SocketKind } from "../../native/exchange.js";
import type { SocketAddress, Transport } from "../model.js";

export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;

const EINVAL = 22;
const EISCONN = 106;
const EAFNOSUPPORT = 97;

/** sizeof(struct sockaddr_storage) */
export const ADDRESS_LIMIT = 128;
const IN_BYTES = 16;
/** RFC 2133's address without a scope, which the kernel still takes. */
const IN6_BYTES = 24;
/** struct sockaddr_un: the family, then at most 108 bytes of name. */
const UNIX_PATH = 2;
const UNIX_BYTES = 110;

export function transportOf({ domain, type, protocol }: SocketKind): Transport {
  if (domain === AF_UNIX) return "unix";
  if (type === SOCK_STREAM) return "tcp";
  return protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6 ? "icmp" : "udp";
}

/** Whether what is sent is a stream, of which a part may be sent. */
export function isStream({ type }: SocketKind): boolean {
  return type === SOCK_STREAM;
}

/** Where a message goes: to the peer that the socket is connected to, or to an address that must be judged. */
export interface Destination {
  /** What the kernel is given; undefined for the peer, and for what is found by `address`'s path. */
  readonly name: Buffer | undefined;
  readonly address: SocketAddress | undefined;
}

const PEER: Destination = { name: undefined, address: undefined };

/**
 * What a socket makes of the name of a message, as the kernel does; a positive errno when nothing. What means the same
 * to the kernel is given to it in one form, so that it cannot read another address there than was judged.
 */
export function destinationOf(kind: SocketKind, name: Buffer | undefined): Destination | number {
  const { domain, type } = kind;
  switch (domain) {
    case AF_INET:
    case AF_INET6:
      if (name === undefined || type !== SOCK_DGRAM) return PEER;
      return domain === AF_INET ? inetDestination(kind, name) : inet6Destination(kind, name);
    case AF_UNIX:
      if (name === undefined) return PEER;
      if (type === SOCK_STREAM) return EISCONN;
      return type === SOCK_DGRAM ? unixDestination(name) : PEER;
    default:
      return EAFNOSUPPORT;
  }
}

function familyOf(name: Buffer): number {
  return name.readUInt16LE(0);
}

function inetDestination(kind: SocketKind, name: Buffer): Destination | number {
  if (name.length < IN_BYTES) return EINVAL;
  const family = familyOf(name);
  // UDP of IPv4 takes an address without a family for one of its own.
  if (family !== AF_INET && !(family === AF_UNSPEC && transportOf(kind) === "udp")) return EAFNOSUPPORT;
  const known = Buffer.from(name.subarray(0, IN_BYTES));
  known.writeUInt16LE(AF_INET, 0);
  return { name: known, address: { kind: "ip", ip: copyOf(known, 4, 8), port: known.readUInt16BE(2) } };
}

function inet6Destination(kind: SocketKind, name: Buffer): Destination | number {
  if (name.length < 2) return EINVAL;
  switch (familyOf(name)) {
    case AF_INET6:
      if (name.length < IN6_BYTES) return EINVAL;
      return { name, address: { kind: "ip", ip: copyOf(name, 8, 24), port: name.readUInt16BE(2) } };
    case AF_INET:
      return transportOf(kind) === "udp" ? inetDestination(kind, name) : EAFNOSUPPORT;
    case AF_UNSPEC:
      return PEER;
    default:
      return EINVAL;
  }
}

function unixDestination(name: Buffer): Destination | number {
  const address = unixAddress(name);
  if (typeof address === "number") return address;
  return { name: isAbstract(address.path) ? name : undefined, address };
}

/** The path or, after a NUL, the abstract name in a Unix socket's address; a positive errno when there is none. */
export function unixAddress(name: Buffer): Extract<SocketAddress, { kind: "unix" }> | number {
  if (name.length <= UNIX_PATH || name.length > UNIX_BYTES || familyOf(name) !== AF_UNIX) return EINVAL;
  const bytes = copyOf(name, UNIX_PATH, name.length);
  const end = bytes[0] === 0 ? -1 : bytes.indexOf(0);
  return { kind: "unix", path: end < 0 ? bytes : bytes.slice(0, end) };
}

export function isAbstract(path: Uint8Array): boolean {
  return path[0] === 0;
}

/** A right-sized copy, which may cross to another thread. */
function copyOf(bytes: Buffer, start: number, end: number): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes, start, end);
}
