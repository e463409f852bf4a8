/** The attacks, by class. A newcomer adds a line, and an attempt of that name in test/guests/attack. */
import { join } from "node:path";
import { archFromNode, syscallNumber } from "../../src/engine/syscalls/table.js";
import { SECRET, type Shape, type Targets } from "./shapes.js";
import type { Attack, AttackClass } from "./table.js";

const arch = archFromNode(process.arch) ?? "x86_64";

const FILE_RULES_ONLY: readonly Shape[] = ["a deny inside a grant", "all but one thing"];

/** An attack whose arguments are names below the run's files, but for those that begin with a colon. */
function onFiles(what: string, name: string, ...args: readonly string[]): Attack {
  const path = ({ files }: Targets, arg: string): string => (arg.startsWith(":") ? arg.slice(1) : join(files, arg));
  return { what, args: (targets) => [name, ...args.map((arg) => path(targets, arg))] };
}

function plain(what: string, ...args: readonly string[]): Attack {
  return { what, args: () => args };
}

const FILES: readonly Attack[] = [
  onFiles("reading a file that is not granted", "read", "secret/file"),
  onFiles("reading it by open(2)", "open", "secret/file"),
  onFiles("reading it by openat2(2)", "openat2", "secret/file"),
  onFiles("reading it by dots", "read", "read/../secret/file"),
  onFiles("reading it through a new symbolic link", "by-symlink", "write", "secret/file"),
  onFiles("reading it through a new hard link", "by-hard-link", "write", "secret/file"),
  onFiles("linking what it opened without a right", "by-descriptor-link", "write", "secret/file"),
  onFiles("opening again what it opened without a right", "by-reopening", "secret/file"),
  onFiles("reading it below /proc/self/root", "by-root-link", "secret/file"),
  onFiles("reading it from a descriptor of its directory", "by-directory", "secret", ":file"),
  onFiles("reading it from its directory", "by-working-directory", "secret", ":file"),
  onFiles("reading it below /proc/self/cwd", "by-cwd-link", "secret", ":file"),
  { ...onFiles("reading it by its handle", "by-handle", "secret/file", "write"), needsRoot: true },
  {
    what: "reading a file whose name is no UTF-8",
    args: ({ files }) => ["read-hex", `${Buffer.from(join(files, "secret/f")).toString("hex")}ff`],
  },
  onFiles("listing a directory", "list", "secret"),
  onFiles("writing", "write", "secret/file"),
  onFiles("appending", "append", "secret/file"),
  onFiles("writing by openat2(2)", "openat2-write", "secret/file"),
  onFiles("writing by creat(2)", "creat", "secret/other"),
  onFiles("truncating", "truncate", "secret/file"),
  onFiles("truncating what it opens for reading", "truncate-by-reading", "secret/other"),
  onFiles("making a file", "make-file", "secret/new"),
  onFiles("making a file without a name", "nameless-file", "secret"),
  onFiles("making a directory", "make-directory", "secret/new-directory"),
  onFiles("making a symbolic link", "make-symlink", "secret/new-link"),
  onFiles("making a FIFO", "make-fifo", "secret/new-fifo"),
  { ...onFiles("making a device file, even where it may write", "make-device", "write/device"), needsRoot: true },
  { ...onFiles("making a block device file", "make-block-device", "write/block-device"), needsRoot: true },
  onFiles("removing a file", "remove", "secret/doomed"),
  onFiles("removing a directory", "remove-directory", "secret/empty"),
  onFiles("moving a file out", "rename", "secret/moving", "write/stolen"),
  onFiles("moving a file in", "renameat2", "write/file", "secret/planted"),
  onFiles("exchanging files", "exchange", "read/file", "secret/file"),
  onFiles("executing a program that is not granted", "execute", "secret/program"),
  ...(arch === "x86_64" ? [onFiles("executing it by the loader", "execute-by-loader", "secret/program")] : []),
  { ...onFiles("leases on what it may read", "lease", "read/file") },
  { ...onFiles("notices of a directory", "directory-notice", "read") },
  { ...onFiles("watching what it may not read", "inotify", "secret") },
  { ...onFiles("fanotify", "fanotify", "read") },
  plain("raising the limit of core files, which the kernel writes", "core-limit"),
  {
    ...onFiles("knowing what exists", "exists", "secret/file"),
    accepted: "Landlock does not cover access(2); a mount namespace does",
  },
  {
    ...onFiles("knowing size and times", "stat", "secret/file"),
    accepted: "Landlock does not cover stat(2); a mount namespace does",
  },
  {
    ...onFiles("locking what it may read", "flock", "read/file"),
    granted: FILE_RULES_ONLY,
    accepted: "flock(2) needs no right to write; nothing in Linux takes it away",
  },
];

