/**
 * The launch plan: which mechanism enforces each part of a spec, as data for the warden, the filter, and the engine.
 * Pure but for looking up the program that is started.
 */
import type { SandboxError } from "../../base/errors.js";
import { PLAN_FLAG } from "../../native/abi.js";
import type { HostFeatures } from "../host.js";
import type { PlanSummary, ProcessSpec, ProtectionState, SandboxSpec } from "../model.js";
import type { EnginePolicy } from "../policy/engine-policy.js";
import { type Mediation, mediationOf, refuseRacyExecs } from "../policy/mediation.js";
import { createProtectionLedger, type ProtectionLedger } from "../policy/protection-states.js";
import { validateProcess, validateSpec } from "../policy/validate.js";
import { hasOwnProc, viewOf } from "../policy/view.js";
import { planDenied } from "./denied.js";
import { encodeLimits, encodeParts, NOTHING, type PlanParts } from "./encode.js";
import { enginePolicyOf } from "./engine.js";
import { createFilterCache, filterPolicyOf, planFilterFlags } from "./filter.js";
import { planIds } from "./ids.js";
import { createBaseline, encodeLayers, planHandled, planTrees } from "./layers.js";
import { NOTHING_WATCHED, planLimits, resourceLimits } from "./limits.js";
import { mountNamespaceOf, planMounts, type ShownFile } from "./mounts.js";
import { planNetwork, refuseUnjudgedConnects, withoutOwnPorts } from "./network.js";
import { hiddenOfProc } from "./proc.js";
import { processParts } from "./process.js";
import { cannotEnforce } from "./refusals.js";
import { mechanismsOf } from "./summary.js";

export { planHeader } from "./encode.js";

const HOSTS = "/etc/hosts";

export interface LaunchOptions {
  /** Keep a process inside that starts more of them. */
  readonly nursery: boolean;
  /** Shown over what the sandbox has at their paths, where it may have mounts of its own. */
  readonly files?: readonly ShownFile[];
  /** What its /etc/hosts says, where its rules have names; behind the files above. */
  readonly hosts?: Uint8Array;
}

export interface CompiledLaunch {
  readonly plan: PlanParts;
  /** Stages are empty: they are known once it ran. */
  readonly summary: PlanSummary;
  readonly protections: ReadonlyMap<string, ProtectionState>;
  /** What was accepted but is worth knowing. */
  readonly warnings: readonly SandboxError[];
  readonly engine: EnginePolicy;
}

export interface PlanCompiler {
  /** Throws `SandboxError`: INVALID_FIELD, POLICY_CONTRADICTION or PROTECTION_UNAVAILABLE, naming the field. */
  compileLaunch(spec: SandboxSpec, process: ProcessSpec, options: LaunchOptions): CompiledLaunch;
  /** Bytes of `struct sg_plan` for LAUNCH. Ids are never used twice. */
  encodePlan(compiled: CompiledLaunch, launchId: bigint, sandboxLaunchId: bigint): Buffer;
  /** Bytes of `struct sg_plan` for EXEC. Throws INVALID_FIELD. */
  encodeExec(process: ProcessSpec, launchId: bigint, sandboxLaunchId: bigint): Buffer;
}

/** What the service itself listens on, which no sandbox reaches. */
export interface OwnEndpoints {
  /** TCP. */
  ports(): readonly number[];
  /** Paths of Unix sockets. */
  sockets(): readonly string[];
}

const NO_ENDPOINTS: OwnEndpoints = { ports: () => [], sockets: () => [] };

