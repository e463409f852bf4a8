import { closeSync } from "node:fs";
import type { Library } from "./library.js";

/** A process, as /proc shows it. Whoever reads it re-checks the notification afterwards (pid reuse). */
export interface TaskStatus {
  readonly tgid: number;
  readonly ppid: number;
  readonly umask: number;
  readonly threads: number;
  readonly startTicks: number;
  /** Empty when it cannot be read. */
  readonly executable: Buffer;
  readonly command: Buffer;
}

/** An array of `struct iovec` in a task's memory. */
export interface Parts {
  readonly vector: bigint;
  readonly count: bigint;
}

export interface Gathered {
  readonly length: number;
  readonly total: number;
}

/** The numbers of a thread as it sees them itself, in its own PID namespace. */
export interface TaskIdentity {
  readonly tid: number;
  readonly pid: number;
  readonly group: number;
  readonly session: number;
}

/** What the engine asks of the task behind a held call. Descriptors returned belong to the caller. */
export interface Tasks {
  /** Undefined when the task is gone. */
  read(tid: number): TaskStatus | undefined;
  /** Whether a signal waits for the thread that would interrupt its call. */
  hasSignal(tid: number): boolean;
  /** Undefined when the task is gone. */
  identity(tid: number): TaskIdentity | undefined;
  /** 0 when it is gone. */
  parentOf(pid: number): number;
  /** A pidfd of the thread, or a negative errno. */
  open(tid: number, tgid: number): number;
  signal(pidfd: number, signal: number): void;
  /** Signals the process group that `pid` is in. */
  signalGroup(pid: number, signal: number): void;
  close(pidfd: number): void;
  /** A duplicate of the task's descriptor, or a negative errno. */
  takeFd(pidfd: number, fd: number): number;
  /** A descriptor for path lookups from the task's directory `fd` (or AT_FDCWD), or a negative errno. */
  directory(tid: number, fd: number): number;
  /** Fills `bytes` from the task's memory. Returns 0 or a positive errno. */
  copy(tid: number, address: bigint, bytes: Uint8Array): number;
  /**
   * Fills `bytes` as far as there are any from data that is scattered over `count` parts, behind the first `skip`; else
   * a positive errno. `total` is how many there are in all.
   */
  gather(tid: number, parts: Parts, skip: number, bytes: Uint8Array): Gathered | number;
  /** A descriptor, without access, for what a link below /proc/<tid> leads to, or a negative errno. */
  hold(tid: number, name: string): number;
  /** A link below /proc/<tid>, or undefined. */
  link(tid: number, name: string): Buffer | undefined;
}

// struct sg_task in native/library/task.c
const TASK_BYTES = 48 + 4096;

export function createTasks(library: Library): Tasks {
  const task = Buffer.alloc(TASK_BYTES);
  const link = Buffer.alloc(4096);
  const total = new BigUint64Array(1);
  const numbers = new Uint32Array(4);
  return {
    read(tid) {
      if (library.taskRead(tid, task) < 0) return undefined;
      const executableLength = task.readUInt32LE(24);
      const commandLength = task.readUInt32LE(28);
      return {
        tgid: task.readUInt32LE(0),
        ppid: task.readUInt32LE(4),
        umask: task.readUInt32LE(8),
        threads: task.readUInt32LE(12),
        startTicks: Number(task.readBigUInt64LE(16)),
        command: Buffer.from(task.subarray(32, 32 + commandLength)),
        executable: Buffer.from(task.subarray(48, 48 + executableLength)),
      };
    },
    hasSignal: (tid) => library.taskHasSignal(tid) === 1,
    identity(tid) {
      if (library.taskIdentity(tid, numbers) < 0) return undefined;
      const [own = 0, pid = 0, group = 0, session = 0] = numbers;
      return { tid: own, pid, group, session };
    },
    parentOf: (pid) => library.taskParent(pid),
    open: (tid, tgid) => library.taskOpen(tid, tgid),
    signal(pidfd, signal) {
      library.taskSignal(pidfd, signal);
    },
    signalGroup(pid, signal) {
      library.taskSignalGroup(pid, signal);
    },
    close: closeSync,
    takeFd: (pidfd, fd) => library.taskTakeFd(pidfd, fd),
    directory: (tid, fd) => library.taskDirectory(tid, fd),
    copy: (tid, address, bytes) => -library.taskCopy(tid, address, bytes, bytes.length),
    gather(tid, { vector, count }, skip, bytes) {
      const length = library.taskGather(tid, vector, count, BigInt(skip), bytes, bytes.length, total);
      return length < 0 ? -length : { length, total: Number(total[0]) };
    },
    hold: (tid, name) => library.taskHold(tid, name),
    link(tid, name) {
      const length = library.taskLink(tid, name, link, link.length);
      return length < 0 ? undefined : Buffer.from(link.subarray(0, length));
    },
  };
}
