import { closeSync } from "node:fs";
import type { Channel, EngineLoop } from "../../engine/loop.js";
import {
  ACT,
  ACT_FLAG,
  KEEPER_ACT,
  KEEPER_ANSWER,
  KEEPER_FLAG,
  KEEPER_OP,
  KEEPER_PINNED,
  KEEPER_PROGRAM,
  KEEPER_REPLY,
  KEEPER_REQUEST,
  KEEPER_SEND,
} from "../../native/abi.js";
import type { PortRange } from "../model.js";
import { encodePortRanges, encodeProcessChange, type ProcessChange } from "./process-change.js";

/** Positive errno, or what the operation gave. */
export type KeeperResult<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly errno: number };

/** A notification's. */
export interface CallId {
  readonly idLow: number;
  readonly idHigh: number;
}

/** A path that the keeper holds open, so that what was vetted is what will be opened. */
export interface Pin {
  readonly id: number;
  /** Absolute, links resolved as far as they exist. */
  readonly path: Uint8Array;
  readonly exists: boolean;
  /** Of what exists, as stat(2) has it. */
  readonly device: bigint;
  readonly inode: bigint;
}

/** One message of a socket, as sendmsg(2) takes it. */
export interface OutgoingMessage {
  /** MSG_… of the call. */
  readonly flags: number;
  /** An address, or the socket file that a name led to, which is forgotten then. */
  readonly to: Uint8Array | Pin | undefined;
  /** Control messages in the kernel's form; without descriptors. */
  readonly control: Uint8Array;
  readonly data: Uint8Array;
}

/** A pinned file that is to be executed. Who it is, is known for as long as it is pinned. */
export interface ProgramPin extends Pin {
  /** Its first bytes, as many as the kernel looks at; empty when it cannot be read. */
  readonly head: Uint8Array;
}

/** One call on one file, which the keeper carries out where the program's own grants cover it. */
export interface FileAct {
  readonly act: keyof typeof ACT;
  /** The file is the one at `path`, from the directory of the act; else the act's descriptor itself. */
  readonly path?: Uint8Array;
  /** A link itself, not what it leads to. */
  readonly noFollow?: boolean;
  /** The descriptor must be one that gives access, as in the calls that take nothing else. */
  readonly opened?: boolean;
  readonly mode?: number;
  readonly umask?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds and nanoseconds of access and change, as for utimensat(2). */
  readonly times?: readonly [bigint, bigint, bigint, bigint];
  readonly name?: Uint8Array;
  readonly value?: Uint8Array;
  /** Of setxattr(2) and renameat2(2); the mask of inotify_add_watch(2); the whole mode of mknod(2); flags of open(2). */
  readonly options?: number;
}

/** What the call returned, or a descriptor, which belongs to who is told of it. */
export type ActResult =
  | { readonly kind: "value"; readonly value: number }
  | { readonly kind: "fd"; readonly fd: number };

/**
 * Acts inside a sandbox's own confinement, one layer outside of the program. Every operation ends in
 * one call of its `done`, at the latest when the keeper ends.
 */
