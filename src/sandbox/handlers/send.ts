/**
 * Calls that can name where a message goes. The name lies in memory, also where the socket ignores it: so whatever
 * reaches this is sent on behalf, on a duplicate of the socket, with copies of the name and the message. It is never
 * handed back to the kernel, which would look again at a descriptor and at memory that may have changed.
 */
import { closeSync } from "node:fs";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, type Verdict } from "../../engine/verdict.js";
import { MAX_SENT_FDS, SEND_CONTROL_LIMIT, SEND_DATA_LIMIT } from "../../native/abi.js";
import type { TakenSocket } from "../../native/exchange.js";
import type { Gathered, Parts } from "../../native/task.js";
import type { Allowance, Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { Keeper, Pin } from "../warden/keeper.js";
import { refusalOf } from "./addressed.js";
import { type SortedControl, sortControl } from "./control.js";
import { ADDRESS_LIMIT, type Destination, destinationOf, isStream, transportOf } from "./destination.js";
import { judgeLocal } from "./unix.js";

const EACCES = 13;
const EFAULT = 14;
const EINVAL = 22;
const EPIPE = 32;
const EMSGSIZE = 90;
const ENOBUFS = 105;
const SIGPIPE = 13;
const MSG_NOSIGNAL = 0x4000;
const MSG_ZEROCOPY = 0x4000000;

/** As long as the caller likes to wait for room. */
const SEND_TIMEOUT_MS = 24 * 60 * 60_000;

/** One message of a call: a copy of its name, and where the rest lies in the caller's memory. */
interface Message {
  readonly name: Buffer | undefined;
  readonly control: Buffer;
  /** Fills `bytes` from behind the first `skip`; a positive errno when they cannot be read. */
  read(skip: number, bytes: Uint8Array): Gathered | number;
}

/** A call whose messages are being sent. Results are counts, or negative errnos. */
interface Sending {
  send(message: Message, done: (result: number) => void): void;
  /** Tells how many bytes of a message of sendmmsg went out. */
  store(address: bigint, bytes: Uint8Array): boolean;
  answer(result: number): void;
}

const NO_BYTES = Buffer.alloc(0);

function startSending(
  mediator: Mediator,
  call: Call,
  sandbox: EngineSandbox,
  keeper: Keeper,
  socket: TakenSocket,
  flags: number,
  scratch: Buffer,
): Sending {
  const { tasks } = mediator;
  const { tid } = call;
  const { kind } = socket;
  const transport = transportOf(kind);
  /** Descriptors of ours that are open: the duplicate, and what a message carries. */
  const open = new Set([socket.fd]);
  let pin: Pin | undefined;
  /** How to give up what the keeper does, and to stop looking for a signal that ends it. */
  let cancel: (() => void) | undefined;
  let unwatch: (() => void) | undefined;
  let isSlow = false;
  /** The address that was allowed last: a call with many messages is judged once for each change. */
  let allowed: Buffer | undefined;

  const dispose = (): void => {
    for (const fd of open) closeSync(fd);
    open.clear();
    if (pin !== undefined) keeper.release(pin);
    pin = undefined;
    unwatch?.();
    cancel?.();
    cancel = undefined;
  };
  const watch = (): void => {
    isSlow = true;
    if (cancel !== undefined) unwatch ??= mediator.interrupts.watch(tid, cancel);
  };
  const waiting = mediator.defer(call, dispose, watch);
  const origin = mediator.originOf(call, sandbox);

  function judge(to: Destination, size: number, allow: () => void, refuse: (errno: number) => void): void {
    const { address, name } = to;
    if (address === undefined || (name !== undefined && allowed?.equals(name) === true)) {
      allow();
      return;
    }
    if (address.kind === "unix") {
      const target = { path: address.path, operation: "send", size } as const;
      judgeLocal(mediator, keeper, origin, waiting, target, {
        pinned(found) {
          pin = found;
        },
        allow,
        refuse(errno) {
          if (pin !== undefined) keeper.release(pin);
          pin = undefined;
          refuse(errno);
        },
      });
      return;
    }
    const allowWithin = (allowance: Allowance): void => {
      const { network } = sandbox;
      const isPermitted =
        allowance === "ceiling" ? network.isGrantable(transport, address) : network.isAllowed(transport, address);
      if (!isPermitted) {
        refuse(EACCES);
        return;
      }
      allowed = name;
      allow();
    };
    if (sandbox.judge.isIdle) {
      allowWithin("static");
      return;
    }
    const detail = { kind: "network", operation: "send", transport, address, size } as const;
    const subject = { category: "network", integrity: "copied", detail } as const;
    mediator.settle(origin, subject, waiting, { allow: allowWithin, refuse });
  }

  /** Duplicates of what the message carries; a positive errno when one cannot be had. */
  function takeDescriptors(descriptors: readonly number[]): number[] | number {
    if (descriptors.length === 0) return [];
    const pidfd = tasks.open(tid, tid);
    if (pidfd < 0) return -pidfd;
    const taken: number[] = [];
    for (const descriptor of descriptors) {
      const fd = tasks.takeFd(pidfd, descriptor);
      if (fd < 0) {
        tasks.close(pidfd);
        closeAll(taken);
        return -fd;
      }
      taken.push(fd);
      open.add(fd);
    }
    tasks.close(pidfd);
    return taken;
  }

  function closeAll(fds: readonly number[]): void {
    for (const fd of fds) if (open.delete(fd)) closeSync(fd);
  }

  function transmit(to: Destination, message: Message, control: SortedControl, done: (result: number) => void): void {
    const carried = takeDescriptors(control.descriptors);
    if (typeof carried === "number") {
      done(-carried);
      return;
    }
    let sent = 0;
    const end = (result: number): void => {
      closeAll(carried);
      done(result < 0 && sent > 0 ? sent : result);
    };
    const next = (): void => {
      const data = message.read(sent, scratch);
      if (typeof data === "number") {
        end(-data);
        return;
      }
      // What was read was the caller's only if it still waits (pid reuse).
      if (open.size === 0 || !waiting.isWaiting()) return;
      if (data.total > scratch.length && !isStream(kind)) {
        end(-EMSGSIZE);
        return;
      }
      waiting.extend(SEND_TIMEOUT_MS);
      const first = sent === 0;
      const target = pin ?? to.name;
      pin = undefined;
      let isDone = false;
      const giveUp = keeper.send(
        { flags, to: target, control: first ? control.kept : NO_BYTES, data: scratch.subarray(0, data.length) },
        [socket.fd, ...(first ? carried : [])],
        (result) => {
          isDone = true;
          unwatch?.();
          unwatch = cancel = undefined;
          if (open.size === 0) return;
          if (!result.ok) {
            end(-result.errno);
            return;
          }
          sent += result.value;
          if (isStream(kind) && result.value > 0 && sent < data.total) next();
          else end(sent);
        },
      );
      if (isDone) return;
      cancel = giveUp;
      if (isSlow) watch();
    };
    next();
  }

  return {
    send(message, done) {
      const to = destinationOf(kind, message.name);
      if (typeof to === "number") {
        done(-to);
        return;
      }
      const control = sortControl(message.control, kind.domain, MAX_SENT_FDS - 1);
      if (typeof control === "number") {
        done(-control);
        return;
      }
      const size = to.address === undefined ? 0 : message.read(0, NO_BYTES);
      if (typeof size === "number" && size > 0) {
        done(-size);
        return;
      }
      judge(
        to,
        typeof size === "number" ? 0 : size.total,
        () => transmit(to, message, control, done),
        (errno) => done(-errno),
      );
    },
    store: (address, bytes) => waiting.store(address, bytes),
    answer(result) {
      if (result === -EPIPE && isStream(kind) && (flags & MSG_NOSIGNAL) === 0 && waiting.isWaiting()) {
        // The keeper got no signal; the caller would have.
        const pidfd = tasks.open(tid, tid);
        if (pidfd >= 0) {
          tasks.signal(pidfd, SIGPIPE);
          tasks.close(pidfd);
        }
      }
      dispose();
      waiting.answer(result < 0 ? { kind: "errno", errno: -result } : { kind: "value", value: result });
    },
  };
}

/** Takes the socket, then sends what `messages` makes of the call. */
function begin(
  mediator: Mediator,
  call: Call,
  sandbox: EngineSandbox,
  flags: number,
  scratch: Buffer,
  send: (sending: Sending) => void,
): Verdict {
  const { keeper } = sandbox;
  if (keeper === undefined) return { kind: "errno", errno: EACCES };
  // What is sent without a copy is told of later, to who sent it: the keeper is somebody else.
  if ((flags & MSG_ZEROCOPY) !== 0) return { kind: "errno", errno: ENOBUFS };
  // Taken after the reads of memory: it succeeds only for a caller that still waits (pid reuse).
  const socket = mediator.takeSocket(call, call.int(0));
  if (typeof socket === "number") return { kind: "errno", errno: refusalOf(socket) };
  send(startSending(mediator, call, sandbox, keeper, socket, flags, scratch));
  return deferred;
}

/** `sendto` with an address; one without is not notified. */
export function sendtoHandler(mediator: Mediator): Handler<EngineSandbox> {
  const { tasks } = mediator;
  const scratch = Buffer.alloc(SEND_DATA_LIMIT);
  return {
    shapes: [{ kind: "bytes", arg: 4, lengthArg: 5, limit: ADDRESS_LIMIT }],
    handle(call, sandbox) {
      const name = call.memory(4);
      if (typeof name === "number") return { kind: "errno", errno: name };
      if (name.cut) return { kind: "errno", errno: EINVAL };
      const { tid } = call;
      const address = call.word(1);
      const total = Number(call.word(2));
      const message: Message = {
        name: name.bytes,
        control: NO_BYTES,
        read(skip, bytes) {
          const length = Math.min(bytes.length, total - skip);
          const error = length === 0 ? 0 : tasks.copy(tid, address + BigInt(skip), bytes.subarray(0, length));
          return error === 0 ? { length, total } : error;
        },
      };
      return begin(mediator, call, sandbox, call.int(3), scratch, (sending) => sending.send(message, sending.answer));
    },
  };
}

/** struct msghdr. */
const HEADER_BYTES = 56;

/** Reads the parts of a message that are copied at once; a positive errno when that fails. */
function readMessage({ tasks }: Mediator, tid: number, header: Buffer): Message | number {
  const nameAt = header.readBigUInt64LE(0);
  const nameLength = nameAt === 0n ? 0 : header.readInt32LE(8);
  const parts: Parts = { vector: header.readBigUInt64LE(16), count: header.readBigUInt64LE(24) };
  const controlAt = header.readBigUInt64LE(32);
  const controlLength = header.readBigUInt64LE(40);
  if (nameLength < 0) return EINVAL;
  if (controlLength > SEND_CONTROL_LIMIT) return ENOBUFS;
  // As the kernel does it, for which a longer address is a cut one.
  const name = Buffer.alloc(Math.min(nameLength, ADDRESS_LIMIT));
  const control = Buffer.alloc(Number(controlLength));
  const error = tasks.copy(tid, nameAt, name) || tasks.copy(tid, controlAt, control);
  if (error !== 0) return error;
  return {
    name: name.length === 0 ? undefined : name,
    control,
    read: (skip, bytes) => tasks.gather(tid, parts, skip, bytes),
  };
}

/** `sendmsg`. */
export function sendmsgHandler(mediator: Mediator): Handler<EngineSandbox> {
  const scratch = Buffer.alloc(SEND_DATA_LIMIT);
  return {
    shapes: [{ kind: "block", arg: 1, limit: HEADER_BYTES }],
    handle(call, sandbox) {
      const header = call.memory(1);
      if (typeof header === "number") return { kind: "errno", errno: header };
      if (header.bytes.length < HEADER_BYTES) return { kind: "errno", errno: EFAULT };
      const message = readMessage(mediator, call.tid, header.bytes);
      if (typeof message === "number") return { kind: "errno", errno: message };
      return begin(mediator, call, sandbox, call.int(2), scratch, (sending) => sending.send(message, sending.answer));
    },
  };
}

/** struct mmsghdr: the header, then the length that was sent, padded. */
const VECTOR_BYTES = 64;
/** UIO_MAXIOV */
const MOST_MESSAGES = 1024;

/** `sendmmsg`: one message after the other, up to the first that fails. */
export function sendmmsgHandler(mediator: Mediator): Handler<EngineSandbox> {
  const scratch = Buffer.alloc(SEND_DATA_LIMIT);
  const length = Buffer.alloc(4);
  return {
    shapes: [],
    handle(call, sandbox) {
      const { tid } = call;
      const at = call.word(1);
      const count = Math.min(call.int(2) >>> 0, MOST_MESSAGES);
      const vector = Buffer.alloc(count * VECTOR_BYTES);
      const error = mediator.tasks.copy(tid, at, vector);
      if (error !== 0) return { kind: "errno", errno: error };
      return begin(mediator, call, sandbox, call.int(3), scratch, (sending) => {
        const sendFrom = (index: number): void => {
          if (index === count) {
            sending.answer(count);
            return;
          }
          const start = index * VECTOR_BYTES;
          const message = readMessage(mediator, tid, vector.subarray(start, start + HEADER_BYTES));
          const end = (result: number): void => {
            length.writeUInt32LE(Math.max(0, result));
            const told = result < 0 || sending.store(at + BigInt(start + HEADER_BYTES), length);
            if (!told) sending.answer(index > 0 ? index : -EFAULT);
            else if (result < 0) sending.answer(index > 0 ? index : result);
            else sendFrom(index + 1);
          };
          if (typeof message === "number") end(-message);
          else sending.send(message, end);
        };
        sendFrom(0);
      });
    },
  };
}
