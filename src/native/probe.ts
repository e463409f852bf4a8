import { existsSync, readFileSync } from "node:fs";
import type { Library } from "./library.js";

/** What this host offers, asked of the kernel without changing this process. Negative results are -errno. */
export interface Probe {
  /** Landlock's ABI version. */
  landlockAbi(): number;
  /** 1 when seccomp(2) knows all these filter flags, 0 when not. */
  filterFlags(flags: number): number;
  /** 0 when a child can be born in new namespaces of these CLONE_NEW* flags. */
  namespaces(flags: number): number;
  /** 0 when a child that is born in new namespaces of these CLONE_NEW* flags may change its mounts. */
  mounts(flags: number): number;
  /** 1 when this process has the capability, by number. */
  capability(number: number): number;
  /** 0 when pidfd_getfd(2) is permitted. */
  pidfdGetfd(): number;
  /** 0 when process_vm_readv(2) is permitted. */
  readMemory(): number;
  /** 0 when ptrace(2) lets a descendant be traced. */
  trace(): number;
  /** Hard RLIMIT_NOFILE of this process. */
  maxOpenFiles(): number;
  /** /proc tells the children of a task (CONFIG_PROC_CHILDREN). */
  listsChildren(): boolean;
}

export function createProbe(library: Library): Probe {
  return {
    landlockAbi: () => library.probeLandlock(),
    filterFlags: (flags) => library.probeFilterFlags(flags),
    namespaces: (flags) => library.probeNamespaces(flags),
    mounts: (flags) => library.probeMounts(flags),
    capability: (number) => library.probeCapability(number),
    pidfdGetfd: () => library.probePidfdGetfd(),
    readMemory: () => library.probeReadMemory(),
    listsChildren: () => existsSync(`/proc/self/task/${process.pid}/children`),
    trace: () => library.probeTrace(),
    maxOpenFiles() {
      // proc(5): "Max open files   soft   hard   files"
      const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
      return hard === undefined || hard === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(hard);
    },
  };
}
