/**
 * The sandbox's own view of the file system: the mounts that a spec needs, as steps for the warden's child
 * (native/abi.h, enum sg_mount_op), and what keeps metadata calls to the writable trees.
 */
import { IDENTITY, MAX_MOUNTS, MOUNT, MOUNT_FLAG, MOUNT_OP, PLAN_FLAG } from "../../native/abi.js";
import type { HostFeatures } from "../host.js";
import type { FilesystemPolicy, SandboxSpec } from "../model.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import { isBeneath } from "../policy/trees.js";
import { hasOwnProc, hasOwnView, outermostFirst, PRIVATE_TMP, PROC, ROOT_DEVICES } from "../policy/view.js";
import { type FileIdentity, NOTHING } from "./encode.js";
import { cannotEnforce } from "./refusals.js";

/**
 * What the calls that change modes, owners, times and attributes of files may reach: `none`, refused by the filter;
 * `mounts`, only what is mounted writable, at native speed; `everywhere`, since everything is writable; `mediated`,
 * what no mount keeps them from.
 */
export type MetadataPlan = "none" | "mounts" | "everywhere" | "mediated";

/** What other parts of the plan want shown otherwise than the host has it. */
export interface ViewNeeds {
  /** Files shown over what is at their paths; left out where the spec lets mount_namespace degrade. */
  readonly files: readonly ShownFile[];
  /** Shown empty and without any permission. */
  readonly hidden: readonly KnownPlace[];
}

/** A path, and what is there: a launch that finds something else fails. */
export interface KnownPlace {
  readonly path: string | Uint8Array;
  readonly identity: FileIdentity;
}

export interface ShownFile {
  readonly path: string;
  readonly content: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
  /** Its content can be replaced while the sandbox runs: `EngineClient.showFile`. At most MAX_OPEN_FILES. */
  readonly changes: boolean;
}

export interface MountPlan {
  /** PLAN_FLAGs. */
  readonly flags: number;
  readonly mounts: Buffer;
  readonly metadata: MetadataPlan;
}

/** Each is a mount of its own. */
const MAX_WRITABLE = 512;

/** How a sandbox of this spec gets a mount namespace: undefined where it cannot, or must not, have one. */
export function mountNamespaceOf({ protections }: SandboxSpec, host: HostFeatures): "own" | "user" | undefined {
  const off = (name: string) => protections.disabled.includes(name);
  if (off("mount_namespace")) return undefined;
  if (host.mountNamespaces) return "own";
  return host.userMountNamespaces && !off("user_namespace") ? "user" : undefined;
}

/** What hides the host-wide parts of /proc; looked for once. */
export type ProcSecrets = () => readonly string[];

/** Throws `SandboxError` (PROTECTION_UNAVAILABLE) where the spec or the needs cannot be met. */
export function planMounts(
  spec: SandboxSpec,
  needs: ViewNeeds,
  host: HostFeatures,
  ledger: ProtectionLedger,
  procSecrets: ProcSecrets,
): MountPlan {
  const { filesystem } = spec;
  const kind = mountNamespaceOf(spec, host);
  const metadata = planMetadata(filesystem, kind !== undefined);
  const required = requiredBy(filesystem, needs);
  const mustMount = required !== undefined || metadata === "mounts";
  if (!mustMount && needs.files.length === 0) {
    if (metadata === "mediated" && kind === undefined) ledger.excuse("mount_namespace");
    return { flags: 0, mounts: NOTHING, metadata };
  }
  const isThere = ledger.need("mount_namespace") && (kind !== "user" || ledger.need("user_namespace"));
  if (!isThere && !mustMount) return { flags: 0, mounts: NOTHING, metadata };
  if (!isThere) throw cannotEnforce(required ?? "spec.filesystem", "without mount_namespace, this");
  const steps: MountStep[] = [
    ...viewSteps(filesystem, procSecrets),
    ...needs.files.map(({ path, content, mode, changes }) => ({
      op: MOUNT_OP.file,
      path,
      content,
      mode,
      flags: MOUNT_FLAG.readOnly | MOUNT_FLAG.make | (changes ? MOUNT_FLAG.open : 0),
    })),
    ...needs.hidden.map(({ path, identity }) => ({ op: MOUNT_OP.hide, path, content: encodeIdentity(identity) })),
    ...(metadata === "mounts" ? readOnlySteps(filesystem) : []),
  ];
  if (steps.length > MAX_MOUNTS) {
    throw cannotEnforce(required ?? "spec.filesystem", `with ${steps.length} mounts, ${MAX_MOUNTS} are the most, this`);
  }
  return {
    flags:
      PLAN_FLAG.newMountNamespace |
      (kind === "user" ? PLAN_FLAG.newUserNamespace : 0) |
      (needs.files.length === 0 && !hasOwnView(filesystem) ? PLAN_FLAG.samePaths : 0),
    mounts: encodeMounts(steps),
    metadata,
  };
}