/** One per service: it keeps what launches share. */
export function createPlanCompiler(host: HostFeatures, own: OwnEndpoints = NO_ENDPOINTS): PlanCompiler {
  const baseline = createBaseline();
  const filters = createFilterCache();
  let secrets: readonly string[] | undefined;
  const procSecrets = () => (secrets ??= hiddenOfProc());

  return {
    compileLaunch(asked, process, options) {
      validateProcess(process);
      const spec = withoutOwnPorts(asked, own.ports());
      const mediation = mediationOf(spec);
      validateSpec(asked, mediation);
      const ledger = createProtectionLedger(spec.protections, host);
      const network = planNetwork(spec, mediation, ledger);
      const handled = planHandled(network, host, ledger);
      const view = viewOf(spec.filesystem);
      const trees = planTrees(spec, process, view, network.showsNames ? [HOSTS] : []);
      const filterFlags = planFilterFlags(mediation, network, ledger);
      const denied = planDenied(spec, ledger, view, {
        mounts: mountNamespaceOf(spec, host) !== undefined,
        engine: filterFlags !== 0,
      });
      const namespaces = planNamespaces(spec, host, ledger);
      const mounts = planMounts(
        spec,
        {
          files: [...(options.files ?? []), ...(network.showsNames ? [hostsFile(options.hosts ?? NOTHING)] : [])],
          hidden: denied?.hidden ?? [],
        },
        host,
        ledger,
        procSecrets,
      );
      const limits = planLimits(spec, host, ledger, options.nursery);
      const ids = planIds(spec, host, ledger, namespaces | mounts.flags | limits.flags);
      const takesSockets = network.mediateConnect || network.mediateBind;
      if (takesSockets && !ledger.need("pidfd_getfd")) refuseUnjudgedConnects();
      const verifyExec = planExec(mediation, ledger);
      const hasBounding = planBounding(spec, host, ledger);
      const filterPolicy = filterPolicyOf(
        spec,
        mediation,
        network,
        mounts.metadata,
        host,
        filterFlags,
        handled,
        limits,
        denied,
      );
      const filter = filters.get(filterPolicy);
      const layers = encodeLayers(spec, baseline, trees, handled, network, denied);
      return {
        plan: {
          ...processParts(process),
          flags:
            namespaces |
            mounts.flags |
            ids.flags |
            limits.flags |
            (process.terminal === undefined ? 0 : PLAN_FLAG.terminal) |
            (options.nursery ? PLAN_FLAG.nursery : 0) |
            (handled.fs === 0 && handled.net === 0 && handled.scoped === 0 ? PLAN_FLAG.noLandlock : 0) |
            (hasBounding ? 0 : PLAN_FLAG.noBounding),
          uid: ids.uid,
          gid: ids.gid,
          filterFlags,
          watched: limits.watched,
          rlimits: encodeLimits(resourceLimits(spec, host, limits)),
          outer: layers.outer,
          inner: layers.inner,
          filter: filter.program,
          denied: denied?.encode() ?? NOTHING,
          mounts: mounts.mounts,
          whole: layers.whole,
        },
        summary: {
          notifiedSyscalls: filter.notified,
          mechanisms: mechanismsOf(spec, mediation, network, filterPolicy, mounts.metadata, limits, denied, verifyExec),
          stages: [],
        },
        protections: ledger.states,
        warnings: [...ledger.warnings, ...network.warnings],
        engine: enginePolicyOf(
          spec,
          mediation,
          network,
          trees,
          baseline,
          host,
          view,
          handled,
          own.sockets(),
          denied,
          filterFlags !== 0,
          verifyExec,
        ),
      };
    },
    encodePlan: (compiled, launchId, sandboxLaunchId) =>
      encodeParts("launch", compiled.plan, launchId, sandboxLaunchId),
    encodeExec(process, launchId, sandboxLaunchId) {
      validateProcess(process);
      const parts: PlanParts = {
        ...processParts(process),
        flags: process.terminal === undefined ? 0 : PLAN_FLAG.terminal,
        uid: 0,
        gid: 0,
        filterFlags: 0,
        watched: NOTHING_WATCHED,
        rlimits: NOTHING,
        outer: NOTHING,
        inner: NOTHING,
        filter: NOTHING,
        denied: NOTHING,
        mounts: NOTHING,
        whole: NOTHING,
      };
      return encodeParts("exec", parts, launchId, sandboxLaunchId);
    },
  };
}

/** Whether what an execve starts is compared with what was judged, where anything is judged at all. */
function planExec(mediation: Mediation, ledger: ProtectionLedger): boolean {
  if (!mediation.holdExec) return false;
  if (ledger.need("exec_verify")) {
    if (!ledger.need("wait_killable")) throw cannotEnforce("spec.protections", "without wait_killable, exec_verify");
    return true;
  }
  refuseRacyExecs(mediation.triggers);
  return false;
}

function hostsFile(content: Uint8Array): ShownFile {
  return { path: HOSTS, content, mode: 0o644, changes: true };
}

function planNamespaces(spec: SandboxSpec, host: HostFeatures, ledger: ProtectionLedger): number {
  const ownProc = hasOwnProc(spec.filesystem);
  if (!spec.checkpointable && !ownProc) return 0;
  if (!ledger.need("pid_namespace")) {
    const field = spec.filesystem.privateProc ? "spec.filesystem.private_proc" : "spec.filesystem.root";
    if (ownProc) throw cannotEnforce(field, "without pid_namespace, this");
    return 0;
  }
  if (host.pidNamespaces) return PLAN_FLAG.newPidNamespace;
  return ledger.need("user_namespace") ? PLAN_FLAG.newPidNamespace | PLAN_FLAG.newUserNamespace : 0;
}

/** Without CAP_SETPCAP the set stays; no_new_privs makes it inert, so that nothing is refused for it. */
function planBounding({ protections }: SandboxSpec, host: HostFeatures, ledger: ProtectionLedger): boolean {
  if (host.canDropBounding || protections.disabled.includes("bounding_set")) return ledger.need("bounding_set");
  ledger.excuse("bounding_set");
  return false;
}