const METADATA_CALLS =
  `chmod fchmod fchmodat fchmodat2 fchmodat2-descriptor chown lchown fchown fchownat-descriptor utime
  utimes futimesat utimensat futimens setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
  set-flags set-extended-flags file-setattr`.split(/\s+/);

const METADATA: readonly Attack[] = METADATA_CALLS.flatMap((call): Attack[] => [
  {
    ...onFiles(`${call} of a file that is not granted`, call, "secret/file"),
    lacking: ["ENOSYS", "EOPNOTSUPP"],
  },
  {
    ...onFiles(`${call} of a file that it may only read`, call, "read/file"),
    lacking: ["ENOSYS", "EOPNOTSUPP"],
    granted: FILE_RULES_ONLY,
  },
]);

const RACES: readonly Attack[] = [
  {
    what: "a path that changes while it is looked up",
    args: ({ files }) => ["race-path", join(files, "read/../write/file"), join(files, "read/../secret/file"), SECRET],
  },
  {
    what: "a link that changes while it is followed",
    args: ({ files }) => [
      "race-link",
      join(files, "write/file"),
      join(files, "secret/file"),
      SECRET,
      join(files, "write"),
    ],
  },
  { what: "a port that changes under connect", args: ({ openPort, port }) => ["race-port", openPort, port] },
  { what: "a family that changes under connect", args: ({ openPort, port }) => ["race-family", openPort, port] },
  {
    what: "a descriptor that changes under connect",
    args: ({ openPort, port }) => ["race-descriptor", openPort, port],
  },
  {
    what: "an abstract name that becomes a path",
    args: ({ socket }) => ["race-abstract", socket],
    granted: ["all but one thing"],
  },
];

const connectBy = (what: string, name: string, host = "127.0.0.1"): Attack => ({
  what,
  args: ({ port }) => [name, host, port],
});
const lackingSockets = ["EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EINVAL", "ENOENT"];
const socketOf = (what: string, ...triple: readonly number[]): Attack => ({
  ...plain(`sockets of ${what}`, "socket", ...triple.map(String)),
  lacking: lackingSockets,
});

