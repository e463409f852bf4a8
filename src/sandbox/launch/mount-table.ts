/**
 * The mounts of this process's namespace, so that what lies at one path is also found at the others. Paths are byte
 * strings (latin1), because a name may have any bytes.
 */
import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { beneath, bytesOf } from "../policy/byte-paths.js";

interface Mount {
  readonly id: number;
  /** Device numbers as text, "8:1". */
  readonly device: string;
  /** What of the file system it shows, and where. */
  readonly root: string;
  readonly point: string;
}

export interface MountTable {
  /**
   * Every path at which a tree, or a part of it, can be reached: the path itself first. What is mounted below it
   * belongs to it, and is found elsewhere too.
   */
  placesOf(path: string): readonly string[];
}

const O_PATH = 0o10000000;
const ESCAPED = /\\([0-7]{3})/g;

/** Throws what reading /proc throws. */
export function readMountTable(): MountTable {
  const mounts = parseMounts(readFileSync("/proc/self/mountinfo", "latin1"));
  return { placesOf: (path) => placesOf(mounts, path) };
}

/** proc(5), /proc/pid/mountinfo. */
export function parseMounts(text: string): readonly Mount[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [id = "", , device = "", root = "", point = ""] = line.split(" ");
      return { id: Number(id), device, root: withoutEscapes(root), point: withoutEscapes(point) };
    });
}

function withoutEscapes(text: string): string {
  return text.replace(ESCAPED, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function placesOf(mounts: readonly Mount[], path: string): string[] {
  const places = new Set([path]);
  const own = mounts.find(({ id }) => id === mountIdOf(path));
  const shown = mounts.filter(({ point }) => point !== path && beneath(point, path));
  const parts = shown.map(({ device, root }) => ({ device, root }));
  if (own !== undefined) parts.push({ device: own.device, root: join(own.root, relative(path, own.point)) });
  for (const part of parts) {
    for (const mount of mounts) {
      if (mount.device !== part.device) continue;
      const place = beneath(part.root, mount.root)
        ? join(mount.point, relative(part.root, mount.root))
        : beneath(mount.root, part.root)
          ? mount.point
          : undefined;
      // What another mount covers cannot be reached there.
      if (place !== undefined && mountIdOf(place) === mount.id) places.add(place);
    }
  }
  return [...places];
}

function relative(path: string, base: string): string {
  return path.slice(base === "/" ? 0 : base.length);
}

function join(base: string, rest: string): string {
  const joined = `${base === "/" ? "" : base}${rest}`;
  return joined === "" ? "/" : joined;
}

/** Undefined when there is nothing. */
function mountIdOf(path: string): number | undefined {
  let fd: number;
  try {
    fd = openSync(bytesOf(path), O_PATH | constants.O_NOFOLLOW);
  } catch {
    return undefined;
  }
  try {
    return Number(/^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1]);
  } finally {
    closeSync(fd);
  }
}
