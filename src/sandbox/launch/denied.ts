/**
 * What is refused below what is granted. Landlock cannot subtract, so the trees that lead to a denied one are not
 * granted as such: everything beside it is, entry by entry, each by its inode.
 */
import { type BigIntStats, lstatSync, readdirSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path/posix";
import { SandboxError } from "../../base/errors.js";
import type { FilesystemPolicy, SandboxSpec } from "../model.js";
import { beneath, byteString, bytesOf, textOf } from "../policy/byte-paths.js";
import type { ProtectionLedger } from "../policy/protection-states.js";
import type { TreeRule } from "../policy/sane.js";
import { contradiction } from "../policy/validate.js";
import { placesInside, shownTrees, type View } from "../policy/view.js";
import { encodePathRule, type FileIdentity, type PathRule } from "./encode.js";
import { type MountTable, readMountTable } from "./mount-table.js";
import type { KnownPlace } from "./mounts.js";
import { cannotEnforce } from "./refusals.js";

/** Places of all denied trees, what is mounted elsewhere included. */
const MAX_PLACES = 4096;
/** Each is a mount. */
const MAX_HIDDEN = 256;
/** Entries beside denied trees and the directories that lead to them; each is a rule of the kernel. */
const MAX_ENTRIES = 10_000;
const MAX_ENTRIES_BYTES = 1024 * 1024;

/** A place of a denied tree. */
interface DeniedPlace {
  /** As a byte string, with every link followed. */
  readonly path: string;
  readonly identity: FileIdentity;
}

export interface DeniedPlan {
  readonly places: readonly DeniedPlace[];
  /**
   * What keeps a program from them: mounts over them, and then the rules can stay whole; or rules that leave them out,
   * with the engine to do what these leave out besides, or without.
   */
  readonly by: "mounts" | "engine" | "landlock";
  /** To be covered by mounts; empty otherwise. */
  readonly hidden: readonly KnownPlace[];
  /** Rules that grant what `rules` do, without what is denied. */
  carve(rules: readonly TreeRule[]): PathRule[];
  /** The same rules by the inodes of their trees, those that are denied as a whole left out. */
  exact(rules: readonly TreeRule[]): PathRule[];
  /** Whether one of them lies beneath a path, or the path in one. */
  touches(path: string): boolean;
  /** For the launch, which looks through the places for files with links elsewhere. */
  encode(): Buffer;
}

/** Undefined when nothing is denied. Throws `SandboxError` naming the entry. */
export function planDenied(
  { filesystem }: SandboxSpec,
  ledger: ProtectionLedger,
  view: View,
  has: { readonly mounts: boolean; readonly engine: boolean },
): DeniedPlan | undefined {
  if (filesystem.denied.length === 0) return undefined;
  if (!ledger.need("landlock_fs")) {
    throw new SandboxError("failed_precondition", "spec.filesystem.denied: without Landlock nothing can be denied", {
      reason: "PROTECTION_UNAVAILABLE",
      field: "spec.filesystem.denied",
      metadata: { protection: "landlock_fs" },
    });
  }
  const places = findPlaces(filesystem.denied, readMountTable(), view);
  if (!view.isOwn) refuseUseless(filesystem, places);
  const hidden = view.isOwn ? hiddenInside(filesystem, places) : hiddenOnHost(places);
  const byMounts = view.isOwn || (has.mounts && hidden.length <= MAX_HIDDEN);
  return {
    places,
    by: byMounts ? "mounts" : has.engine ? "engine" : "landlock",
    hidden: byMounts ? hidden : [],
    carve: (rules) => carve(rules, places),
    exact: (rules) => exact(rules, places),
    touches(path) {
      const real = realPath(path);
      return real !== undefined && places.some((place) => beneath(place.path, real) || beneath(real, place.path));
    },
    encode: () =>
      Buffer.concat(
        places.map(({ path, identity }) =>
          encodePathRule({ path: bytesOf(path), access: 0, optional: false, identity }),
        ),
      ),
  };
}

/** What lies in another denied place is hidden with it. */
function outermost(places: readonly DeniedPlace[]): readonly DeniedPlace[] {
  return places.filter(({ path }) => !places.some((other) => other.path !== path && beneath(path, other.path)));
}

function hiddenOnHost(places: readonly DeniedPlace[]): KnownPlace[] {
  return outermost(places).map(({ path, identity }) => ({ path: bytesOf(path), identity }));
}

/** Every place inside that shows one. */
function hiddenInside(filesystem: FilesystemPolicy, places: readonly DeniedPlace[]): KnownPlace[] {
  const trees = shownTrees(filesystem);
  return outermost(places).flatMap(({ path, identity }) => {
    const text = textOf(path);
    if (byteString(text) !== path)
      throw cannotEnforce("spec.filesystem.denied", "a path that is no text, in another view,");
    return placesInside(trees, text).map((inside) => ({ path: inside, identity }));
  });
}

function findPlaces(denied: readonly string[], mounts: MountTable, view: View): readonly DeniedPlace[] {
  const found = new Map<string, DeniedPlace>();
  denied.forEach((entry, index) => {
    const field = `spec.filesystem.denied[${index}]`;
    for (const path of mounts.placesOf(view.isOwn ? resolvedInside(entry, field, view) : resolved(entry, field))) {
      found.set(path, { path, identity: identityOf(statSync(bytesOf(path), { bigint: true })) });
    }
    if (found.size > MAX_PLACES) throw tooMany(field, `${found.size} mounts show parts of it`);
  });
  return [...found.values()];
}

function resolved(entry: string, field: string): string {
  try {
    return byteString(realpathSync.native(entry, { encoding: "buffer" }));
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    throw new SandboxError(
      "failed_precondition",
      `${field}: ${entry} cannot be denied, because it cannot be found (${code}); name a path that exists`,
      { reason: "LAUNCH_FAILED", field, metadata: { errno: code, argument: entry }, cause: error },
    );
  }
}

/** Of a view of the sandbox's own: the host's path of what is denied in it. */
function resolvedInside(entry: string, field: string, view: View): string {
  const host = view.resolve(entry)?.host;
  if (host !== undefined) return resolved(host, field);
  throw new SandboxError(
    "failed_precondition",
    `${field}: ${entry} cannot be denied, because the sandbox's view has nothing of the host there; name a path that exists`,
    { reason: "LAUNCH_FAILED", field, metadata: { errno: "ENOENT", argument: entry } },
  );
}

/** A tree that is listed and lies in a denied one would grant nothing. */
function refuseUseless(filesystem: FilesystemPolicy, places: readonly DeniedPlace[]): void {
  const lists = {
    readable: filesystem.readable,
    writable: filesystem.writable,
    grantable_readable: filesystem.grantableReadable,
    grantable_writable: filesystem.grantableWritable,
  };
  for (const [name, paths] of Object.entries(lists)) {
    paths.forEach((path, index) => {
      const real = realPath(path);
      const place = real === undefined ? undefined : places.find((denied) => beneath(real, denied.path));
      if (place === undefined) return;
      throw contradiction(
        `spec.filesystem.${name}[${index}]`,
        `${JSON.stringify(path)} is denied, as part of ${textOf(place.path)}`,
      );
    });
  }
}

function realPath(path: string): string | undefined {
  try {
    return byteString(realpathSync.native(path, { encoding: "buffer" }));
  } catch {
    return undefined;
  }
}

function carve(rules: readonly TreeRule[], places: readonly DeniedPlace[]): PathRule[] {
  const carved: PathRule[] = [];
  const denied = new Set(places.map(({ identity }) => keyOf(identity)));
  const leading = leadingTo(places);
  let bytes = 0;

  function add(path: string, access: number, optional: boolean, identity: FileIdentity): void {
    carved.push({ path: bytesOf(path), access, optional, identity });
    bytes += path.length;
    if (carved.length > MAX_ENTRIES || bytes > MAX_ENTRIES_BYTES) {
      throw tooMany("spec.filesystem.denied", "too many entries lie beside them");
    }
  }

  function addTree(path: string, access: number, optional: boolean): void {
    if (places.some((place) => beneath(path, place.path))) return;
    const status = lstatSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
    // A link gives no access: what it leads to has a rule of its own, or none.
    if (status === undefined || status.isSymbolicLink()) return;
    const identity = identityOf(status);
    const key = keyOf(identity);
    // A rule is the inode's, wherever it is seen: at another link, or where a mount shows it.
    if (denied.has(key)) return;
    if (!leading.has(key)) {
      add(path, access, optional, identity);
      return;
    }
    for (const name of entriesOf(path)) addTree(`${path === "/" ? "" : path}/${name}`, access, true);
  }

  for (const { path, access, optional } of rules) {
    const real = realPath(path);
    if (real !== undefined) addTree(real, access, optional);
    else if (!optional) carved.push({ path, access, optional }); // the launch says that it is missing
  }
  return carved;
}

function exact(rules: readonly TreeRule[], places: readonly DeniedPlace[]): PathRule[] {
  return rules.flatMap(({ path, access }) => {
    const real = realPath(path);
    if (real === undefined || places.some((place) => beneath(real, place.path))) return [];
    const status = lstatSync(bytesOf(real), { bigint: true, throwIfNoEntry: false });
    if (status === undefined) return [];
    return [{ path: bytesOf(real), access, optional: true, identity: identityOf(status) }];
  });
}

/** The directories above the places. */
function leadingTo(places: readonly DeniedPlace[]): ReadonlySet<string> {
  const paths = new Set<string>();
  for (const { path } of places) {
    for (let at = path; at !== "/"; ) {
      at = dirname(at);
      if (paths.has(at)) break;
      paths.add(at);
    }
  }
  return new Set([...paths].map((path) => keyOf(identityOf(statSync(bytesOf(path), { bigint: true })))));
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(bytesOf(directory), { encoding: "buffer" }).map(byteString);
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    throw new SandboxError(
      "failed_precondition",
      `spec.filesystem.denied: ${textOf(directory)} leads to a denied tree and cannot be listed (${code}), so that what lies beside it cannot be granted; grant trees that do not contain it`,
      {
        reason: "PROTECTION_UNAVAILABLE",
        field: "spec.filesystem.denied",
        metadata: { errno: code, argument: textOf(directory) },
        cause: error,
      },
    );
  }
}

function tooMany(field: string, what: string): SandboxError {
  return new SandboxError("failed_precondition", `${field}: ${what}; deny less, or grant smaller trees`, {
    reason: "PROTECTION_UNAVAILABLE",
    field,
  });
}

/** The numbers that the kernel's statx(2) gives; Node has the device packed as makedev(3) does. */
function identityOf({ dev, ino }: BigIntStats): FileIdentity {
  return {
    inode: ino,
    deviceMajor: Number(((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n)),
    deviceMinor: Number((dev & 0xffn) | ((dev >> 12n) & 0xffffff00n)),
  };
}

function keyOf({ inode, deviceMajor, deviceMinor }: FileIdentity): string {
  return `${deviceMajor}:${deviceMinor}:${inode}`;
}