/** The field that cannot do without mounts. */
function requiredBy(filesystem: FilesystemPolicy, { hidden }: ViewNeeds): string | undefined {
  if (filesystem.root !== "") return "spec.filesystem.root";
  if (filesystem.mappings.length > 0) return "spec.filesystem.mappings";
  if (filesystem.privateTmp !== undefined) return "spec.filesystem.private_tmp";
  if (filesystem.privateProc) return "spec.filesystem.private_proc";
  return hidden.length > 0 ? "spec.filesystem" : undefined;
}

/** What the program may write without a verdict. */
export function writableTrees({ writable, mappings, privateTmp }: FilesystemPolicy): readonly string[] {
  return [
    ...writable,
    ...mappings.filter(({ readOnly }) => !readOnly).map(({ inside }) => inside),
    ...(privateTmp === undefined ? [] : [PRIVATE_TMP]),
  ];
}

function planMetadata(filesystem: FilesystemPolicy, canMount: boolean): MetadataPlan {
  const writable = writableTrees(filesystem);
  if (writable.length === 0) return "none";
  if (writable.includes("/")) return "everywhere";
  if (writable.length > MAX_WRITABLE) return "mediated";
  // What a verdict may open for writing must be mounted so, and then the program's own calls reach it too.
  return canMount && filesystem.grantableWritable.length === 0 ? "mounts" : "mediated";
}

/** Everything is made read-only but the writable trees, each with all below it. */
function readOnlySteps(filesystem: FilesystemPolicy): MountStep[] {
  const writable = [...new Set(writableTrees(filesystem))];
  const outermost = writable.filter(
    (path) => !writable.some((other) => other !== path && isBeneath(Buffer.from(path), [other])),
  );
  return [...outermost.map((path) => ({ op: MOUNT_OP.writable, path })), { op: MOUNT_OP.readOnly }];
}

const DEFAULT_TMP_BYTES = 64n << 20n;
/** So that files without content are bounded too. */
const BYTES_PER_INODE = 4096n;

function viewSteps(filesystem: FilesystemPolicy, secrets: ProcSecrets): MountStep[] {
  const { root, baseline, mappings, privateTmp } = filesystem;
  const steps: MountStep[] = [];
  const made = MOUNT_FLAG.make;
  if (root !== "") {
    steps.push({ op: MOUNT_OP.root, source: root });
    if (baseline === "sane") {
      // They can be written all the same: it is the file, not the device, that a read-only mount keeps as it is.
      const device = made | MOUNT_FLAG.optional | MOUNT_FLAG.readOnly;
      steps.push(
        ...ROOT_DEVICES.map((path) => ({ op: MOUNT_OP.bind, path, source: path, flags: device })),
        ...DEVICE_LINKS.map(([path, source]) => ({ op: MOUNT_OP.link, path, source })),
      );
    }
  }
  if (hasOwnProc(filesystem)) {
    steps.push(
      { op: MOUNT_OP.proc, path: PROC, flags: made | MOUNT_FLAG.readOnly },
      ...secrets().map((path) => ({ op: MOUNT_OP.hide, path, flags: MOUNT_FLAG.optional })),
    );
  }
  if (privateTmp !== undefined) {
    const size = privateTmp.sizeBytes === 0n ? DEFAULT_TMP_BYTES : privateTmp.sizeBytes;
    const inodes = size / BYTES_PER_INODE + 16n;
    const content = Buffer.from(`mode=1777,size=${size},nr_inodes=${inodes}`);
    steps.push({ op: MOUNT_OP.tmpfs, path: PRIVATE_TMP, flags: made, content });
  }
  for (const { inside, host, readOnly } of outermostFirst(mappings)) {
    steps.push({
      op: MOUNT_OP.bind,
      path: inside,
      source: host,
      flags: made | (readOnly ? MOUNT_FLAG.readOnly : 0),
    });
  }
  return steps;
}

const DEVICE_LINKS: readonly (readonly [path: string, target: string])[] = [
  ["/dev/fd", "/proc/self/fd"],
  ["/dev/stdin", "/proc/self/fd/0"],
  ["/dev/stdout", "/proc/self/fd/1"],
  ["/dev/stderr", "/proc/self/fd/2"],
];

interface MountStep {
  readonly op: number;
  readonly flags?: number;
  readonly mode?: number;
  readonly path?: string | Uint8Array;
  readonly source?: string | Uint8Array;
  /** A file's content, a file system's options, or an identity. */
  readonly content?: Uint8Array;
}

function encodeIdentity({ inode, deviceMajor, deviceMinor }: FileIdentity): Buffer {
  const bytes = Buffer.alloc(IDENTITY.bytes);
  bytes.writeBigUInt64LE(inode, IDENTITY.at.inode);
  bytes.writeUInt32LE(deviceMajor, IDENTITY.at.device_major);
  bytes.writeUInt32LE(deviceMinor, IDENTITY.at.device_minor);
  return bytes;
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
