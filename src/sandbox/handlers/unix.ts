import { closeSync } from "node:fs";
import type { Call } from "../../engine/call.js";
import { deferred, type Verdict } from "../../engine/verdict.js";
import type { TakenSocket } from "../../native/exchange.js";
import type { Mediator, Origin, WaitingCall } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { NetworkOperation } from "../model.js";
import type { Keeper, Pin } from "../warden/keeper.js";
import { AF_UNSPEC, isAbstract, unixAddress } from "./destination.js";
import { AT_FDCWD } from "./paths.js";

const EACCES = 13;
const EINVAL = 22;
const ECONNREFUSED = 111;

/** A full backlog is waited for as long as the caller likes. */
const CONNECT_TIMEOUT_MS = 24 * 60 * 60_000;

/** What a message or a connect to a Unix socket is about. */
export interface LocalTarget {
  /** A path, or after a NUL an abstract name. */
  readonly path: Uint8Array;
  readonly operation: NetworkOperation;
  /** Bytes of a message. */
  readonly size: number;
}

/** What becomes of a target: exactly one of `allow` and `refuse` is called, now or later, unless the caller ends before. */
export interface Reached {
  /** What a path led to, before it is judged. It changes hands: a verdict may never come. */
  pinned(pin: Pin): void;
  allow(): void;
  refuse(errno: number): void;
}

/**
 * Judges the socket that a path leads to from the caller's directory, by where it lies and not by how it was spelled:
 * what was judged is held, and is what will be reached. Abstract names are judged as they are.
 */
export function judgeLocal(
  mediator: Mediator,
  keeper: Keeper,
  origin: Origin,
  waiting: WaitingCall,
  { path, operation, size }: LocalTarget,
  reached: Reached,
): void {
  const { sandbox } = origin;

  function settle(at: Uint8Array, pin: Pin | undefined): void {
    const address = { kind: "unix", path: at } as const;
    const detail = { kind: "network", operation, transport: "unix", address, size } as const;
    mediator.settle(origin, { category: "network", integrity: "copied", detail }, waiting, {
      allow(allowance) {
        const { network } = sandbox;
        const isPermitted =
          allowance === "ceiling" ? network.isGrantable("unix", address) : network.isAllowed("unix", address);
        if (!isPermitted || (pin !== undefined && isRefused(sandbox, pin)))
          reached.refuse(operation === "connect" ? ECONNREFUSED : EACCES);
        else reached.allow();
      },
      refuse: reached.refuse,
    });
  }

  if (isAbstract(path)) {
    settle(path, undefined);
    return;
  }
  const directory = mediator.tasks.directory(origin.tid, AT_FDCWD);
  if (directory < 0) {
    reached.refuse(-directory);
    return;
  }
  keeper.resolve(directory, path, 0, (resolved) => {
    if (!resolved.ok) {
      reached.refuse(resolved.errno);
      return;
    }
    if (!waiting.isWaiting()) {
      keeper.release(resolved.value);
      return;
    }
    reached.pinned(resolved.value);
    settle(resolved.value.path, resolved.value);
  });
}

/** Whether it is a socket of the service itself, or a denied one by another name: no rule and no verdict reaches it. */
function isRefused({ policy }: EngineSandbox, { device, inode }: Pin): boolean {
  return policy.refusedSockets.some((refused) => refused.device === device && refused.inode === inode);
}

/** `connect` on a Unix socket, carried out by the keeper. `socket` is taken. */
export function connectLocal(
  mediator: Mediator,
  call: Call,
  sandbox: EngineSandbox,
  keeper: Keeper,
  socket: TakenSocket,
  bytes: Buffer,
): Verdict {
  const dissolves = bytes.length >= 2 && bytes.readUInt16LE(0) === AF_UNSPEC;
  const address = dissolves ? undefined : unixAddress(bytes);
  if (typeof address === "number" || bytes.length < 2) {
    closeSync(socket.fd);
    return { kind: "errno", errno: EINVAL };
  }
  const { tid } = call;
  // Who owns the duplicate and the pin: this function until they are handed to the keeper.
  let owned: number | undefined = socket.fd;
  let held: Pin | undefined;
  let cancel: (() => void) | undefined;
  let unwatch: (() => void) | undefined;
  const dispose = (): void => {
    if (owned !== undefined) closeSync(owned);
    if (held !== undefined) keeper.release(held);
    owned = undefined;
    held = undefined;
    unwatch?.();
    cancel?.();
  };
  const watch = (): void => {
    if (cancel !== undefined) unwatch ??= mediator.interrupts.watch(tid, cancel);
  };
  const waiting = mediator.defer(call, dispose);

  const connect = (to: Buffer | Pin): void => {
    const taken = owned;
    owned = undefined;
    held = undefined;
    if (taken === undefined) return;
    waiting.extend(CONNECT_TIMEOUT_MS);
    let isDone = false;
    const giveUp = keeper.connectLocal(taken, to, (result) => {
      isDone = true;
      unwatch?.();
      cancel = undefined;
      waiting.answer(result.ok ? { kind: "value", value: 0 } : { kind: "errno", errno: result.errno });
    });
    if (isDone) return;
    cancel = giveUp;
    watch();
  };

  if (address === undefined) {
    connect(bytes);
    return deferred;
  }
  const target = { path: address.path, operation: "connect", size: 0 } as const;
  judgeLocal(mediator, keeper, mediator.originOf(call, sandbox), waiting, target, {
    pinned(pin) {
      held = pin;
    },
    allow() {
      if (waiting.isWaiting()) connect(held ?? bytes);
      else dispose();
    },
    refuse(errno) {
      dispose();
      waiting.answer({ kind: "errno", errno });
    },
  });
  return deferred;
}
