/**
 * The sandbox's own view of the file system: the mounts that a spec needs, as steps for the warden's child
 * (native/abi.h, enum sg_mount_op), and what keeps metadata calls to the writable trees.
 */
import { MOUNT, MOUNT_FLAG, MOUNT_OP, PLAN_FLAG } from "../../native/abi.js";
import type { HostFeatures } from "../host.js";
import type { SandboxSpec } from "../model.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import { isBeneath } from "../policy/trees.js";
import { NOTHING } from "./encode.js";

/**
 * What the calls that change modes, owners, times and attributes of files may reach: `none`, refused by the filter;
 * `mounts`, only what is mounted writable, at native speed; `everywhere`, since everything is writable; `mediated`,
 * what no mount keeps them from.
 */
export type MetadataPlan = "none" | "mounts" | "everywhere" | "mediated";

/** What other parts of the plan want shown otherwise than the host has it. */
export interface ViewNeeds {
  /** Files shown over what is at their paths. */
  readonly files: readonly ShownFile[];
  /** Paths that are shown empty and without any permission. */
  readonly hidden: readonly string[];
  /** What is not to be changed although it lies in a writable tree. */
  readonly unchanged: readonly Uint8Array[];
}

export interface ShownFile {
  readonly path: string;
  readonly content: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
}

export interface ViewPlan {
  /** PLAN_FLAGs. */
  readonly flags: number;
  readonly mounts: Buffer;
  readonly metadata: MetadataPlan;
}

/** Each is a mount of its own. */
const MAX_UNCHANGED = 256;

/** How a sandbox of this spec gets a mount namespace: undefined where it cannot, or must not, have one. */
export function mountNamespaceOf({ protections }: SandboxSpec, host: HostFeatures): "own" | "user" | undefined {
  const off = (name: string) => protections.disabled.includes(name);
  if (off("mount_namespace")) return undefined;
  if (host.mountNamespaces) return "own";
  return host.userMountNamespaces && !off("user_namespace") ? "user" : undefined;
}

/** Throws `SandboxError` (PROTECTION_UNAVAILABLE) where the needs cannot be met. */
export function planView(spec: SandboxSpec, needs: ViewNeeds, host: HostFeatures, ledger: ProtectionLedger): ViewPlan {
  const kind = mountNamespaceOf(spec, host);
  const metadata = planMetadata(spec, needs, kind !== undefined);
  const isNeeded = needs.files.length > 0 || needs.hidden.length > 0;
  if (!isNeeded && metadata !== "mounts") {
    if (metadata === "mediated" && kind === undefined) ledger.excuse("mount_namespace");
    return { flags: 0, mounts: NOTHING, metadata };
  }
  if (!ledger.need("mount_namespace") || (kind === "user" && !ledger.need("user_namespace"))) {
    return { flags: 0, mounts: NOTHING, metadata };
  }
  const steps: MountStep[] = [
    ...needs.files.map((file) => ({ op: MOUNT_OP.file, ...file, flags: MOUNT_FLAG.readOnly })),
    ...needs.hidden.map((path) => ({ op: MOUNT_OP.hide, path })),
    ...(metadata === "mounts" ? readOnlySteps(spec.filesystem.writable, needs.unchanged) : []),
  ];
  return {
    flags:
      PLAN_FLAG.newMountNamespace |
      (kind === "user" ? PLAN_FLAG.newUserNamespace : 0) |
      (needs.files.length === 0 ? PLAN_FLAG.samePaths : 0),
    mounts: encodeMounts(steps),
    metadata,
  };
}

function planMetadata({ filesystem }: SandboxSpec, { unchanged }: ViewNeeds, canMount: boolean): MetadataPlan {
  const { writable, grantableWritable } = filesystem;
  if (writable.length === 0) return "none";
  if (writable.includes("/") && unchanged.length === 0) return "everywhere";
  if (writable.includes("/") || unchanged.length > MAX_UNCHANGED) return "mediated";
  // What a verdict may open for writing must be mounted so, and then the program's own calls reach it too.
  return canMount && grantableWritable.length === 0 ? "mounts" : "mediated";
}

/** Everything is made read-only but the writable trees, each with all below it. */
function readOnlySteps(writable: readonly string[], unchanged: readonly Uint8Array[]): MountStep[] {
  const outermost = writable.filter(
    (path, index) =>
      writable.indexOf(path) === index &&
      !writable.some((other) => other !== path && isBeneath(Buffer.from(path), [other])),
  );
  return [
    ...unchanged.map((path) => ({ op: MOUNT_OP.bind, path, source: path, flags: MOUNT_FLAG.readOnly })),
    ...outermost.map((path) => ({ op: MOUNT_OP.writable, path })),
    { op: MOUNT_OP.readOnly },
  ];
}

interface MountStep {
  readonly op: number;
  readonly flags?: number;
  readonly mode?: number;
  readonly path?: string | Uint8Array;
  readonly source?: string | Uint8Array;
  /** A file's content, or a file system's options. */
  readonly content?: Uint8Array;
}

function encodeMounts(steps: readonly MountStep[]): Buffer {
  return Buffer.concat(
    steps.map(({ op, flags = 0, mode = 0, path = "", source = "", content = NOTHING }) => {
      const head = Buffer.alloc(MOUNT.bytes);
      head.writeUInt32LE(op, MOUNT.at.op);
      head.writeUInt32LE(flags, MOUNT.at.flags);
      head.writeUInt32LE(mode, MOUNT.at.mode);
      const parts = [path, source, content].map((part) => Buffer.from(part as string));
      [MOUNT.at.path, MOUNT.at.source, MOUNT.at.data].forEach((at, index) => {
        head.writeUInt32LE(parts[index]?.length ?? 0, at);
      });
      const [pathBytes = NOTHING, sourceBytes = NOTHING, data = NOTHING] = parts;
      return Buffer.concat([head, padded(pathBytes, 1), padded(sourceBytes, 1), padded(data, 0)]);
    }),
  );
}

/** With as many zeros at least, up to a multiple of 8 bytes. */
function padded(bytes: Buffer, zeros: number): Buffer {
  const length = bytes.length + zeros;
  return Buffer.concat([bytes, Buffer.alloc(zeros + ((8 - (length % 8)) % 8))]);
}
