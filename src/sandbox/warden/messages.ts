import {
  EXITED,
  FAILED,
  HELLO,
  LIMIT_REPORT,
  LIMITS,
  MESSAGE,
  MESSAGE_TYPE,
  READY,
  SIGNAL,
  SIGNAL_SCOPE,
  STAGES,
  STARTED,
  type Stage,
} from "../../native/abi.js";

/** Names one launch or exec of one server run; a safe integer, never used twice. */
export type LaunchId = number;

/** What the warden tells the server. */
export type WardenMessage =
  | { readonly kind: "hello"; readonly abi: number; readonly pid: number }
  | { readonly kind: "ready"; readonly launchId: LaunchId; readonly pid: number; readonly innerPid: number }
  | {
      readonly kind: "started";
      readonly launchId: LaunchId;
      readonly pid: number;
      readonly stages: readonly StageTime[];
    }
  | {
      readonly kind: "failed";
      readonly launchId: LaunchId;
      readonly stage: Stage;
      readonly errno: number;
      readonly argument: string;
    }
  | { readonly kind: "exited"; readonly launchId: LaunchId; readonly exit: WaitStatus }
  | { readonly kind: "gone"; readonly launchId: LaunchId }
  /** It reached a limit. */
  | { readonly kind: "limit"; readonly launchId: LaunchId; readonly limit: SandboxLimit };

/**
 * `unseen`: whether it keeps to its limits cannot be seen any more; `tasks_full`: the kernel refuses more;
 * `share_used` and `share_free`: all are to stop, and to go on. At the others it is being killed, and its exits follow.
 */
export type SandboxLimit = Exclude<(typeof LIMITS)[number], "none">;

/** When a launch entered a stage, from its first one. */
export interface StageTime {
  readonly stage: Stage;
  readonly offsetNs: number;
}

export interface WaitStatus {
  readonly result:
    | { readonly kind: "code"; readonly code: number }
    | { readonly kind: "signal"; readonly signal: number };
  readonly cpuTimeMs: number;
  readonly peakMemoryBytes: number;
  readonly timeMs: number;
}

function stageTimes(packet: Buffer): StageTime[] {
  const times: StageTime[] = [];
  let startNs = 0n;
  for (const [number, stage] of STAGES.entries()) {
    const ns = packet.readBigUInt64LE(STARTED.at.stage_ns + number * 8);
    if (ns === 0n) continue;
    if (startNs === 0n) startNs = ns;
    times.push({ stage, offsetNs: Number(ns - startNs) });
  }
  return times;
}

/** Reads one packet of the warden. The warden is ours: a malformed packet is a bug and throws. */
export function parseWardenMessage(packet: Buffer): WardenMessage {
  const type = packet.readUInt32LE(MESSAGE.at.type);
  const launchId = Number(packet.readBigUInt64LE(MESSAGE.at.launch_id));
  switch (type) {
    case MESSAGE_TYPE.hello:
      return { kind: "hello", abi: packet.readUInt32LE(HELLO.at.abi), pid: packet.readUInt32LE(HELLO.at.pid) };
    case MESSAGE_TYPE.ready:
      return {
        kind: "ready",
        launchId,
        pid: packet.readUInt32LE(READY.at.pid),
        innerPid: packet.readUInt32LE(READY.at.inner_pid),
      };
    case MESSAGE_TYPE.started:
      return { kind: "started", launchId, pid: packet.readUInt32LE(STARTED.at.pid), stages: stageTimes(packet) };
    case MESSAGE_TYPE.failed: {
      const length = packet.readUInt32LE(FAILED.at.detail);
      return {
        kind: "failed",
        launchId,
        stage: STAGES[packet.readUInt32LE(FAILED.at.stage)] ?? "none",
        errno: -packet.readInt32LE(FAILED.at.error),
        argument: packet.toString("utf8", FAILED.bytes, FAILED.bytes + length),
      };
    }
    case MESSAGE_TYPE.exited: {
      const status = packet.readUInt32LE(EXITED.at.status);
      const signal = status & 0x7f;
      return {
        kind: "exited",
        launchId,
        exit: {
          result: signal === 0 ? { kind: "code", code: (status >> 8) & 0xff } : { kind: "signal", signal },
          cpuTimeMs:
            Number(packet.readBigUInt64LE(EXITED.at.user_us) + packet.readBigUInt64LE(EXITED.at.system_us)) / 1000,
          peakMemoryBytes: Number(packet.readBigUInt64LE(EXITED.at.max_rss_kib)) * 1024,
          timeMs: Number(packet.readBigUInt64LE(EXITED.at.time_ns)) / 1e6,
        },
      };
    }
    case MESSAGE_TYPE.gone:
      return { kind: "gone", launchId };
    case MESSAGE_TYPE.limit: {
      const limit = LIMITS[packet.readUInt32LE(LIMIT_REPORT.at.limit)];
      return { kind: "limit", launchId, limit: limit === undefined || limit === "none" ? "unseen" : limit };
    }
    default:
      throw new Error(`the warden sent a message of unknown type ${type}`);
  }
}

function header(bytes: number, type: number, launchId: LaunchId): Buffer {
  const packet = Buffer.alloc(bytes);
  packet.writeUInt32LE(type, MESSAGE.at.type);
  packet.writeUInt32LE(bytes, MESSAGE.at.size);
  packet.writeBigUInt64LE(BigInt(launchId), MESSAGE.at.launch_id);
  return packet;
}

/** A signal to one started process, or to its process group. */
export function signalMessage(launchId: LaunchId, signal: number, scope: "process" | "group"): Buffer {
  const packet = header(SIGNAL.bytes, MESSAGE_TYPE.signal, launchId);
  packet.writeUInt32LE(signal, SIGNAL.at.signal);
  packet.writeUInt32LE(SIGNAL_SCOPE[scope], SIGNAL.at.scope);
  return packet;
}

/** Kills everything of the sandbox whose main process has this launch id. */
export function killMessage(launchId: LaunchId): Buffer {
  return header(SIGNAL.bytes, MESSAGE_TYPE.kill, launchId);
}
