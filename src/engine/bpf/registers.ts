/**
 * The rules that judge a call by its registers. Arguments of 32 bits are compared by their low word only, because that
 * is what the kernel looks at. Numbers are from the kernel's UAPI headers; they are the same on x86_64 and aarch64.
 */
import { constants } from "node:os";
import type { RegisterRule } from "../syscalls/table.js";
import {
  askPidTree,
  askWhoTree,
  changePidTree,
  changeWhoTree,
  clockTree,
  IO_PRIORITY_WHO,
  killTree,
  limitTree,
  OWNER_REQUESTS,
  ownerTree,
  PRIORITY_WHO,
  type ProcessJudge,
} from "./processes.js";
import { ALLOW, NOTIFY, refuse, type Tree, whenAnyBit, whenAtLeast, whenEqual, whenOneOf, whenZero } from "./tree.js";

/** The part of a filter's policy that registers can decide. */
export interface RegisterPolicy {
  /** IPv4 and IPv6 stream sockets. */
  readonly tcp: boolean;
  /** IPv4 and IPv6 datagram sockets. */
  readonly udp: boolean;
  /** Sockets that ask others for an echo. */
  readonly icmp: boolean;
  /** Unix sockets other than connected pairs. */
  readonly unix: boolean;
  /** `engine` where a socket that may not be bound could listen unbound, which the kernel does not judge. */
  readonly listen: "allow" | "engine" | "refuse";
  /** Whatever can name where a message goes: left to the kernel, where no socket's messages can; or judged. */
  readonly sends: "allow" | "engine";
  /**
   * Modes, owners, times and attributes of files: left to the kernel, which asks
   * nobody but the owner, where mounts say what may be changed; judged by the
   * engine; or, where nothing is writable, refused.
   */
  readonly metadata: "allow" | "engine" | "refuse";
  /** Watching files by inotify, likewise. */
  readonly watch: "allow" | "engine" | "refuse";
  readonly openat2: boolean;
  /** Files in memory, which no process need map: nobody could tell how much of it one uses. */
  readonly memoryFiles: boolean;
  readonly processes: ProcessJudge;
  /** Hands what a restore must inject to the engine instead of refusing it. */
  readonly checkpointable: boolean;
}

const { EACCES, EAFNOSUPPORT, EBUSY, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, EPROTONOSUPPORT } = constants.errno;

const NOT_PERMITTED = refuse(EPERM);
const NO_ACCESS = refuse(EACCES);

/** The tree of one rule. */
export function registerTree(rule: RegisterRule, policy: RegisterPolicy): Tree {
  switch (rule) {
    case "bindListen":
      return policy.listen === "allow" ? ALLOW : policy.listen === "engine" ? NOTIFY : NO_ACCESS;
    case "askIoWho":
      return askWhoTree(IO_PRIORITY_WHO, policy.processes);
    case "askPid":
      return askPidTree(policy.processes);
    case "askWho":
      return askWhoTree(PRIORITY_WHO, policy.processes);
    case "changeIoWho":
      return changeWhoTree(IO_PRIORITY_WHO, policy.processes);
    case "changePid":
      return changePidTree(policy.processes);
    case "changeWho":
      return changeWhoTree(PRIORITY_WHO, policy.processes);
    case "clock":
      return clockTree(policy.processes);
    case "kill":
      return killTree(policy.processes);
    case "clone":
      return whenAnyBit(0, CLONE_NAMESPACES, NOT_PERMITTED, ALLOW);
    case "fcntl":
      return ownerTree(policy.processes, fcntlTree);
    case "ioctl":
      return policy.metadata === "allow" ? deviceTree : inodeTree;
    case "metadata":
      return metadataTree(policy, NOTIFY);
    case "metadataInMemory":
      // Newer calls with arguments behind pointers in memory: programs fall back to the older ones.
      return metadataTree(policy, refuse(ENOSYS));
    case "memfd":
      return policy.memoryFiles ? ALLOW : refuse(ENOSYS);
    case "mknod":
      return nodeTree(1);
    case "mknodat":
      return nodeTree(2);
    case "openat2":
      return policy.openat2 ? ALLOW : refuse(ENOSYS);
    case "personality":
      return whenOneOf(0, [0, QUERY_PERSONALITY], ALLOW, NOT_PERMITTED);
    case "prctl":
      return prctlTree(policy.checkpointable);
    case "prlimit64":
      return limitTree(policy.processes);
    case "seccomp":
      return seccompTree;
    case "sendmmsg":
      return sendTree(3, policy.sends === "engine" ? NOTIFY : ALLOW);
    case "sendmsg":
      return sendTree(2, policy.sends === "engine" ? NOTIFY : ALLOW);
    case "sendto":
      // Without an address it goes to the peer.
      return sendTree(3, policy.sends === "engine" ? whenZero(4, ALLOW, NOTIFY) : ALLOW);
    case "setsockopt":
      return setsockoptTree;
    case "socket":
      return socketTree(policy);
    case "socketpair":
      return socketpairTree(policy);
    case "unshare":
      return whenAnyBit(0, ~(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM), NOT_PERMITTED, ALLOW);
    case "watch":
      return policy.watch === "allow" ? ALLOW : policy.watch === "engine" ? NOTIFY : NO_ACCESS;
  }
}

