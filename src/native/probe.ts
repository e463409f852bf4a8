import { check, type Library } from "./library.js";

/** What this host offers, asked of the kernel without changing this process. */
export interface Probe {
  /** Landlock's ABI version; 0 when it is not there. */
  landlockAbi(): number;
  /** Whether seccomp(2) knows all these filter flags. */
  knowsFilterFlags(flags: number): boolean;
  /** 0, or the positive errno with which a child in these new namespaces (CLONE_NEW*) is refused. */
  namespaces(flags: number): number;
  /** Whether this process has the capability, by number. */
  hasCapability(capability: number): boolean;
  /** 0, or the positive errno with which pidfd_getfd(2) is refused. */
  pidfdGetfd(): number;
  /** 0, or the positive errno with which process_vm_readv(2) is refused. */
  readMemory(): number;
}

export function createProbe(library: Library): Probe {
  return {
    landlockAbi: () => Math.max(0, library.probeLandlock()),
    knowsFilterFlags: (flags) => library.probeFilterFlags(flags) === 1,
    namespaces: (flags) => -Math.min(0, library.probeNamespaces(flags)),
    hasCapability: (capability) => check("capget", library.probeCapability(capability)) === 1,
    pidfdGetfd: () => -Math.min(0, library.probePidfdGetfd()),
    readMemory: () => -Math.min(0, library.probeReadMemory()),
  };
}
