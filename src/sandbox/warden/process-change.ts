import { KEEPER_PORT_RANGE, KEEPER_PROCESS, PROCESS_CHANGE } from "../../native/abi.js";
import type { PortRange } from "../model.js";

/** What is asked of, or done to, one process of the sandbox. */
export interface ProcessChange {
  readonly change: keyof typeof PROCESS_CHANGE;
  /** As the sandbox's processes see it; negative names a process group, of which one can only ask. */
  readonly pid: number;
  /** Policy, priority or resource. */
  readonly value?: number;
  /** What the call points to, at most `PROCESS_VALUE_LIMIT` bytes. */
  readonly bytes?: Uint8Array;
}

/** Bytes of `struct sg_keeper_process` and what follows it. */
export function encodeProcessChange({ change, pid, value = 0, bytes = new Uint8Array(0) }: ProcessChange): Buffer {
  const request = Buffer.alloc(KEEPER_PROCESS.bytes + bytes.length);
  request.writeUInt32LE(PROCESS_CHANGE[change], KEEPER_PROCESS.at.change);
  request.writeInt32LE(pid, KEEPER_PROCESS.at.pid);
  request.writeInt32LE(value, KEEPER_PROCESS.at.value);
  request.set(bytes, KEEPER_PROCESS.bytes);
  return request;
}

/** An array of `struct sg_port_range`. */
export function encodePortRanges(ports: readonly PortRange[]): Buffer {
  const bytes = Buffer.alloc(KEEPER_PORT_RANGE.bytes * ports.length);
  ports.forEach(({ first, last }, index) => {
    bytes.writeUInt16LE(first, index * KEEPER_PORT_RANGE.bytes + KEEPER_PORT_RANGE.at.first);
    bytes.writeUInt16LE(last, index * KEEPER_PORT_RANGE.bytes + KEEPER_PORT_RANGE.at.last);
  });
  return bytes;
}
