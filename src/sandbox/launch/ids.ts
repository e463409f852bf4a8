/** Whose processes those of the sandbox are. */
import { PLAN_FLAG } from "../../native/abi.js";
import type { HostFeatures } from "../host.js";
import type { SandboxSpec } from "../model.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import { cannotEnforce } from "./refusals.js";

export interface IdsPlan {
  /** PLAN_FLAGs. */
  readonly flags: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * A service that may change its ids does; another shows its own ids as these, in a user namespace. Throws
 * `SandboxError` (PROTECTION_UNAVAILABLE) where neither is possible.
 */
export function planIds(
  { runAs }: SandboxSpec,
  host: HostFeatures,
  ledger: ProtectionLedger,
  namespaceFlags: number,
): IdsPlan {
  if (runAs === undefined) return { flags: 0, uid: 0, gid: 0 };
  const ids = { uid: runAs.uid, gid: runAs.gid };
  if (host.canSetIds) {
    // In a user namespace it would be the service's user that is shown as another.
    if ((namespaceFlags & PLAN_FLAG.newUserNamespace) !== 0) {
      throw cannotEnforce(
        "spec.run_as",
        "together with namespaces that this host only gives in a user namespace, this",
      );
    }
    return { flags: PLAN_FLAG.setIds, ...ids };
  }
  if (runAs.uid === host.uid && runAs.gid === host.gid) return { flags: 0, uid: 0, gid: 0 };
  if (!ledger.need("user_namespace")) throw cannotEnforce("spec.run_as", "without user_namespace, another user");
  return { flags: PLAN_FLAG.setIds | PLAN_FLAG.newUserNamespace, ...ids };
}