export interface Keeper {
  /** `directory` is closed here. */
  resolve(directory: number, path: Uint8Array, flags: number, done: (result: KeeperResult<Pin>) => void): void;
  /**
   * As `resolve`, for a program; of `directory` itself when the path is empty. An absolute path needs no directory.
   */
  program(
    directory: number | undefined,
    path: Uint8Array,
    flags: number,
    done: (result: KeeperResult<ProgramPin>) => void,
  ): void;
  /** Opens a pin and forgets it. The descriptor belongs to `done`. */
  open(pin: Pin, flags: number, mode: number, umask: number, done: (result: KeeperResult<number>) => void): void;
  release(pin: Pin): void;
  /** Carries out an act; the descriptors are closed here. */
  act(act: FileAct, fds: readonly number[], done: (result: KeeperResult<ActResult>) => void): void;
  /** Lets connects answer their calls themselves. `listener` is closed here. */
  share(listener: number): void;
  /**
   * `socket` is closed here. Where the result is there at once, the call may have been answered with it. Returns a
   * way to give up.
   */
  connect(
    socket: number,
    address: Uint8Array,
    call: CallId,
    done: (result: KeeperResult<undefined> | "answered") => void,
  ): () => void;
  /** A Unix socket's, to an address or a socket file; otherwise likewise. A pin is forgotten. */
  connectLocal(socket: number, to: Uint8Array | Pin, done: (result: KeeperResult<undefined>) => void): () => void;
  /**
   * Sends a message with `fds[0]`, the other descriptors in it; they stay the caller's until `done`. Gives the bytes
   * sent. Returns a way to give up.
   */
  send(message: OutgoingMessage, fds: readonly number[], done: (result: KeeperResult<number>) => void): () => void;
  /** `socket` is closed here. The umask is for a socket file. */
  bind(socket: number, address: Uint8Array, umask: number, done: (result: KeeperResult<undefined>) => void): void;
  /**
   * Makes a socket listen: one of the internet only on a port of these that it is bound to, else EACCES. `socket` is
   * closed here.
   */
  listen(
    socket: number,
    backlog: number,
    ports: readonly PortRange[],
    done: (result: KeeperResult<undefined>) => void,
  ): void;
  /** Signals every member of the sandbox, whatever its session, group or parent. */
  signalAll(signal: number, done: (result: KeeperResult<undefined>) => void): void;
  /** ESRCH when the number names no process of the sandbox, whatever else it names. */
  process(change: ProcessChange, done: (result: KeeperResult<undefined>) => void): void;
  /** Ends the keeper, and with it everything of the sandbox. */
  close(): void;
}

interface Reply {
  readonly errno: number;
  readonly flags: number;
  readonly bytes: Uint8Array;
  readonly fd: number;
  readonly device: bigint;
  readonly inode: bigint;
}

const ESHUTDOWN = 108;
const EAGAIN = 11;
const ENOBUFS = 105;
const NO_FD = -1;
const ANSWERED: Reply = { ...failed(0), flags: KEEPER_FLAG.answered };
/** A full queue to the keeper is tried again after this, and so often: the keeper itself never waits. */
const RETRY_MS = 1;
const RETRIES = 10_000;