const NETWORK: readonly Attack[] = [
  connectBy("a port that is not granted", "connect"),
  connectBy("it by another call's turn", "connect-later"),
  connectBy("it as a mapped address", "connect", "::ffff:127.0.0.1"),
  connectBy("it as a mapped address without a scope", "connect-short", "::ffff:127.0.0.1"),
  connectBy("it as the unspecified address", "connect", "0.0.0.0"),
  connectBy("it as the unspecified address of IPv6", "connect", "::"),
  connectBy("it by the loopback address of IPv6", "connect", "::1"),
  connectBy("it by another loopback address", "connect-long"),
  { what: "it after a granted one", args: (at) => ["reconnect", "127.0.0.1", at.openPort, "127.0.0.1", at.port] },
  { ...connectBy("MPTCP", "mptcp"), lacking: lackingSockets },
  { ...connectBy("MPTCP that listens", "mptcp-bind"), args: () => ["mptcp-bind", "127.0.0.1", "0"] },
  { ...connectBy("TCP Fast Open by sendto", "fastopen-sendto") },
  { ...connectBy("TCP Fast Open by sendmsg", "fastopen-sendmsg") },
  { ...connectBy("TCP Fast Open by sendmmsg", "fastopen-sendmmsg") },
  { ...connectBy("TCP Fast Open by connect and write", "fastopen-connect") },
  ...["udp-sendto", "udp-sendmsg", "udp-sendmmsg", "udp-connect"].map(
    (name): Attack => ({ ...connectBy(`datagrams by ${name}`, name), granted: ["all but one thing"] }),
  ),
  plain("binding a port", "bind", "127.0.0.1", "0"),
  plain("listening on a port that was never bound", "listen-unbound"),
  {
    what: "listening on a port that a dissolved connection left",
    args: ({ openPort }) => ["listen-dissolved", "127.0.0.1", openPort],
  },
  plain("binding a port together with others", "steal-port", "127.0.0.1", "0"),
  socketOf("MPTCP", 2, 1, 262),
  socketOf("SCTP", 2, 1, 132),
  socketOf("SCTP by messages", 2, 5, 132),
  socketOf("SMC", 43, 1, 0),
  socketOf("UDP-Lite", 2, 2, 136),
  { ...socketOf("raw IP", 2, 3, 255), needsRoot: true },
  { ...socketOf("raw IPv6", 10, 3, 255), needsRoot: true },
  { ...socketOf("packets", 17, 3, 0), needsRoot: true },
  socketOf("vsock", 40, 1, 0),
  socketOf("netlink", 16, 3, 0),
  socketOf("the kernel's cryptography", 38, 5, 0),
  { ...socketOf("XDP", 44, 3, 0), needsRoot: true },
  { ...socketOf("CAN", 29, 3, 1), needsRoot: true },
  { ...socketOf("key management", 15, 3, 2), needsRoot: true },
  { ...socketOf("Bluetooth", 31, 3, 1) },
  { what: "a Unix socket of the host", args: ({ socket }) => ["unix-connect", socket], granted: ["all but one thing"] },
  {
    what: "a datagram to it",
    args: ({ socket }) => ["unix-sendto", `${socket}.datagram`],
    granted: ["all but one thing"],
  },
  {
    what: "a datagram to it from one of a pair",
    args: ({ socket }) => ["unix-pair-sendto", `${socket}.datagram`],
    granted: ["all but one thing"],
  },
  { what: "an abstract socket of the host", args: ({ abstract }) => ["unix-connect", `@${abstract}`] },
  {
    what: "the service's own socket",
    args: ({ endpoint }) => ["unix-connect", endpoint],
  },
  onFiles("making a Unix socket where it may not write", "unix-bind", "secret/socket"),
];

const onProcess = (what: string, name: string, ...more: readonly string[]): Attack => ({
  what,
  args: ({ pid }) => [name, `${pid}`, ...more],
});
const oracle = (name: string): Attack => ({
  ...onProcess(`asking by ${name.replace("exists-by-", "")} whether there is a process`, name),
});

