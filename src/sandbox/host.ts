/** What this host offers, probed once at the start of the service. */
import { release } from "node:os";
import { type Arch, archFromNode } from "../engine/syscalls/table.js";

/** Questions to the kernel. `src/native` answers them; negative results are -errno. */
export interface HostProbe {
  /** Landlock's ABI version. */
  landlockAbi(): number;
  /** 1 when seccomp(2) knows all of these filter flags, 0 when not. */
  filterFlags(flags: number): number;
  /** 0 when a child can be born in new namespaces of these CLONE_NEW* flags. */
  namespaces(flags: number): number;
  /** 0 when a child that is born in new namespaces of these CLONE_NEW* flags may change its mounts. */
  mounts(flags: number): number;
  /** 1 when the effective set holds the capability. */
  capability(number: number): number;
  /** 0 when pidfd_getfd(2) is permitted. */
  pidfdGetfd(): number;
  /** 0 when process_vm_readv(2) is permitted. */
  readMemory(): number;
  /** 0 when ptrace(2) lets a descendant be traced. */
  trace(): number;
  /** Hard RLIMIT_NOFILE of this process. */
  maxOpenFiles(): number;
  /** /proc tells the children of a task. */
  listsChildren(): boolean;
}

export interface HostFeatures {
  readonly arch: Arch;
  readonly kernelRelease: string;
  readonly uid: number;
  readonly gid: number;
  /** This process may take on any uid and gid. */
  readonly canSetIds: boolean;
  /** 0 when there is none. */
  readonly landlockAbi: number;
  /** A filter can have a listener. */
  readonly listener: boolean;
  readonly waitKillable: boolean;
  readonly pidNamespaces: boolean;
  /** A PID namespace inside a new user namespace. */
  readonly userNamespaces: boolean;
  readonly mountNamespaces: boolean;
  /** A mount namespace inside a new user namespace. */
  readonly userMountNamespaces: boolean;
  readonly canDropBounding: boolean;
  readonly pidfdGetfd: boolean;
  /** Descendants can be traced. */
  readonly trace: boolean;
  /** The hard limit of this process, which its children cannot exceed. */
  readonly maxOpenFiles: number;
  /** /proc tells the children of a task, so that all of a sandbox can be found. */
  readonly listsChildren: boolean;
}

/** One line of `sandgate check` and of GetServerInfo. */
export interface HostFeature {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
  /** Empty when nothing can or need be done. */
  readonly remedy: string;
}

export interface Host {
  readonly features: HostFeatures;
  readonly list: readonly HostFeature[];
}

/** Flags of seccomp(2). */
export const FILTER_FLAG = { newListener: 1 << 3, waitKillable: 1 << 5 } as const;

const CLONE_NEWNS = 0x00020000;
const CLONE_NEWUSER = 0x10000000;
const CLONE_NEWPID = 0x20000000;
const CAP_SETGID = 6;
const CAP_SETUID = 7;
const CAP_SETPCAP = 8;

/** Throws on an architecture that has no table of system calls. */
export function probeHost(probe: HostProbe): Host {
  const arch = archFromNode(process.arch);
  if (arch === undefined) throw new Error(`there is no table of system calls for ${process.arch}`);
  const landlock = probe.landlockAbi();
  const listener = probe.filterFlags(FILTER_FLAG.newListener) === 1;
  const killable = listener && probe.filterFlags(FILTER_FLAG.newListener | FILTER_FLAG.waitKillable) === 1;
  const pidErrno = probe.namespaces(CLONE_NEWPID);
  const userErrno = probe.namespaces(CLONE_NEWUSER | CLONE_NEWPID);
  const mountErrno = probe.mounts(CLONE_NEWNS);
  const userMountErrno = mountErrno === 0 ? 0 : probe.mounts(CLONE_NEWUSER | CLONE_NEWNS);
  const getfdErrno = probe.pidfdGetfd();
  const memoryErrno = probe.readMemory();
  const traceErrno = probe.trace();
  const features: HostFeatures = {
    arch,
    kernelRelease: release(),
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
    canSetIds: probe.capability(CAP_SETUID) === 1 && probe.capability(CAP_SETGID) === 1,
    landlockAbi: Math.max(0, landlock),
    listener,
    waitKillable: killable,
    pidNamespaces: pidErrno === 0,
    userNamespaces: userErrno === 0,
    mountNamespaces: mountErrno === 0,
    userMountNamespaces: userMountErrno === 0,
    canDropBounding: probe.capability(CAP_SETPCAP) === 1,
    pidfdGetfd: getfdErrno === 0,
    trace: traceErrno === 0,
    maxOpenFiles: probe.maxOpenFiles(),
    listsChildren: probe.listsChildren(),
  };
  return {
    features,
    list: describe(features, {
      landlock,
      pidErrno,
      userErrno,
      mountErrno: userMountErrno,
      getfdErrno,
      memoryErrno,
      traceErrno,
    }),
  };
}