/** Speaks with the keeper on `fd`, which the loop owns from here. */
export function createKeeper<Sandbox>(loop: EngineLoop<Sandbox>, fd: number, onEnd: () => void): Keeper {
  const waiting = new Map<number, (reply: Reply) => void>();
  let lastId = 0;
  let answers = false;
  const oneFd = [NO_FD];

  const channel: Channel = loop.attachChannel(fd, {
    onPacket(packet, fds) {
      if ((packet.readUInt32LE(KEEPER_REPLY.at.flags) & KEEPER_FLAG.answered) !== 0 && isConnect(packet)) {
        takeAnswered(packet);
        return;
      }
      const id = Number(packet.readBigUInt64LE(KEEPER_REPLY.at.op_id));
      const length = packet.readUInt32LE(KEEPER_REPLY.at.length);
      const done = waiting.get(id);
      waiting.delete(id);
      const replyFd = fds[0] ?? NO_FD;
      for (const extra of fds.slice(1)) closeSync(extra);
      if (done === undefined) {
        if (replyFd !== NO_FD) closeSync(replyFd);
        return;
      }
      done({
        errno: -packet.readInt32LE(KEEPER_REPLY.at.error),
        flags: packet.readUInt32LE(KEEPER_REPLY.at.flags),
        bytes: Uint8Array.prototype.slice.call(packet, KEEPER_REPLY.bytes, KEEPER_REPLY.bytes + length),
        fd: replyFd,
        device: packet.readBigUInt64LE(KEEPER_REPLY.at.device),
        inode: packet.readBigUInt64LE(KEEPER_REPLY.at.inode),
      });
    },
    onEnd() {
      failAll();
      onEnd();
    },
  });

  function isConnect(packet: Buffer): boolean {
    return packet.readUInt32LE(KEEPER_REPLY.at.op) === KEEPER_OP.connect;
  }

  function takeAnswered(packet: Buffer): void {
    const end = KEEPER_REPLY.bytes + packet.readUInt32LE(KEEPER_REPLY.at.length);
    for (let at = KEEPER_REPLY.bytes; at < end; at += 8) {
      const id = packet.readUInt32LE(at) + packet.readUInt32LE(at + 4) * 2 ** 32;
      const done = waiting.get(id);
      waiting.delete(id);
      done?.(ANSWERED);
    }
  }

  function failAll(): void {
    const callbacks = [...waiting.values()];
    waiting.clear();
    for (const done of callbacks) done(failed(ESHUTDOWN));
  }

  interface Request {
    readonly op: number;
    readonly id: number;
    readonly flags?: number;
    readonly mode?: number;
    readonly umask?: number;
    readonly signal?: number;
    readonly bytes?: Uint8Array;
    readonly fds?: readonly number[];
  }

  function packetOf(request: Request): Buffer {
    const bytes = request.bytes ?? new Uint8Array(0);
    const packet = Buffer.alloc(KEEPER_REQUEST.bytes + bytes.length);
    packet.writeUInt32LE(request.op, KEEPER_REQUEST.at.op);
    packet.writeUInt32LE((request.flags ?? 0) >>> 0, KEEPER_REQUEST.at.flags);
    packet.writeBigUInt64LE(BigInt(request.id), KEEPER_REQUEST.at.op_id);
    packet.writeUInt32LE(request.mode ?? 0, KEEPER_REQUEST.at.mode);
    packet.writeUInt32LE(request.umask ?? 0, KEEPER_REQUEST.at.umask);
    packet.writeUInt32LE(request.signal ?? 0, KEEPER_REQUEST.at.signal);
    packet.writeUInt32LE(bytes.length, KEEPER_REQUEST.at.length);
    packet.set(bytes, KEEPER_REQUEST.bytes);
    return packet;
  }

  function send(request: Request, done?: (reply: Reply) => void): boolean {
    const packet = packetOf(request);
    if (done !== undefined) waiting.set(request.id, done);
    const sent = channel.send(packet, request.fds ?? []);
    for (const fdToClose of request.fds ?? []) closeSync(fdToClose);
    if (!sent && done !== undefined && waiting.delete(request.id)) {
      done(failed(EAGAIN));
    }
    return sent;
  }

  /** Waits for room: a caller that may wait must not be told that there is none. The descriptors stay open. */
  function sendPatiently(request: Request, done: (reply: Reply) => void): void {
    const packet = packetOf(request);
    waiting.set(request.id, done);
    let left = RETRIES;
    const attempt = (): void => {
      if (!waiting.has(request.id) || channel.send(packet, request.fds ?? [])) return;
      if (left-- > 0) loop.after(RETRY_MS, attempt);
      else if (waiting.delete(request.id)) done(failed(ENOBUFS));
    };
    attempt();
  }

  function cancel(id: number): void {
    if (waiting.has(id)) send({ op: KEEPER_OP.cancel, id });
  }

  function plain(done: (result: KeeperResult<undefined>) => void): (reply: Reply) => void {
    return (reply) => done(reply.errno === 0 ? { ok: true, value: undefined } : { ok: false, errno: reply.errno });
  }

  return {
    resolve(directory, path, flags, done) {
      const id = ++lastId;
      send({ op: KEEPER_OP.resolve, id, flags, bytes: path, fds: [directory] }, (reply) => {
        if (reply.errno !== 0) done({ ok: false, errno: reply.errno });
        else done({ ok: true, value: pinOf(id, reply) });
      });
    },
    program(directory, path, flags, done) {
      const id = ++lastId;
      const fds = directory === undefined ? [] : [directory];
      send({ op: KEEPER_OP.program, id, flags, bytes: path, fds }, (reply) => {
        if (reply.errno !== 0) done({ ok: false, errno: reply.errno });
        else done({ ok: true, value: programPin(id, reply) });
      });
    },
    open(pin, flags, mode, umask, done) {
      send({ op: KEEPER_OP.open, id: pin.id, flags, mode, umask }, (reply) => {
        if (reply.errno === 0 && reply.fd !== NO_FD) done({ ok: true, value: reply.fd });
        else done({ ok: false, errno: reply.errno === 0 ? ESHUTDOWN : reply.errno });
      });
    },
    release(pin) {
      send({ op: KEEPER_OP.release, id: pin.id });
    },
    act(act, fds, done) {
      const { mode = 0, umask = 0 } = act;
      const request = {
        op: KEEPER_OP.act,
        id: ++lastId,
        flags: actFlags(act),
        mode,
        umask,
        bytes: encodeAct(act),
        fds,
      };
      send(request, ({ errno, flags, fd }) => {
        if (errno !== 0) done({ ok: false, errno });
        else done({ ok: true, value: fd === NO_FD ? { kind: "value", value: flags | 0 } : { kind: "fd", fd } });
      });
    },
    share(listener) {
      answers = send({ op: KEEPER_OP.listener, id: 0, fds: [listener] });
    },
    connect(socket, address, call, done) {
      const id = ++lastId;
      waiting.set(id, (reply) => {
        if (reply === ANSWERED) done("answered");
        else done(reply.errno === 0 ? { ok: true, value: undefined } : { ok: false, errno: reply.errno });
      });
      oneFd[0] = socket;
      const isSent = channel.send(connectRequest(id, address, answers ? call : undefined), oneFd);
      closeSync(socket);
      if (!isSent && waiting.delete(id)) done({ ok: false, errno: EAGAIN });
      return () => {
        if (waiting.has(id)) send({ op: KEEPER_OP.cancel, id });
      };
    },
    connectLocal(socket, to, done) {
      const id = ++lastId;
      const request = isPin(to)
        ? { flags: KEEPER_PINNED, bytes: Buffer.from(new BigUint64Array([BigInt(to.id)]).buffer) }
        : { bytes: to };
      send({ op: KEEPER_OP.connect, id, ...request, fds: [socket] }, plain(done));
      return () => cancel(id);
    },
    send(message, fds, done) {
      const id = ++lastId;
      sendPatiently({ op: KEEPER_OP.send, id, bytes: encodeMessage(message), fds }, (reply) =>
        done(reply.errno === 0 ? { ok: true, value: reply.flags } : { ok: false, errno: reply.errno }),
      );
      return () => cancel(id);
    },
    bind(socket, address, umask, done) {
      send({ op: KEEPER_OP.bind, id: ++lastId, umask, bytes: address, fds: [socket] }, plain(done));
    },
    listen(socket, backlog, ports, done) {
      const bytes = encodePortRanges(ports);
      send({ op: KEEPER_OP.listen, id: ++lastId, mode: backlog >>> 0, bytes, fds: [socket] }, plain(done));
    },
    process(change, done) {
      send({ op: KEEPER_OP.process, id: ++lastId, bytes: encodeProcessChange(change) }, plain(done));
    },
    signalAll(signal, done) {
      send({ op: KEEPER_OP.signal, id: ++lastId, signal }, plain(done));
    },
    close() {
      channel.close();
      failAll();
    },
  };
}

