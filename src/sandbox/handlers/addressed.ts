/** What `bind` and `connect` begin with: an address in memory, and the socket that it is for. */
import type { Call } from "../../engine/call.js";
import type { ArgumentShape, TakenSocket } from "../../native/exchange.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { Keeper } from "../warden/keeper.js";
import { ADDRESS_LIMIT } from "./destination.js";

const EBADF = 9;
const EACCES = 13;
const EINVAL = 22;
const ENOTSOCK = 88;

/** For `call(fd, address, length)`. */
export const ADDRESSED_SHAPES: readonly ArgumentShape[] = [
  { kind: "bytes", arg: 1, lengthArg: 2, limit: ADDRESS_LIMIT },
];

export interface Addressed {
  readonly keeper: Keeper;
  /** A duplicate, the caller's of this to close. */
  readonly socket: TakenSocket;
  /** A copy of the address. */
  readonly bytes: Buffer;
}

/** Takes both; a positive errno when one cannot be taken, and nothing then is to be closed. */
export function takeAddressed(mediator: Mediator, call: Call, { keeper }: EngineSandbox): Addressed | number {
  const copied = call.memory(1);
  if (typeof copied === "number") return copied;
  if (copied.cut) return EINVAL;
  if (keeper === undefined) return EACCES;
  const socket = mediator.takeSocket(call, call.int(0));
  return typeof socket === "number" ? refusalOf(socket) : { keeper, socket, bytes: copied.bytes };
}

/** What the caller is told of a descriptor that could not be taken. */
export function refusalOf(errno: number): number {
  return errno === EBADF || errno === ENOTSOCK ? errno : EACCES;
}
