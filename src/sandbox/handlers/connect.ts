import { closeSync } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, type Verdict } from "../../engine/verdict.js";
import type { TakenSocket } from "../../native/exchange.js";
import type { Allowance, Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { SocketAddress } from "../model.js";
import type { Keeper } from "../warden/keeper.js";
import { ADDRESSED_SHAPES, takeAddressed } from "./addressed.js";
import { AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, transportOf } from "./destination.js";
import { connectLocal } from "./unix.js";

const EINVAL = 22;
const EAFNOSUPPORT = 97;
const ECONNREFUSED = 111;

/** Longer than the kernel's own SYN retries. */
const CONNECT_TIMEOUT_MS = 10 * 60_000;

/** Reads a socket address of an IP socket; a positive errno when it is none. ip(7), ipv6(7). */
export function parseAddress(bytes: Buffer): SocketAddress | number {
  if (bytes.length < 2) return EINVAL;
  switch (bytes.readUInt16LE(0)) {
    case AF_UNSPEC:
      return { kind: "unspecified" };
    case AF_INET:
      if (bytes.length < 16) return EINVAL;
      return { kind: "ip", ip: Uint8Array.prototype.slice.call(bytes, 4, 8), port: bytes.readUInt16BE(2) };
    case AF_INET6:
      // 24 bytes: RFC 2133's address without a scope, which the kernel still takes.
      if (bytes.length < 24) return EINVAL;
      return { kind: "ip", ip: Uint8Array.prototype.slice.call(bytes, 8, 24), port: bytes.readUInt16BE(2) };
    default:
      return EAFNOSUPPORT;
  }
}

/**
 * `connect` on an IP socket: decided on a copy of the address and a duplicate of the socket, then carried
 * out on both by the keeper, so that neither a racing thread nor a swapped descriptor changes anything.
 */
export function connectHandler(mediator: Mediator): Handler<EngineSandbox> {
  return {
    shapes: ADDRESSED_SHAPES,
    handle(call, sandbox): Verdict {
      const taken = takeAddressed(mediator, call, sandbox);
      if (typeof taken === "number") return { kind: "errno", errno: taken };
      const { keeper, socket, bytes } = taken;
      const { kind } = socket;
      if (kind.domain === AF_UNIX) return connectLocal(mediator, call, sandbox, keeper, socket, bytes);
      const address = addressFor(kind.domain, bytes);
      if (typeof address === "number") {
        closeSync(socket.fd);
        return { kind: "errno", errno: address };
      }
      connectJudged(mediator, call, sandbox, keeper, socket, { address, bytes });
      return deferred;
    },
  };
}

/** What a socket of the domain makes of the bytes; a positive errno when nothing. */
function addressFor(domain: number, bytes: Buffer): SocketAddress | number {
  if (domain !== AF_INET && domain !== AF_INET6) return EAFNOSUPPORT;
  const address = parseAddress(bytes);
  const isLonger = typeof address === "object" && address.kind === "ip" && address.ip.length === 16;
  return isLonger && domain === AF_INET ? EAFNOSUPPORT : address;
}

function connectJudged(
  mediator: Mediator,
  call: Call,
  sandbox: EngineSandbox,
  keeper: Keeper,
  socket: TakenSocket,
  { address, bytes }: { readonly address: SocketAddress; readonly bytes: Buffer },
): void {
  const { tid, idLow, idHigh } = call;
  const transport = transportOf(socket.kind);
  // Dissolving an association reaches nobody.
  const isHarmless = address.kind === "unspecified";
  const isSettled = isHarmless || sandbox.judge.isIdle;
  const origin = isSettled ? undefined : mediator.originOf(call, sandbox);
  // Who owns the duplicate: this function until it is handed to the keeper.
  let owned: number | undefined = socket.fd;
  let cancel: (() => void) | undefined;
  let unwatch: (() => void) | undefined;
  const dispose = (): void => {
    if (owned !== undefined) closeSync(owned);
    owned = undefined;
    unwatch?.();
    cancel?.();
  };
  const watch = (): void => {
    // The keeper then says whether the kernel would make the call again.
    if (cancel !== undefined) unwatch ??= mediator.interrupts.watch(tid, cancel);
  };
  const waiting = mediator.defer(call, dispose, watch);

  const refuse = (errno: number): void => {
    dispose();
    waiting.answer({ kind: "errno", errno });
  };
  const connect = (): void => {
    if (owned === undefined) return;
    const taken = owned;
    owned = undefined;
    waiting.extend(CONNECT_TIMEOUT_MS);
    let isDone = false;
    const giveUp = keeper.connect(taken, bytes, { idLow, idHigh }, (result) => {
      isDone = true;
      unwatch?.();
      cancel = undefined;
      if (result === "answered") waiting.release();
      else waiting.answer(result.ok ? { kind: "value", value: 0 } : { kind: "errno", errno: result.errno });
    });
    if (isDone) return;
    cancel = giveUp;
    if (origin !== undefined) watch(); // it may have waited for its verdict before
  };
  const allow = (allowance: Allowance): void => {
    const { network } = sandbox;
    const isPermitted =
      allowance === "ceiling" ? network.isGrantable(transport, address) : network.isAllowed(transport, address);
    if (isPermitted) connect();
    else refuse(ECONNREFUSED);
  };

  if (isHarmless) connect();
  else if (origin === undefined) allow("static");
  else {
    const detail = { kind: "network", operation: "connect", transport, address, size: 0 } as const;
    mediator.settle(origin, { category: "network", integrity: "copied", detail }, waiting, { allow, refuse });
  }
}
