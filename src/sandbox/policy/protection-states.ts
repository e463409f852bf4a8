import { SandboxError } from "../../base/errors.js";
import type { HostFeatures } from "../host.js";
import type { ProtectionPolicy, ProtectionState } from "../model.js";
import type { Protection } from "./protections.js";

/** What became of each protection that a spec needs. */
export interface ProtectionLedger {
  /**
   * Enters a protection that the spec needs, and says whether it is in force. Throws `failed_precondition` when this
   * host lacks it and the spec does not let it degrade.
   */
  need(protection: Protection): boolean;
  /** Enters one that is missing and that something else makes up for. */
  excuse(protection: Protection): void;
  readonly states: ReadonlyMap<string, ProtectionState>;
  readonly warnings: readonly SandboxError[];
}

export function createProtectionLedger(policy: ProtectionPolicy, host: HostFeatures): ProtectionLedger {
  const states = new Map<string, ProtectionState>();
  const warnings: SandboxError[] = [];
  return {
    states,
    warnings,
    excuse(protection) {
      states.set(protection, "degraded");
    },
    need(protection) {
      const known = states.get(protection);
      if (known !== undefined) return known === "active";
      const missing = missingReason(protection, host);
      if (policy.disabled.includes(protection)) {
        states.set(protection, "disabled");
      } else if (missing === undefined) {
        states.set(protection, "active");
      } else if (policy.mayDegrade.includes(protection)) {
        states.set(protection, "degraded");
        warnings.push(unavailable(protection, `${protection} is not in force: ${missing}`));
      } else {
        const remedy = "name it in spec.protections.may_degrade to go without";
        throw unavailable(protection, `${protection} is not available: ${missing}; ${remedy}`);
      }
      return states.get(protection) === "active";
    },
  };
}

function unavailable(protection: Protection, message: string): SandboxError {
  return new SandboxError("failed_precondition", message, {
    reason: "PROTECTION_UNAVAILABLE",
    field: "spec.protections.may_degrade",
    metadata: { protection },
  });
}

const NO_CHILDREN = "the kernel has no /proc/<pid>/task/<tid>/children (CONFIG_PROC_CHILDREN), or /proc is not mounted";

const LANDLOCK_SINCE: Readonly<Partial<Record<Protection, number>>> = {
  landlock_fs: 1,
  landlock_refer: 2,
  landlock_truncate: 3,
  landlock_net: 4,
  landlock_ioctl: 5,
  landlock_scope: 6,
};

/** Undefined when the host has it. */
function missingReason(protection: Protection, host: HostFeatures): string | undefined {
  const given = (available: boolean, reason: string) => (available ? undefined : reason);
  switch (protection) {
    case "landlock_fs":
    case "landlock_refer":
    case "landlock_truncate":
    case "landlock_net":
    case "landlock_ioctl":
    case "landlock_scope": {
      const since = LANDLOCK_SINCE[protection] ?? 1;
      const found = host.landlockAbi === 0 ? "no Landlock" : `Landlock ABI ${host.landlockAbi}`;
      return given(host.landlockAbi >= since, `this host has ${found}, ABI ${since} is needed`);
    }
    case "seccomp_notify":
      return given(host.listener, "this host's seccomp has no notification listener");
    case "wait_killable":
      return given(host.waitKillable, "this host's seccomp cannot keep a held call from signals; kernel 5.19 can");
    case "pid_namespace":
      return given(host.pidNamespaces || host.userNamespaces, "this host lets no PID namespace be made");
    case "user_namespace":
      return given(host.userNamespaces, "this host lets no user namespace be made");
    case "mount_namespace":
      return given(host.mountNamespaces || host.userMountNamespaces, "this host lets no mounts be made in a namespace");
    case "bounding_set":
      return given(host.canDropBounding, "the service has no CAP_SETPCAP");
    case "pidfd_getfd":
      return given(host.pidfdGetfd, "this host refuses pidfd_getfd");
    case "exec_verify":
      if (!host.trace) return "this host lets no process be traced with ptrace";
      return given(host.waitKillable, "this host's seccomp cannot keep a held call from signals; kernel 5.19 can");
    case "memory_limit":
      return given(host.listsChildren, NO_CHILDREN);
    case "process_limit":
      return given(host.listsChildren, NO_CHILDREN);
    case "cpu_limit":
      return given(
        host.listsChildren && host.landlockAbi >= 6,
        host.listsChildren ? "stopping all of a sandbox needs Landlock ABI 6" : NO_CHILDREN,
      );
  }
}
