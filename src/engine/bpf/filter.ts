/**
 * The filter of one policy: the table's treatment of every call, narrowed by what the policy grants and by what the
 * engine is to be asked about.
 */
import { constants } from "node:os";
import { type Arch, AUDIT_ARCH, type SyscallRow, syscallRows, syscallSiblings } from "../syscalls/table.js";
import { assemble } from "./assemble.js";
import { type RegisterPolicy, registerTree, whenOpens, whenOpenWrites } from "./registers.js";
import { ACTION, ALLOW, canReturn, NOTIFY, refuse, replaceAllow, type Tree } from "./tree.js";

export interface FilterPolicy extends Omit<RegisterPolicy, "openat2"> {
  readonly arch: Arch;
  /** All calls that open, make, move or remove files are notified: what the kernel refuses may be granted. */
  readonly paths: boolean;
  /** Opens of files that are notified. openat2, whose flags are in memory, then answers ENOSYS. */
  readonly holdOpen: "none" | "writes" | "all";
  /** Calls of which every allowed form is notified; siblings included by the caller. */
  readonly notified: ReadonlySet<string>;
}

export interface Filter {
  /** Array of struct sock_filter. */
  readonly program: Buffer;
  /** Calls that can be notified, in order of their numbers. */
  readonly notified: readonly string[];
}

/** A call that the filter notifies only so that a restore can inject it; to all others the engine answers `errno`. */
export interface InjectableCall {
  readonly syscall: string;
  readonly errno: number;
}

const { EPERM, ENOSYS } = constants.errno;

/** In checkpointable sandboxes. Of prctl, only the options that would be refused are notified. */
export const INJECTABLE: readonly InjectableCall[] = [
  { syscall: "clone3", errno: ENOSYS },
  { syscall: "prctl", errno: EPERM },
  { syscall: "userfaultfd", errno: EPERM },
];

export function buildFilter(policy: FilterPolicy): Filter {
  const cases = new Map<number, Tree>();
  const notified: string[] = [];
  for (const row of syscallRows(policy.arch)) {
    const tree = treeOf(row, policy);
    cases.set(row.number, tree);
    if (canReturn(tree, ACTION.notify)) notified.push(row.name);
  }
  const program = assemble({
    auditArch: AUDIT_ARCH[policy.arch],
    x32: policy.arch === "x86_64",
    cases,
    otherwise: refuse(ENOSYS),
  });
  return { program, notified };
}

function treeOf(row: SyscallRow, policy: FilterPolicy): Tree {
  const tree = baseTree(row, policy);
  const open = openTree(row.name, policy);
  if (open !== undefined) return open;
  const isNotified = policy.notified.has(row.name) || (policy.paths && PATH_CALLS.includes(row.name));
  return isNotified ? replaceAllow(tree, NOTIFY) : tree;
}

function baseTree({ name, treatment }: SyscallRow, policy: FilterPolicy): Tree {
  switch (treatment.kind) {
    case "allow":
      return ALLOW;
    case "errno":
      return policy.checkpointable && INJECTABLE.some(({ syscall }) => syscall === name)
        ? NOTIFY
        : refuse(treatment.errno);
    case "registers":
      return registerTree(treatment.rule, { ...policy, openat2: heldOpens(policy) === "none" });
  }
}

function heldOpens({ holdOpen, paths }: FilterPolicy): FilterPolicy["holdOpen"] {
  return paths ? "all" : holdOpen;
}

/** Calls that make, move, remove or cut files by their paths; opens have rules of their own. */
export const PATH_CALLS: readonly string[] = ["mkdir", "mknod", "rename", "link", "symlink", "unlink"]
  .flatMap(syscallSiblings)
  .concat("truncate");

/** Undefined for calls other than opens, and where opens are not notified. */
function openTree(name: string, policy: FilterPolicy): Tree | undefined {
  const holdOpen = heldOpens(policy);
  if (holdOpen === "none") return undefined;
  const opens = holdOpen === "all" ? whenOpens : whenOpenWrites;
  switch (name) {
    case "open":
      return opens(1, NOTIFY, ALLOW);
    case "openat":
      return opens(2, NOTIFY, ALLOW);
    case "creat":
      return NOTIFY;
    default:
      return undefined;
  }
}

/**
 * Calls that a policy may name to be held in addition to opens, connect and execve: their arguments are registers, so
 * that nothing can change under a decision.
 */
const REGISTER_ONLY: readonly string[] = [
  "clone",
  "fork",
  "kill",
  "mprotect",
  "pidfd_open",
  "pidfd_send_signal",
  "pkey_mprotect",
  "rt_sigqueueinfo",
  "rt_tgsigqueueinfo",
  "setgid",
  "setpriority",
  "setuid",
  "socket",
  "socketpair",
  "tgkill",
  "tkill",
  "vfork",
];

export const OPEN_CALLS: readonly string[] = syscallSiblings("open");
export const EXEC_CALLS: readonly string[] = syscallSiblings("execve");
export const CONNECT_CALLS: readonly string[] = syscallSiblings("connect");
/** They are notified where they can name where a message goes. */
export const SEND_CALLS: readonly string[] = syscallSiblings("sendto");

/** Every call that a trigger or a rule may name. */
export const HOLDABLE: readonly string[] = [
  ...OPEN_CALLS,
  ...EXEC_CALLS,
  ...CONNECT_CALLS,
  ...SEND_CALLS,
  ...REGISTER_ONLY,
  "clone3",
].sort();
