/**
 * What becomes of every system call that `numbers.ts` knows, before a policy adds to it. Calls that are not here
 * answer ENOSYS, so that a program falls back to an older way.
 */
import { constants } from "node:os";
import { AARCH64, X86_64 } from "./numbers.js";

export type Arch = "x86_64" | "aarch64";

/** Rules that judge a call by its registers; `../bpf/registers.ts` has one for each. */
export type RegisterRule =
  | "askIoWho"
  | "askPid"
  | "askWho"
  | "bindListen"
  | "changeIoWho"
  | "changePid"
  | "changeWho"
  | "clock"
  | "clone"
  | "fcntl"
  | "ioctl"
  | "kill"
  | "metadata"
  | "metadataInMemory"
  | "memfd"
  | "mknod"
  | "mknodat"
  | "openat2"
  | "personality"
  | "prctl"
  | "prlimit64"
  | "seccomp"
  | "sendmmsg"
  | "sendmsg"
  | "sendto"
  | "setsockopt"
  | "socket"
  | "socketpair"
  | "unshare"
  | "watch";

export type Treatment =
  | { readonly kind: "allow" }
  | { readonly kind: "errno"; readonly errno: number }
  | { readonly kind: "registers"; readonly rule: RegisterRule };

export interface SyscallRow {
  readonly name: string;
  readonly number: number;
  readonly treatment: Treatment;
}

/** From <linux/audit.h>: what seccomp_data.arch holds. */
export const AUDIT_ARCH: Readonly<Record<Arch, number>> = { x86_64: 0xc000003e, aarch64: 0xc00000b7 };

const NUMBERS: Readonly<Record<Arch, Readonly<Record<string, number>>>> = { x86_64: X86_64, aarch64: AARCH64 };

const { EPERM, ENOSYS } = constants.errno;

/** Allowed whatever the arguments, so that the kernel's per-number cache answers without running the filter. */
const ALLOWED: Readonly<Record<string, string>> = {
  io: `read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile splice tee vmsplice
    copy_file_range readahead fadvise64 sync_file_range fsync fdatasync sync syncfs fallocate ftruncate truncate cachestat
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents`,
  descriptors: `close close_range dup dup2 dup3 pipe pipe2 poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl
    epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime
    timerfd_gettime inotify_init inotify_init1 inotify_rm_watch flock`,
  files: `open openat creat stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink
    readlinkat getdents getdents64 getcwd chdir fchdir umask rename renameat renameat2 mkdir mkdirat rmdir link linkat
    unlink unlinkat symlink symlinkat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
    file_getattr`,
  memory: `mmap munmap mremap mprotect brk madvise msync mincore mlock mlock2 munlock mlockall munlockall
    remap_file_pages pkey_alloc pkey_free pkey_mprotect map_shadow_stack mseal membarrier mbind get_mempolicy
    set_mempolicy set_mempolicy_home_node`,
  processes: `fork vfork execve execveat exit exit_group wait4 waitid getpid gettid getppid getpgrp setsid
    setpgid set_tid_address set_robust_list rseq arch_prctl times getrusage capget capset
    getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid
    setfsuid setfsgid setgroups futex futex_waitv futex_wake futex_wait futex_requeue restart_syscall pause`,
  signals: `rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait     rt_sigsuspend sigaltstack pidfd_send_signal`,
  time: `time gettimeofday nanosleep alarm getitimer setitimer     timer_settime timer_gettime timer_getoverrun timer_delete`,
  scheduling: `sched_yield rseq_slice_yield sched_get_priority_max
    sched_get_priority_min getcpu getrlimit setrlimit`,
  system: `uname sysinfo getrandom lsm_get_self_attr lsm_list_modules landlock_create_ruleset landlock_add_rule
    landlock_restrict_self uprobe uretprobe`,
  sockets: `connect bind accept accept4 getsockname getpeername getsockopt recvfrom recvmsg recvmmsg shutdown`,
};