// ----------------------------------------------------------------------------------------- processes

const CLONE_FS = 0x200;
const CLONE_FILES = 0x400;
const CLONE_SYSVSEM = 0x40000;
/** NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME has no bit in clone(2). */
const CLONE_NAMESPACES = 0x7e020000;

const QUERY_PERSONALITY = 0xffffffff;

const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3;

/** A program may stack filters of its own, without a listener. */
const seccompTree: Tree = whenEqual(
  0,
  SECCOMP_SET_MODE_FILTER,
  whenAnyBit(1, SECCOMP_FILTER_FLAG_NEW_LISTENER, refuse(EBUSY), ALLOW),
  ALLOW,
);

const PR_SET_DUMPABLE = 4;
const PR_SET_MM = 35;
const PR_CAPBSET_DROP = 24;
const PR_SET_SECUREBITS = 28;
const PR_SCHED_CORE = 62;
const PR_TIMER_CREATE_RESTORE_IDS = 77;
const PR_SET_PTRACER = 0x59616d61;

/** Options that concern the caller alone; any other answers EINVAL, as an older kernel would. */
const PR_ALLOWED: readonly (readonly [first: number, last: number])[] = [
  [1, 3], // death signal, dumpable query
  [5, 16], // alignment, kept capabilities, floating point, timing, name
  [19, 23], // endianness, seccomp, bounding set query
  [25, 27], // time stamp counter, secure bits query
  [29, 30], // timer slack
  [33, 34], // memory errors
  [36, 42], // child subreaper, no_new_privs, clear_tid query, huge pages
  [45, 47], // floating point mode, ambient capabilities
  [50, 56], // SVE, speculation, pointer and tagged address control
  [59, 61], // system call user dispatch, pointer authentication
  [63, 66], // SME, MDWE
  [68, 71], // merging query, RISC-V
  [74, 76], // shadow stacks
  [78, 78], // futex hash
];
const PR_ALLOWED_NAMED = [0x53564d41 /* SET_VMA */, 0x41555856 /* GET_AUXV */];

function prctlTree(checkpointable: boolean): Tree {
  const guarded = checkpointable ? NOTIFY : NOT_PERMITTED;
  const bands = PR_ALLOWED.reduceRight<Tree>(
    (above, [first, last]) => whenAtLeast(0, last + 1, above, whenAtLeast(0, first, ALLOW, refuse(EINVAL))),
    whenOneOf(0, PR_ALLOWED_NAMED, ALLOW, refuse(EINVAL)),
  );
  // A program that cannot be read cannot be judged, so it stays dumpable.
  return whenEqual(
    0,
    PR_SET_DUMPABLE,
    whenEqual(1, 1, ALLOW, guarded),
    whenOneOf(
      0,
      [PR_SET_MM, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_TIMER_CREATE_RESTORE_IDS],
      guarded,
      whenOneOf(0, [PR_SCHED_CORE, PR_SET_PTRACER], NOT_PERMITTED, bands),
    ),
  );
}

// --------------------------------------------------------------------------------------- descriptors

const F_SETLEASE = 1024;
const F_NOTIFY = 1026;
const F_SETPIPE_SZ = 1031;
const DEFAULT_PIPE_BYTES = 65536;

const fcntlTree: Tree = whenEqual(
  1,
  F_SETPIPE_SZ,
  whenAtLeast(2, DEFAULT_PIPE_BYTES + 1, NOT_PERMITTED, ALLOW),
  whenOneOf(1, [F_SETLEASE, F_NOTIFY], NO_ACCESS, ALLOW),
);

const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;
const TIOCCONS = 0x541d;
const TIOCSETD = 0x5423;
/** Interface, routing and device requests on sockets: 0x8910 to 0x8bff. What a socket says of itself is below. */
const SIOC_FIRST = 0x8910;
const SIOC_END = 0x8c00;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_IOC32_SETFLAGS = 0x40046602;
const FS_IOC_FSSETXATTR = 0x401c5820;

const deviceTree: Tree = whenOneOf(
  1,
  [...OWNER_REQUESTS, TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD],
  NOT_PERMITTED,
  whenAtLeast(1, SIOC_END, ALLOW, whenAtLeast(1, SIOC_FIRST, NOT_PERMITTED, ALLOW)),
);