function failed(errno: number): Reply {
  return { errno, flags: 0, bytes: new Uint8Array(0), fd: NO_FD, device: 0n, inode: 0n };
}

function pinOf(id: number, { bytes, flags, device, inode }: Reply): Pin {
  return { id, path: bytes, exists: (flags & KEEPER_FLAG.exists) !== 0, device, inode };
}

function isPin(to: Uint8Array | Pin): to is Pin {
  return !(to instanceof Uint8Array);
}

function encodeMessage({ flags, to, control, data }: OutgoingMessage): Buffer {
  const pin = to !== undefined && isPin(to) ? BigInt(to.id) : 0n;
  const name = to === undefined || isPin(to) ? new Uint8Array(0) : to;
  const head = Buffer.alloc(KEEPER_SEND.bytes);
  head.writeUInt32LE(flags >>> 0, KEEPER_SEND.at.flags);
  head.writeUInt32LE(name.length, KEEPER_SEND.at.name);
  head.writeUInt32LE(control.length, KEEPER_SEND.at.control);
  head.writeUInt32LE(data.length, KEEPER_SEND.at.data);
  head.writeBigUInt64LE(pin, KEEPER_SEND.at.pin);
  return Buffer.concat([head, name, control, data]);
}

function programPin(id: number, reply: Reply): ProgramPin {
  const { bytes } = reply;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { at, bytes: start } = KEEPER_PROGRAM;
  const end = start + view.getUint32(at.path, true);
  const head = bytes.subarray(end, end + view.getUint32(at.head, true));
  return { ...pinOf(id, reply), path: bytes.subarray(start, end), head };
}

