import { closeSync } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, type Verdict } from "../../engine/verdict.js";
import type { SocketKind } from "../../native/exchange.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { Keeper, KeeperResult } from "../warden/keeper.js";
import { ADDRESSED_SHAPES, takeAddressed } from "./addressed.js";
import { AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, SOCK_DGRAM } from "./destination.js";

const SOCK_STREAM = 1;
const IPPROTO_UDP = 17;

const EACCES = 13;
const EINVAL = 22;
const ENAMETOOLONG = 36;
const EAFNOSUPPORT = 97;

/** sizeof(sun_path) */
const SOCKET_PATH_LIMIT = 108;

interface LocalAddress {
  readonly ip: Uint8Array;
  readonly port: number;
}

/** What bind(2) makes of the bytes for a socket of the domain; a positive errno when nothing. ip(7), ipv6(7). */
function localAddress(domain: number, bytes: Buffer): LocalAddress | number {
  if (domain === AF_INET) {
    if (bytes.length < 16) return EINVAL;
    const family = bytes.readUInt16LE(0);
    // An old convention of the kernel: the unspecified family with the unspecified address.
    const isAny = family === AF_UNSPEC && bytes.readUInt32LE(4) === 0;
    if (family !== AF_INET && !isAny) return EAFNOSUPPORT;
    return { ip: bytes.subarray(4, 8), port: bytes.readUInt16BE(2) };
  }
  if (bytes.length < 24) return EINVAL;
  if (bytes.readUInt16LE(0) !== AF_INET6) return EAFNOSUPPORT;
  return { ip: bytes.subarray(8, 24), port: bytes.readUInt16BE(2) };
}

function isInternet({ domain }: SocketKind): boolean {
  return domain === AF_INET || domain === AF_INET6;
}

/** Whether the policy lets the socket have the address. */
function mayHave({ network }: EngineSandbox, kind: SocketKind, { ip, port }: LocalAddress): boolean {
  if (kind.type === SOCK_STREAM) return network.mayBind("tcp", ip, port);
  if (kind.type !== SOCK_DGRAM || kind.protocol !== IPPROTO_UDP) return false;
  // A port of the kernel's choice is what a send would get by itself.
  return port === 0 || network.mayBind("udp", ip, port);
}

/** Hands the duplicate to the keeper and answers with what it says. */
function carryOut(
  mediator: Mediator,
  call: Call,
  act: (done: (result: KeeperResult<undefined>) => void) => void,
): Verdict {
  const waiting = mediator.defer(call);
  act((result) => waiting.answer(result.ok ? { kind: "value", value: 0 } : { kind: "errno", errno: result.errno }));
  return deferred;
}

/** `bind`, on a copy of the address and a duplicate of the socket. */
export function bindHandler(mediator: Mediator): Handler<EngineSandbox> {
  const { tasks } = mediator;

  /** A socket file is made from the caller's directory, which is not the keeper's; else a positive errno. */
  function localName(tid: number, bytes: Buffer): Buffer | number {
    if (bytes.length <= 2 || bytes[2] === 0 || bytes[2] === 0x2f) return bytes;
    const directory = tasks.link(tid, "cwd");
    if (directory === undefined) return EACCES;
    const path = Buffer.concat([directory, Buffer.from("/"), bytes.subarray(2)]);
    return path.length > SOCKET_PATH_LIMIT ? ENAMETOOLONG : Buffer.concat([bytes.subarray(0, 2), path]);
  }

  function bindLocal(call: Call, sandbox: EngineSandbox, keeper: Keeper, socket: number, bytes: Buffer): Verdict {
    // The keeper may make files where the program may not.
    const isFile = bytes.length > 2 && bytes[2] !== 0;
    const isRefused = isFile && sandbox.policy.keeperWritesMore;
    const name = isRefused ? EACCES : localName(call.tid, bytes);
    if (typeof name === "number") {
      closeSync(socket);
      return { kind: "errno", errno: name };
    }
    const umask = tasks.read(call.tid)?.umask ?? 0o077;
    return carryOut(mediator, call, (done) => keeper.bind(socket, name, umask, done));
  }

  return {
    shapes: ADDRESSED_SHAPES,
    handle(call, sandbox): Verdict {
      const taken = takeAddressed(mediator, call, sandbox);
      if (typeof taken === "number") return { kind: "errno", errno: taken };
      const { keeper, socket, bytes } = taken;
      const { fd, kind } = socket;
      if (kind.domain === AF_UNIX) return bindLocal(call, sandbox, keeper, fd, bytes);
      const address = isInternet(kind) ? localAddress(kind.domain, bytes) : EAFNOSUPPORT;
      if (typeof address === "number" || !mayHave(sandbox, kind, address)) {
        closeSync(fd);
        return { kind: "errno", errno: typeof address === "number" ? address : EACCES };
      }
      return carryOut(mediator, call, (done) => keeper.bind(fd, bytes, 0, done));
    },
  };
}