const PROCESSES: readonly Attack[] = [
  onProcess("signalling a process outside", "kill"),
  onProcess("signalling it as a thread", "tkill"),
  onProcess("signalling it as a thread of a group", "tgkill"),
  { ...onProcess("queueing a signal", "sigqueue") },
  { ...onProcess("queueing a signal for a thread", "thread-sigqueue") },
  onProcess("signalling by a descriptor of it", "signal-pidfd"),
  onProcess("tracing it", "trace"),
  onProcess("attaching to it", "attach"),
  onProcess("reading its memory", "read-memory"),
  onProcess("writing its memory", "write-memory"),
  onProcess("reading its memory as a file", "read-proc", "mem"),
  onProcess("reading its environment", "read-proc", "environ"),
  { ...onProcess("reading its command line", "read-proc", "cmdline"), granted: ["all but one thing"] },
  { ...onProcess("listing its descriptors", "read-proc", "fd"), granted: ["all but one thing"] },
  onProcess("its root directory", "walk-proc-root", "/etc/passwd"),
  onProcess("its descriptors", "take-descriptor"),
  onProcess("comparing it with itself", "compare-objects"),
  onProcess("its limits", "change-limit"),
  onProcess("its priority", "change-priority"),
  onProcess("its group's priority", "change-group-priority"),
  plain("every priority of a user", "change-user-priority"),
  onProcess("its affinity", "change-affinity"),
  onProcess("its scheduler", "change-scheduler"),
  onProcess("its scheduling parameters", "change-parameters"),
  onProcess("its scheduling attributes", "change-attributes"),
  onProcess("its input and output priority", "change-io-priority"),
  onProcess("the place of its pages", "move-pages"),
  onProcess("the nodes of its memory", "migrate-pages"),
  { ...onProcess("advice about its memory", "advise"), needsRoot: true },
  onProcess("releasing its memory", "release-memory"),
  ...[
    "exists-by-kill",
    "exists-by-tgkill",
    "exists-by-sigqueue",
    "exists-by-group",
    "exists-by-session",
    "exists-by-pidfd",
    "exists-by-priority",
    "exists-by-affinity",
    "exists-by-scheduler",
    "exists-by-limit",
  ].map(oracle),
  { ...plain("a higher priority", "raise-own-priority"), needsRoot: true },
  { ...plain("a real-time scheduler", "real-time"), needsRoot: true },
  plain("becoming unreadable for its judge", "hide"),
  { ...plain("letting others trace it", "let-anyone-trace"), lacking: ["EINVAL"] },
  plain("inherited descriptors", "inherited-descriptor"),
  plain("inherited variables", "inherited-variable", "SANDGATE_ATTACK_SECRET"),
];

const NAMESPACES: Readonly<Record<string, number>> = {
  mount: 0x20000,
  cgroup: 0x2000000,
  uts: 0x4000000,
  ipc: 0x8000000,
  user: 0x10000000,
  pid: 0x20000000,
  network: 0x40000000,
};

const namespaceAttacks = Object.entries(NAMESPACES).flatMap(([name, flag]): Attack[] => {
  const root = name === "user" ? {} : ({ needsRoot: true } as const);
  return [
    { ...plain(`a new ${name} namespace by unshare`, "unshare", `${flag}`), ...root },
    { ...plain(`a new ${name} namespace by clone`, "clone", `${flag}`), ...root },
    { ...plain(`a new ${name} namespace by clone3`, "clone3", `${flag}`), ...root, held: "ENOSYS" },
  ];
});

/** Calls that do nothing with arguments that are no pointers, descriptors or flags. */
const REACHABLE =
  `ptrace process_vm_readv pidfd_getfd process_mrelease perf_event_open io_uring_enter io_uring_register setns
  open_tree_attr fspick move_mount fsconfig fsmount statmount listmount`.split(/\s+/);
/** Likewise; without a sandbox only root gets so far. */
const REACHABLE_BY_ROOT = `init_module finit_module delete_module kexec_load swapon swapoff sethostname setdomainname
  pivot_root mount umount2 clock_settime clock_adjtime adjtimex open_by_handle_at mount_setattr lsm_set_self_attr`.split(
  /\s+/,
);

const reachOf = (name: string): Attack[] => {
  const number = syscallNumber(arch, name);
  return number === undefined ? [] : [{ ...plain(name, "reach", `${number}`), lacking: ["ENOSYS", "EPERM"] }];
};

