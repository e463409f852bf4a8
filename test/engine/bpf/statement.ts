/**
 * What each call that is judged by its registers must get, said a second time and in other words than
 * `src/engine/bpf/registers.ts`: the exhaustive test of the filters compares the two. Low words are what counts, unless
 * a statement says otherwise.
 */
import { constants } from "node:os";
import type { FilterPolicy } from "../../../src/engine/bpf/filter.js";

const { EACCES, EAFNOSUPPORT, EBUSY, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, EPROTONOSUPPORT } = constants.errno;

/** Numbers are errnos. */
export type Outcome = "allow" | "notify" | "kill" | number;

/** The arguments of one call: `low` and `high` give one half of an argument, unsigned. */
export interface Registers {
  low(index: number): number;
  high(index: number): number;
}

type Statement = (registers: Registers, policy: FilterPolicy) => Outcome;

const oneOf = (value: number, ...values: readonly number[]): boolean => values.includes(value);
const has = (value: number, bits: number): boolean => (value & bits) !== 0;

const metadata =
  (mediated: Outcome): Statement =>
  (_, policy) =>
    policy.metadata === "allow" ? "allow" : policy.metadata === "refuse" ? EPERM : mediated;
/** Whoever is named by a number other than zero, the engine knows; without it, asking is free and changing is not. */
const other = (asks: boolean, { processes }: FilterPolicy): Outcome =>
  processes === "engine" ? "notify" : asks ? "allow" : EPERM;
const askPid: Statement = ({ low }, policy) => (low(0) === 0 ? "allow" : other(true, policy));
const changePid: Statement = ({ low }, policy) => (low(0) === 0 ? "allow" : other(false, policy));
const who =
  (asks: boolean, ...kinds: readonly number[]): Statement =>
  ({ low }, policy) =>
    !oneOf(low(0), ...kinds) ? EPERM : low(1) === 0 ? "allow" : other(asks, policy);
/** Negative numbers are clocks of CPU time: a process's number, complemented, above three bits. */
const clock: Statement = ({ low }, policy) => {
  const id = low(0) | 0;
  if (id >= 0 || id >> 3 === -1) return "allow";
  const isThread = (id & 4) !== 0;
  const isDescriptor = (id & 3) === 3;
  return isThread || isDescriptor ? "allow" : other(true, policy);
};
/** With a connect in it, or to wherever memory says. */
const send =
  (flags: number): Statement =>
  ({ low }, { sends }) =>
    has(low(flags), 0x20000000) ? EOPNOTSUPP : sends === "engine" ? "notify" : "allow";
/** Regular files, FIFOs and sockets, by the four high bits of the mode. */
const node =
  (mode: number): Statement =>
  ({ low }) =>
    oneOf((low(mode) >>> 12) & 0xf, 0, 8, 1, 12) ? "allow" : EPERM;

/** Every option of prctl(2) that passes, and those that are refused as dangerous. Others do not exist. */
const PRCTL_FREE = new Set(
  [
    [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 20, 21, 22, 23, 25, 26, 27, 29, 30, 33, 34],
    [36, 37, 38, 39, 40, 41, 42, 45, 46, 47, 50, 51, 52, 53, 54, 55, 56, 59, 60, 61, 63, 64, 65, 66, 68, 69, 70, 71],
    [74, 75, 76, 78, 0x53564d41, 0x41555856],
  ].flat(),
);
const PRCTL_GUARDED = [24, 28, 35, 77];
const PRCTL_REFUSED = [62, 0x59616d61];

