import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const sources = fileURLToPath(new URL("../../../test/guests/", import.meta.url));
/** Outside every home, so that an ordinary user's sandbox can be given it. */
const builtIn = fileURLToPath(new URL("../../guests/", import.meta.url));

const flags = ["-std=gnu17", "-O1", "-static", "-pthread", "-Wall", "-Wextra", "-Werror"];

function modified(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** `NAME.c`, or all that is in the directory `NAME`. */
function sourcesOf(name: string): readonly string[] {
  const directory = join(sources, name);
  if (modified(directory) === 0) return [`${directory}.c`];
  return readdirSync(directory).map((file) => join(directory, file));
}

/** Directory of the built guests, to be granted to a sandbox that runs one. */
export const guestDirectory = builtIn;

/**
 * Path of a guest program, compiled from `test/guests` when a source is newer. Static: it needs no libraries. `act`
 * does one thing and says in a word how it went: see `test/guests/act/act.h`.
 */
export function guestPath(name: string): string {
  const files = sourcesOf(name);
  const built = join(builtIn, name);
  if (modified(built) > Math.max(...files.map(modified))) return built;
  mkdirSync(builtIn, { recursive: true });
  const fresh = `${built}.${process.pid}`;
  const units = files.filter((file) => file.endsWith(".c"));
  execFileSync("gcc", [...flags, "-o", fresh, ...units], { stdio: "inherit" });
  renameSync(fresh, built);
  return built;
}
