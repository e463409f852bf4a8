/** What a /proc of a sandbox's own says of the machine as a whole: what many programs need, and no more. */
import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path/posix";
import { PROC } from "../policy/view.js";

/** Beside the processes. Links among these lead to what is the process's own. */
const KEPT = new Set([
  "cpuinfo",
  "filesystems",
  "loadavg",
  "meminfo",
  "mounts",
  "net",
  "self",
  "stat",
  "swaps",
  "sys",
  "thread-self",
  "uptime",
  "version",
  "vmstat",
]);
const READABLE_BY_OTHERS = 0o4;

/** Paths to hide in it: also what of /proc/sys not everybody may read. Found in the host's, which has the same. */
export function hiddenOfProc(): string[] {
  const hidden = list(PROC)
    .filter((name) => !/^\d+$/.test(name) && !KEPT.has(name))
    .map((name) => join(PROC, name));
  return [...hidden.filter(isNoLink), ...secretsBelow(join(PROC, "sys"))];
}

function secretsBelow(directory: string): string[] {
  return list(directory).flatMap((name) => {
    const path = join(directory, name);
    const status = statusOf(path);
    if (status === undefined) return [];
    if ((status.mode & READABLE_BY_OTHERS) === 0 && !isWriteOnly(status.mode)) return [path];
    return status.isDirectory() ? secretsBelow(path) : [];
  });
}

function isWriteOnly(mode: number): boolean {
  return (mode & 0o444) === 0;
}

function statusOf(path: string) {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function isNoLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === false;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