interface Findings {
  readonly landlock: number;
  readonly pidErrno: number;
  readonly userErrno: number;
  /** 0 when either way works. */
  readonly mountErrno: number;
  readonly getfdErrno: number;
  readonly memoryErrno: number;
  readonly traceErrno: number;
}

function describe(features: HostFeatures, found: Findings): HostFeature[] {
  const abi = features.landlockAbi;
  const needsAbi = (name: string, since: number, kernel: string): HostFeature => ({
    name,
    available: abi >= since,
    detail: abi === 0 ? landlockDetail(found.landlock) : `Landlock ABI ${abi}, ${since} needed`,
    remedy: abi >= since ? "" : abi === 0 ? landlockRemedy(found.landlock) : `Run a kernel from ${kernel} on.`,
  });
  const permitted = (name: string, result: number, remedy: string): HostFeature => ({
    name,
    available: result === 0,
    detail: result === 0 ? "permitted" : `refused with errno ${-result}`,
    remedy: result === 0 ? "" : remedy,
  });
  const profile = "Let the container's seccomp profile permit it";
  return [
    needsAbi("landlock_fs", 1, "5.13"),
    needsAbi("landlock_refer", 2, "5.19"),
    needsAbi("landlock_truncate", 3, "6.2"),
    needsAbi("landlock_net", 4, "6.7"),
    needsAbi("landlock_ioctl", 5, "6.10"),
    needsAbi("landlock_scope", 6, "6.12"),
    {
      name: "seccomp_notify",
      available: features.listener,
      detail: `kernel ${features.kernelRelease}`,
      remedy: features.listener ? "" : `${profile}: seccomp(2) with SECCOMP_FILTER_FLAG_NEW_LISTENER, kernel 5.0 on.`,
    },
    {
      name: "wait_killable",
      available: features.waitKillable,
      detail: `kernel ${features.kernelRelease}`,
      remedy: features.waitKillable ? "" : "Run a kernel from 5.19 on.",
    },
    permitted("pidfd_getfd", found.getfdErrno, `${profile}: pidfd_getfd(2).`),
    permitted("process_vm_readv", found.memoryErrno, `${profile}: process_vm_readv(2).`),
    permitted("exec_verify", found.traceErrno, `${profile}: ptrace(2); kernel.yama.ptrace_scope must be below 2.`),
    permitted(
      "pid_namespace",
      found.pidErrno,
      "Run the service as root, or let user namespaces be made (see user_namespace).",
    ),
    permitted(
      "user_namespace",
      found.userErrno,
      "Set user.max_user_namespaces above 0, and lift the distribution's restriction on unprivileged user namespaces.",
    ),
    permitted(
      "mount_namespace",
      found.mountErrno,
      "Run the service as root with CAP_SYS_ADMIN, or let user namespaces be made (see user_namespace); let the container's profiles permit mount_setattr(2) and its like.",
    ),
    {
      name: "memory_limit",
      available: features.listsChildren,
      detail: features.listsChildren ? WATCHED : NO_CHILDREN_FILES,
      remedy: features.listsChildren ? "" : CHILDREN_REMEDY,
    },
    {
      name: "process_limit",
      available: features.listsChildren,
      detail: features.listsChildren
        ? features.uid !== 0 && features.userNamespaces
          ? REFUSED
          : WATCHED
        : NO_CHILDREN_FILES,
      remedy: features.listsChildren ? "" : CHILDREN_REMEDY,
    },
    {
      name: "cpu_limit",
      available: features.listsChildren && abi >= 6,
      detail: !features.listsChildren ? NO_CHILDREN_FILES : abi >= 6 ? STOPPED : `Landlock ABI ${abi}, 6 needed`,
      remedy: !features.listsChildren ? CHILDREN_REMEDY : abi >= 6 ? "" : "Run a kernel from 6.12 on.",
    },
    {
      name: "bounding_set",
      available: features.canDropBounding,
      detail: features.canDropBounding
        ? "CAP_SETPCAP"
        : "no CAP_SETPCAP; no_new_privs makes what stays in the set inert",
      remedy: "",
    },
  ];
}

const WATCHED = "watched by each sandbox's init, and killed beyond it";
const REFUSED = "by the kernel in a user namespace of each sandbox: EAGAIN beyond it";
const STOPPED = "watched by each sandbox's init, and stopped while it is ahead of its share";
const NO_CHILDREN_FILES = "/proc/<pid>/task/<tid>/children is missing";
const CHILDREN_REMEDY = "Mount /proc, on a kernel with CONFIG_PROC_CHILDREN.";

const EOPNOTSUPP = 95;

function landlockDetail(result: number): string {
  return result === -EOPNOTSUPP ? "built in, but not enabled at boot" : `not built in, or refused (errno ${-result})`;
}

function landlockRemedy(result: number): string {
  return result === -EOPNOTSUPP
    ? "Add landlock to the kernel's lsm= boot parameter."
    : "Run a kernel with CONFIG_SECURITY_LANDLOCK, and let the container's seccomp profile permit landlock_create_ruleset(2).";
}