/** Known to be dangerous, or to reach beyond the sandbox: EPERM tells people what happened. */
const REFUSED: Readonly<Record<string, string>> = {
  otherProcesses: `ptrace process_vm_readv process_vm_writev pidfd_getfd process_madvise process_mrelease kcmp
    perf_event_open`,
  kernel: `bpf init_module finit_module delete_module kexec_load kexec_file_load reboot syslog iopl ioperm modify_ldt
    lookup_dcookie userfaultfd memfd_secret lsm_set_self_attr`,
  keys: "add_key request_key keyctl",
  mounts: `mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr
    setns`,
  host: `acct quotactl quotactl_fd swapon swapoff sethostname setdomainname vhangup clock_settime settimeofday adjtimex
    clock_adjtime`,
  handles: "name_to_handle_at open_by_handle_at fanotify_init fanotify_mark",
  // Outside every Landlock scope and every limit.
  sharedObjects: `shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink
    mq_timedsend mq_timedreceive mq_notify mq_getsetattr`,
};

/** As on a kernel that was built without them: programs have another way. */
const ABSENT: Readonly<Record<string, string>> = {
  // Its flags are in memory. Libraries fall back to clone, whose flags are a register.
  clone: "clone3",
  uring: "io_uring_setup io_uring_enter io_uring_register",
  mountTable: "statmount listmount listns",
  obsolete: `uselib ustat sysfs _sysctl create_module get_kernel_syms query_module nfsservctl getpmsg putpmsg afs_syscall
    tuxcall security vserver set_thread_area get_thread_area epoll_ctl_old epoll_wait_old`,
};

const JUDGED: Readonly<Record<RegisterRule, string>> = {
  // They name a process, and their answers tell whether there is one.
  askPid: `getpgid getsid get_robust_list pidfd_open tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo sched_getparam
    sched_getscheduler sched_getaffinity sched_getattr sched_rr_get_interval`,
  changePid: "sched_setparam sched_setscheduler sched_setaffinity sched_setattr migrate_pages move_pages",
  askWho: "getpriority",
  changeWho: "setpriority",
  askIoWho: "ioprio_get",
  changeIoWho: "ioprio_set",
  kill: "kill",
  clock: "clock_gettime clock_getres clock_nanosleep timer_create",
  bindListen: "listen",
  clone: "clone",
  fcntl: "fcntl",
  ioctl: "ioctl",
  // Landlock does not cover them, and an owner needs no write access.
  metadata: `chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat setxattr lsetxattr
    fsetxattr removexattr lremovexattr fremovexattr`,
  metadataInMemory: "setxattrat removexattrat file_setattr",
  // Programs have another way where a kernel lacks it.
  memfd: "memfd_create",
  mknod: "mknod",
  mknodat: "mknodat",
  openat2: "openat2",
  personality: "personality",
  prctl: "prctl",
  prlimit64: "prlimit64",
  seccomp: "seccomp",
  sendmmsg: "sendmmsg",
  sendmsg: "sendmsg",
  sendto: "sendto",
  setsockopt: "setsockopt",
  socket: "socket",
  socketpair: "socketpair",
  unshare: "unshare",
  watch: "inotify_add_watch",
};

/** Calls that do the same: what a policy says of one, it says of all, and no filter may treat one laxer. */
const SIBLINGS: readonly string[] = [
  "open openat creat openat2",
  "execve execveat",
  "fork vfork clone clone3",
  "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal",
  "mprotect pkey_mprotect",
  // Names of files.
  "rename renameat renameat2",
  "link linkat",
  "symlink symlinkat",
  "unlink unlinkat rmdir",
  "mkdir mkdirat",
  "mknod mknodat",
  // What Landlock does not cover of them.
  "chmod fchmod fchmodat fchmodat2",
  "chown fchown lchown fchownat",
  "utime utimes futimesat utimensat",
  "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat",
  "getxattr lgetxattr fgetxattr getxattrat",
  "listxattr llistxattr flistxattr listxattrat",
  "stat lstat newfstatat statx",
  "access faccessat faccessat2",
  "readlink readlinkat",
  // Sockets.
  "sendto sendmsg sendmmsg",
  "accept accept4",
  // Other processes.
  "sched_setparam sched_setscheduler sched_setattr",
  "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp",
  "migrate_pages move_pages",
  // The kernel and the host.
  "mount umount2 pivot_root open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr",
  "io_uring_setup io_uring_enter io_uring_register",
  "add_key request_key keyctl",
  "init_module finit_module",
  "kexec_load kexec_file_load",
  "clock_settime settimeofday adjtimex clock_adjtime",
  "quotactl quotactl_fd",
  "name_to_handle_at open_by_handle_at",
  "shmget shmat shmctl shmdt",
  "semget semop semctl semtimedop",
  "msgget msgsnd msgrcv msgctl",
  "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
];