const KERNEL: readonly Attack[] = [
  ...(arch === "x86_64"
    ? [
        { ...plain("calls of 32 bits", "int80"), held: "signal 31", lacking: ["signal 11", "ENOSYS"] },
        { ...plain("calls of x32", "x32"), held: "signal 31", lacking: ["ENOSYS"] },
      ]
    : []),
  ...["472", "500", "1000", "5000", "0x3fffffff", "-1"].map(
    (number): Attack => ({ ...plain(`call number ${number}`, "reach", number), held: "ENOSYS", lacking: ["ENOSYS"] }),
  ),
  ...namespaceAttacks,
  plain("a user namespace by the bits above the flags", "clone-high-bits", `${0x10000000}`),
  ...REACHABLE.flatMap(reachOf),
  ...REACHABLE_BY_ROOT.flatMap(reachOf).map((attack) => ({ ...attack, needsRoot: true as const })),
  { ...plain("another namespace", "enter-namespace", "/proc/self/ns/net"), needsRoot: true },
  { ...onFiles("mounting", "mount", "write"), needsRoot: true },
  { ...onFiles("mounting what is hidden", "bind-mount", "secret", "write"), needsRoot: true },
  { ...plain("the new calls to mount", "new-mount"), needsRoot: true },
  { ...onFiles("a detached copy of a mount", "open-tree", "secret"), needsRoot: true },
  { ...onFiles("another root", "chroot", "write"), needsRoot: true },
  { ...plain("BPF", "bpf"), needsRoot: true, lacking: ["ENOSYS"] },
  { ...plain("io_uring", "io-uring"), lacking: ["ENOSYS", "EPERM"] },
  { ...plain("performance events", "perf-event"), lacking: ["ENOSYS", "EACCES", "EPERM", "ENOENT"] },
  { ...plain("keyrings", "join-keyring"), lacking: ["ENOSYS"] },
  { ...plain("keys", "add-key"), lacking: ["ENOSYS"] },
  { ...plain("faults handled in user space", "userfaultfd"), lacking: ["ENOSYS", "EPERM"] },
  { ...plain("memory that nobody else can read", "secret-memory"), lacking: ["ENOSYS"] },
  ...(arch === "x86_64" ? [{ ...plain("descriptor tables", "local-descriptors"), lacking: ["ENOSYS"] }] : []),
  plain("addresses that are no longer random", "fixed-addresses"),
  { ...plain("the kernel's log", "kernel-log"), needsRoot: true },
  { ...plain("the clock", "set-clock"), needsRoot: true },
  { ...plain("System V message queues", "message-queue"), lacking: ["ENOSYS"] },
  { ...plain("System V shared memory", "shared-segment"), lacking: ["ENOSYS"] },
  { ...plain("typing into a terminal", "tiocsti"), needsRoot: true },
  { ...plain("typing into a terminal by the bits above the request", "tiocsti-high-bits"), needsRoot: true },
  plain("another line discipline", "line-discipline"),
];

const RIGHTS: readonly Attack[] = [
  { ...plain("a listener of its own", "own-listener"), lacking: ["ENOSYS"] },
  { ...plain("a capability", "have-capability"), needsRoot: true },
  { ...plain("another user", "other-user"), needsRoot: true },
  { ...plain("a higher limit of open files", "raise-file-limit"), needsRoot: true, lacking: ["EPERM"] },
  { ...plain("pipes that hold more than the usual", "large-pipe") },
];

export const CLASSES: readonly AttackClass[] = [
  // First: without a sandbox, others move the files that these tell apart.
  { name: "races", attacks: RACES },
  { name: "files", attacks: FILES },
  { name: "metadata of files", attacks: METADATA },
  { name: "the network", attacks: NETWORK },
  { name: "other processes", attacks: PROCESSES },
  { name: "the kernel", attacks: KERNEL },
  { name: "rights and resources", attacks: RIGHTS },
  // Last: without a sandbox, what others aim at is then elsewhere.
  {
    name: "the directory itself",
    attacks: [
      onFiles("exchanging it with another", "exchange", "secret", "read"),
      onFiles("exchanging it back", "exchange", "read", "secret"),
      onFiles("moving it", "rename", "secret", "write/secret"),
    ],
  },
];
