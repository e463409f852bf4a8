/** The file system as a sandbox sees it, where that is not as the host does: its own root, mappings and memory. */
import { lstatSync, readlinkSync, realpathSync } from "node:fs";
import { dirname, normalize } from "node:path/posix";
import type { FilesystemPolicy, PathMapping } from "../model.js";

export interface View {
  /** Paths inside do not name what they name on the host. */
  readonly isOwn: boolean;
  /** What a path inside leads to, every link followed. Undefined when it leads nowhere. */
  resolve(path: string): Place | undefined;
}

export interface Place {
  readonly inside: string;
  /** Undefined for what the host does not have: it is made for the sandbox. */
  readonly host: string | undefined;
}

/** A part of the view. */
export interface ShownTree {
  readonly inside: string;
  /** Undefined: in memory. */
  readonly host: string | undefined;
}

export const HOST_VIEW: View = {
  isOwn: false,
  resolve(path) {
    try {
      const host = realpathSync.native(path);
      return { inside: host, host };
    } catch {
      return undefined;
    }
  },
};

/** What a root that is not the host's shows of the host besides, so that programs find what they expect. */
export const ROOT_DEVICES: readonly string[] = ["null", "zero", "full", "random", "urandom", "tty"].map(
  (name) => `/dev/${name}`,
);

export const PRIVATE_TMP = "/tmp";
export const PROC = "/proc";

export function hasOwnView({ root, mappings, privateTmp, privateProc }: FilesystemPolicy): boolean {
  return root !== "" || mappings.length > 0 || privateTmp !== undefined || privateProc;
}

/** A root has no /proc but one of its own: all that is readable in the root must not be what the host's processes are. */
export function hasOwnProc({ root, privateProc }: FilesystemPolicy): boolean {
  return privateProc || root !== "";
}

export function viewOf(filesystem: FilesystemPolicy): View {
  if (!hasOwnView(filesystem)) return HOST_VIEW;
  const trees = shownTrees(filesystem);
  return { isOwn: true, resolve: (path) => resolveIn(trees, path) };
}

/** Later ones cover earlier ones. */
export function shownTrees(filesystem: FilesystemPolicy): readonly ShownTree[] {
  const { root, mappings, privateTmp } = filesystem;
  const real = (path: string) => HOST_VIEW.resolve(path)?.host ?? path;
  return [
    { inside: "/", host: real(root === "" ? "/" : root) },
    ...(root === "" ? [] : ROOT_DEVICES.map((path) => ({ inside: path, host: path }))),
    ...(hasOwnProc(filesystem) ? [{ inside: PROC, host: undefined }] : []),
    ...(privateTmp === undefined ? [] : [{ inside: PRIVATE_TMP, host: undefined }]),
    ...outermostFirst(mappings).map(({ inside, host }) => ({ inside: plain(inside), host: real(host) })),
  ];
}

/** So that no mapping covers another one that lies in it. */
export function outermostFirst(mappings: readonly PathMapping[]): readonly PathMapping[] {
  return mappings.toSorted((a, b) => plain(a.inside).length - plain(b.inside).length);
}

function plain(path: string): string {
  return normalize(path).replace(/(.)\/$/, "$1");
}

/** As many as the kernel follows. */
const MAX_LINKS = 40;

function resolveIn(trees: readonly ShownTree[], path: string): Place | undefined {
  let parts = path.split("/");
  let at = "/";
  let links = 0;
  for (let part = parts.shift(); part !== undefined; part = parts.shift()) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      at = dirname(at);
      continue;
    }
    const next = join(at, part);
    const place = placeIn(trees, next);
    if (place.host === undefined) {
      at = next;
      continue;
    }
    const status = statusOf(place.host);
    if (status === undefined) {
      // A directory that is made for what is shown below it.
      if (!trees.some(({ inside }) => beneath(inside, next))) return undefined;
      at = next;
    } else if (status.isSymbolicLink()) {
      const target = ++links > MAX_LINKS ? undefined : linkOf(place.host);
      if (target === undefined) return undefined;
      if (target.startsWith("/")) at = "/";
      parts = [...target.split("/"), ...parts];
    } else at = next;
  }
  return placeIn(trees, at);
}

/** Of a path without links. */
function placeIn(trees: readonly ShownTree[], path: string): Place {
  const tree = trees.findLast(({ inside }) => beneath(path, inside));
  if (tree?.host === undefined) return { inside: path, host: undefined };
  const rest = tree.inside === "/" ? path : path.slice(tree.inside.length);
  return { inside: path, host: rest === "" || rest === "/" ? tree.host : join(tree.host, rest.slice(1)) };
}

/** Every path inside at which a host path, without links, can be reached. */
export function placesInside(trees: readonly ShownTree[], host: string): readonly string[] {
  return trees.flatMap((tree) => {
    if (tree.host === undefined || !beneath(host, tree.host)) return [];
    const rest = tree.host === "/" ? host : host.slice(tree.host.length);
    const inside = rest === "" ? tree.inside : join(tree.inside, rest.slice(1));
    return placeIn(trees, inside).host === host ? [inside] : []; // else something else is shown there
  });
}

export function beneath(path: string, root: string): boolean {
  return root === "/" || path === root || path.startsWith(`${root}/`);
}

function join(directory: string, name: string): string {
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}

function statusOf(path: string) {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