const FAMILIES: readonly (readonly string[])[] = SIBLINGS.map(words);

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}

function createTreatments(): ReadonlyMap<string, Treatment> {
  const treatments = new Map<string, Treatment>();
  const put = (text: string, treatment: Treatment) => {
    for (const name of words(text)) {
      if (treatments.has(name)) throw new Error(`system call ${name} has two rows`);
      treatments.set(name, treatment);
    }
  };
  for (const names of Object.values(ALLOWED)) put(names, { kind: "allow" });
  for (const names of Object.values(REFUSED)) put(names, { kind: "errno", errno: EPERM });
  for (const names of Object.values(ABSENT)) put(names, { kind: "errno", errno: ENOSYS });
  for (const [rule, names] of Object.entries(JUDGED)) put(names, { kind: "registers", rule: rule as RegisterRule });
  return treatments;
}

const TREATMENTS = createTreatments();

function createRows(arch: Arch): readonly SyscallRow[] {
  return Object.entries(NUMBERS[arch])
    .map(([name, number]) => {
      const treatment = TREATMENTS.get(name);
      if (treatment === undefined) throw new Error(`system call ${name} has no row`);
      return { name, number, treatment };
    })
    .sort((a, b) => a.number - b.number);
}

const ROWS: Readonly<Record<Arch, readonly SyscallRow[]>> = {
  x86_64: createRows("x86_64"),
  aarch64: createRows("aarch64"),
};

const NAMES: Readonly<Record<Arch, ReadonlyMap<number, string>>> = {
  x86_64: new Map(ROWS.x86_64.map((row) => [row.number, row.name])),
  aarch64: new Map(ROWS.aarch64.map((row) => [row.number, row.name])),
};

/** Ascending by number. */
export function syscallRows(arch: Arch): readonly SyscallRow[] {
  return ROWS[arch];
}

/** Undefined when this architecture has no such call. */
export function syscallNumber(arch: Arch, name: string): number | undefined {
  return Object.hasOwn(NUMBERS[arch], name) ? NUMBERS[arch][name] : undefined;
}

/** Undefined for a number that the table does not know. */
export function syscallName(arch: Arch, number: number): string | undefined {
  return NAMES[arch].get(number);
}

/** Whether any architecture has a call of this name. */
export function isSyscallName(name: string): boolean {
  return TREATMENTS.has(name);
}

export function syscallTreatment(name: string): Treatment | undefined {
  return TREATMENTS.get(name);
}

/** The call itself and those that do the same, such as `openat` for `open`. */
export function syscallSiblings(name: string): readonly string[] {
  return FAMILIES.find((family) => family.includes(name)) ?? [name];
}

/** Every set of calls that do the same. */
export function syscallFamilies(): readonly (readonly string[])[] {
  return FAMILIES;
}

export function archFromNode(nodeArch: string): Arch | undefined {
  return nodeArch === "x64" ? "x86_64" : nodeArch === "arm64" ? "aarch64" : undefined;
}

export function archFromAudit(audit: number): Arch | undefined {
  return audit >>> 0 === AUDIT_ARCH.x86_64 ? "x86_64" : audit >>> 0 === AUDIT_ARCH.aarch64 ? "aarch64" : undefined;
}