export const STATEMENTS: Readonly<Record<string, Statement>> = {
  listen: (_, { listen }) => (listen === "allow" ? "allow" : listen === "engine" ? "notify" : EACCES),
  clone: ({ low }) => (has(low(0), 0x7e020000) ? EPERM : "allow"),
  unshare: ({ low }) => ((low(0) & ~0x40600) === 0 ? "allow" : EPERM),
  fcntl: ({ low }, policy) => {
    if (low(1) === 8) return low(2) === 0 ? "allow" : other(true, policy);
    if (low(1) === 15) return EPERM;
    if (low(1) === 1031) return low(2) > 65536 ? EPERM : "allow";
    return oneOf(low(1), 1024, 1026) ? EACCES : "allow";
  },
  ioctl: ({ low }, { metadata }) => {
    const request = low(1);
    if (oneOf(request, 0x5412, 0x541c, 0x541d, 0x5423, 0x8901, 0x8902)) return EPERM;
    if (oneOf(request, 0x40086602, 0x40046602, 0x401c5820)) return metadata === "allow" ? "allow" : EPERM;
    return request >= 0x8910 && request < 0x8c00 ? EPERM : "allow";
  },
  mknod: node(1),
  mknodat: node(2),
  memfd_create: (_, { memoryFiles }) => (memoryFiles ? "allow" : ENOSYS),
  openat2: (_, { holdOpen, paths }) => (holdOpen === "none" && !paths ? "allow" : ENOSYS),
  setpriority: who(false, 0, 1),
  getpriority: who(true, 0, 1),
  ioprio_set: who(false, 1, 2),
  ioprio_get: who(true, 1, 2),
  kill: ({ low }, policy) => (oneOf(low(0), 0, 0xffffffff) ? "allow" : other(true, policy)),
  personality: ({ low }) => (oneOf(low(0), 0, 0xffffffff) ? "allow" : EPERM),
  prctl: ({ low }, { checkpointable }) => {
    const option = low(0);
    const guarded = checkpointable ? "notify" : EPERM;
    if (option === 4) return low(1) === 1 ? "allow" : guarded;
    if (PRCTL_GUARDED.includes(option)) return guarded;
    if (PRCTL_REFUSED.includes(option)) return EPERM;
    return PRCTL_FREE.has(option) ? "allow" : EINVAL;
  },
  // A pointer is null only when both halves are.
  prlimit64: ({ low, high }, policy) => (low(0) === 0 ? "allow" : other(low(2) === 0 && high(2) === 0, policy)),
  seccomp: ({ low }) => (low(0) === 1 && has(low(1), 8) ? EBUSY : "allow"),
  sendmsg: send(2),
  sendmmsg: send(3),
  sendto: (registers, policy) => {
    const outcome = send(3)(registers, policy);
    return outcome === "notify" && registers.low(4) === 0 && registers.high(4) === 0 ? "allow" : outcome;
  },
  setsockopt: ({ low }) => {
    const route = (low(1) === 0 && low(2) === 4) || (low(1) === 41 && oneOf(low(2), 5, 6, 32, 57));
    return route || (low(1) === 6 && low(2) === 31) ? EPERM : "allow";
  },
  socket: ({ low }, { tcp, udp, icmp, unix }) => {
    const type = low(1) & ~0o2004000;
    const family = low(0);
    if (family === 1) return !unix ? EACCES : oneOf(type, 1, 2, 5) ? "allow" : EPERM;
    if (!oneOf(family, 2, 10)) return EAFNOSUPPORT;
    if (type === 1) return !tcp ? EACCES : oneOf(low(2), 0, 6) ? "allow" : EPROTONOSUPPORT;
    if (type === 2 && !udp && !icmp) return EACCES;
    if (type === 2 && udp && oneOf(low(2), 0, 17)) return "allow";
    if (type === 2) return icmp && oneOf(low(2), 1, 58) ? "allow" : EPROTONOSUPPORT;
    return EPERM;
  },
  socketpair: ({ low }, { unix }) => {
    const type = low(1) & ~0o2004000;
    if (low(0) !== 1) return EAFNOSUPPORT;
    return oneOf(type, 1, 5) || (unix && type === 2) ? "allow" : EACCES;
  },
  setxattrat: metadata(ENOSYS),
  removexattrat: metadata(ENOSYS),
  file_setattr: metadata(ENOSYS),
  inotify_add_watch: (_, { watch }) => (watch === "allow" ? "allow" : watch === "engine" ? "notify" : EACCES),
  ...Object.fromEntries(
    `getpgid getsid get_robust_list pidfd_open tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo sched_getparam
     sched_getscheduler sched_getaffinity sched_getattr sched_rr_get_interval`
      .split(/\s+/)
      .map((name) => [name, askPid] as const),
  ),
  ...Object.fromEntries(
    "sched_setparam sched_setscheduler sched_setaffinity sched_setattr migrate_pages move_pages"
      .split(" ")
      .map((name) => [name, changePid] as const),
  ),
  ...Object.fromEntries(
    "clock_gettime clock_getres clock_nanosleep timer_create".split(" ").map((name) => [name, clock] as const),
  ),
  ...Object.fromEntries(
    `chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat setxattr lsetxattr
     fsetxattr removexattr lremovexattr fremovexattr`
      .split(/\s+/)
      .map((name) => [name, metadata("notify")] as const),
  ),
};

const PATHS = new Set(
  `mkdir mkdirat mknod mknodat rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat rmdir
   truncate`.split(/\s+/),
);
const O_PATH = 0o10000000;
const WRITES = 0o1103;

/** What becomes of a call that the table allows, or that its registers allow, because of what the policy holds. */
export function heldOutcome(name: string, { low }: Registers, policy: FilterPolicy): Outcome {
  const holdOpen = policy.paths ? "all" : policy.holdOpen;
  if (holdOpen !== "none" && ["open", "openat", "creat"].includes(name)) {
    if (name === "creat") return "notify";
    const flags = low(name === "open" ? 1 : 2);
    if (has(flags, O_PATH)) return "allow";
    return holdOpen === "all" || has(flags, WRITES) ? "notify" : "allow";
  }
  return policy.notified.has(name) || (policy.paths && PATHS.has(name)) ? "notify" : "allow";
}