function actFlags({ path, noFollow, opened }: FileAct): number {
  return (
    (path === undefined ? ACT_FLAG.descriptor : 0) |
    (noFollow === true ? ACT_FLAG.noFollow : 0) |
    (opened === true ? ACT_FLAG.opened : 0)
  );
}

function encodeAct({ act, options = 0, uid = 0, gid = 0, times, path, name, value }: FileAct): Buffer {
  const head = Buffer.alloc(KEEPER_ACT.bytes);
  const parts = [path, name, value].map((part) => part ?? new Uint8Array(0));
  head.writeUInt32LE(ACT[act], KEEPER_ACT.at.act);
  head.writeUInt32LE(options >>> 0, KEEPER_ACT.at.options);
  head.writeUInt32LE(uid >>> 0, KEEPER_ACT.at.uid);
  head.writeUInt32LE(gid >>> 0, KEEPER_ACT.at.gid);
  [KEEPER_ACT.at.path, KEEPER_ACT.at.name, KEEPER_ACT.at.value].forEach((at, index) => {
    head.writeUInt32LE(parts[index]?.length ?? 0, at);
  });
  times?.forEach((part, index) => {
    head.writeBigInt64LE(part, KEEPER_ACT.at.times + index * 8);
  });
  return Buffer.concat([head, ...parts]);
}

/** Written out, as it is made for every connect. */
function connectRequest(id: number, address: Uint8Array, call: CallId | undefined): Buffer {
  const length = address.length + (call === undefined ? 0 : 8);
  const packet = Buffer.allocUnsafe(KEEPER_REQUEST.bytes + length).fill(0, 0, KEEPER_REQUEST.bytes);
  packet.writeUInt32LE(KEEPER_OP.connect, KEEPER_REQUEST.at.op);
  packet.writeUInt32LE(id % 2 ** 32, KEEPER_REQUEST.at.op_id);
  packet.writeUInt32LE(Math.floor(id / 2 ** 32), KEEPER_REQUEST.at.op_id + 4);
  packet.writeUInt32LE(length, KEEPER_REQUEST.at.length);
  if (call !== undefined) {
    packet.writeUInt32LE(KEEPER_ANSWER, KEEPER_REQUEST.at.flags);
    packet.writeUInt32LE(call.idLow, KEEPER_REQUEST.bytes);
    packet.writeUInt32LE(call.idHigh, KEEPER_REQUEST.bytes + 4);
  }
  packet.set(address, KEEPER_REQUEST.bytes + length - address.length);
  return packet;
}
