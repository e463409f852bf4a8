import { closeSync } from "node:fs";
import type { Channel, EngineLoop } from "../../engine/loop.js";
import { TRACER_EVENT, TRACER_OP, WATCH, WATCH_FLAG, WATCHED } from "../../native/abi.js";

/** What an execve must start. */
export interface Launch {
  readonly tid: number;
  readonly tgid: number;
  /** The executable, as stat(2) gives it. It is to be held for as long as it is watched for. */
  readonly device: bigint;
  readonly inode: bigint;
  /** Packed with their NULs. */
  readonly argv: Uint8Array;
  /** `argv` is the first of the arguments only. */
  readonly argvCut: boolean;
}

/**
 * How a watch ended. `ran`: what was to start did. `returned`: the execve failed. `gone`: the thread ended.
 * `killed`: the kernel started something else, which was killed before its first instruction. `refused`: the
 * thread cannot be watched, or nobody watches any more; it must not be let go on.
 */
export type WatchEnd = "ran" | "returned" | "gone" | "killed" | "refused";

export interface WatchEvents {
  /** The call may be let go on. Returns whether it was; if not, the thread is left alone. */
  armed(): boolean;
  ended(end: WatchEnd): void;
}

/** Looks at what the kernel made of a judged execve, before the new program's first instruction. */
export interface Tracer {
  watch(launch: Launch, events: WatchEvents): void;
}

const RETRY_MS = 1;

const ENDS: Readonly<Record<number, WatchEnd>> = {
  [TRACER_EVENT.refused]: "refused",
  [TRACER_EVENT.ran]: "ran",
  [TRACER_EVENT.returned]: "returned",
  [TRACER_EVENT.gone]: "gone",
  [TRACER_EVENT.killed]: "killed",
};

/** Speaks with the tracer on `fd`, which the loop owns from here. */
export function createTracer<Sandbox>(loop: EngineLoop<Sandbox>, fd: number): Tracer {
  const watches = new Map<number, WatchEvents>();
  const outgoing: Buffer[] = [];
  let lastId = 0;
  let lives = true;

  const channel: Channel = loop.attachChannel(fd, {
    onPacket(packet, fds) {
      for (const extra of fds) closeSync(extra);
      const id = Number(packet.readBigUInt64LE(WATCHED.at.op_id));
      const event = packet.readUInt32LE(WATCHED.at.event);
      const watch = watches.get(id);
      if (watch === undefined) return;
      if (event === TRACER_EVENT.armed) {
        if (!watch.armed()) send(request(TRACER_OP.drop, id));
        return;
      }
      watches.delete(id);
      watch.ended(ENDS[event] ?? "refused");
    },
    onEnd() {
      lives = false;
      const left = [...watches.values()];
      watches.clear();
      for (const watch of left) watch.ended("refused");
    },
  });

  /** In order; what its queue has no room for now goes a moment later. */
  function send(packet: Buffer): void {
    outgoing.push(packet);
    if (outgoing.length === 1) flush();
  }

  function flush(): void {
    for (let packet = outgoing[0]; packet !== undefined && lives; packet = outgoing[0]) {
      if (!channel.send(packet, [])) {
        loop.after(RETRY_MS, flush);
        return;
      }
      outgoing.shift();
    }
    outgoing.length = 0;
  }

  return {
    watch(launch, events) {
      const id = ++lastId;
      if (!lives) {
        events.ended("refused");
        return;
      }
      watches.set(id, events);
      send(request(TRACER_OP.watch, id, launch));
    },
  };
}

function request(op: number, id: number, launch?: Launch): Buffer {
  const packet = Buffer.alloc(WATCH.bytes + (launch?.argv.length ?? 0));
  packet.writeUInt32LE(op, WATCH.at.op);
  packet.writeBigUInt64LE(BigInt(id), WATCH.at.op_id);
  if (launch === undefined) return packet;
  packet.writeUInt32LE(launch.tid, WATCH.at.tid);
  packet.writeUInt32LE(launch.tgid, WATCH.at.tgid);
  packet.writeBigUInt64LE(launch.device, WATCH.at.device);
  packet.writeBigUInt64LE(launch.inode, WATCH.at.inode);
  packet.writeUInt32LE(launch.argvCut ? WATCH_FLAG.prefix : 0, WATCH.at.flags);
  packet.writeUInt32LE(launch.argv.length, WATCH.at.length);
  packet.set(launch.argv, WATCH.bytes);
  return packet;
}