const inodeTree: Tree = whenOneOf(
  1,
  [FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR],
  NOT_PERMITTED,
  deviceTree,
);

function metadataTree({ metadata }: RegisterPolicy, mediated: Tree): Tree {
  return metadata === "allow" ? ALLOW : metadata === "engine" ? mediated : NOT_PERMITTED;
}

const S_IFMT = 0xf000;
const S_IFREG = 0x8000;
const S_IFIFO = 0x1000;
const S_IFSOCK = 0xc000;

function nodeTree(modeArg: number): Tree {
  return whenOneOf(modeArg, [0, S_IFREG, S_IFIFO, S_IFSOCK], ALLOW, NOT_PERMITTED, { mask: S_IFMT });
}

const O_ACCMODE = 0o3;
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const O_PATH = 0o10000000;

/** `yes` for an open for reading or writing: O_PATH gives access to nothing. */
export function whenOpens(flagsArg: number, yes: Tree, no: Tree): Tree {
  return whenAnyBit(flagsArg, O_PATH, no, yes);
}

/** `yes` for an open that can write, create or truncate. */
export function whenOpenWrites(flagsArg: number, yes: Tree, no: Tree): Tree {
  return whenOpens(flagsArg, whenAnyBit(flagsArg, O_ACCMODE | O_CREAT | O_TRUNC, yes, no), no);
}

// ------------------------------------------------------------------------------------------- sockets

const MSG_FASTOPEN = 0x20000000;
const IPPROTO_TCP = 6;

/** A connect that no rule sees. */
function sendTree(flagsArg: number, sends: Tree): Tree {
  return whenAnyBit(flagsArg, MSG_FASTOPEN, refuse(EOPNOTSUPP), sends);
}

const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_OPTIONS = 4;
const IPV6_2292RTHDR = 5;
const IPV6_2292PKTOPTIONS = 6;
const IPV6_FLOWLABEL_MGR = 32;
const IPV6_RTHDR = 57;
const TCP_ULP = 31;

/** Source routes, which lead by way of others than the address says; and what makes another protocol of a socket. */
const setsockoptTree: Tree = whenEqual(
  1,
  IPPROTO_IP,
  whenEqual(2, IP_OPTIONS, NOT_PERMITTED, ALLOW),
  whenEqual(
    1,
    IPPROTO_IPV6,
    whenOneOf(2, [IPV6_2292RTHDR, IPV6_2292PKTOPTIONS, IPV6_FLOWLABEL_MGR, IPV6_RTHDR], NOT_PERMITTED, ALLOW),
    whenEqual(1, IPPROTO_TCP, whenEqual(2, TCP_ULP, NOT_PERMITTED, ALLOW), ALLOW),
  ),
);

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_SEQPACKET = 5;
/** All of the type but SOCK_NONBLOCK and SOCK_CLOEXEC, so that an unknown flag makes an unknown type. */
const SOCK_TYPE = 0xffffffff & ~0o2004000;
const IPPROTO_ICMP = 1;
const IPPROTO_UDP = 17;
const IPPROTO_ICMPV6 = 58;

function socketTree({ tcp, udp, icmp, unix }: RegisterPolicy): Tree {
  const typed = (type: number, yes: Tree, no: Tree) => whenEqual(1, type, yes, no, { mask: SOCK_TYPE });
  const protocol = (...numbers: readonly number[]) => whenOneOf(2, numbers, ALLOW, refuse(EPROTONOSUPPORT));
  const datagrams = [...(udp ? [0, IPPROTO_UDP] : []), ...(icmp ? [IPPROTO_ICMP, IPPROTO_ICMPV6] : [])];
  const internet = typed(
    SOCK_STREAM,
    tcp ? protocol(0, IPPROTO_TCP) : NO_ACCESS,
    typed(SOCK_DGRAM, datagrams.length > 0 ? protocol(...datagrams) : NO_ACCESS, NOT_PERMITTED),
  );
  const local = unix
    ? typed(SOCK_STREAM, ALLOW, typed(SOCK_DGRAM, ALLOW, typed(SOCK_SEQPACKET, ALLOW, NOT_PERMITTED)))
    : NO_ACCESS;
  return whenEqual(0, AF_UNIX, local, whenOneOf(0, [AF_INET, AF_INET6], internet, refuse(EAFNOSUPPORT)));
}

function socketpairTree({ unix }: RegisterPolicy): Tree {
  const types = unix ? [SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM] : [SOCK_STREAM, SOCK_SEQPACKET];
  return whenEqual(0, AF_UNIX, whenOneOf(1, types, ALLOW, NO_ACCESS, { mask: SOCK_TYPE }), refuse(EAFNOSUPPORT));
}
