import { execFileSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const sourceOf = (name: string): string => fileURLToPath(new URL(`../../../test/guests/${name}.c`, import.meta.url));
/** Outside every home, so that an ordinary user's sandbox can be given it. */
const builtIn = fileURLToPath(new URL("../../guests/", import.meta.url));

function modified(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Directory of the built guests, to be granted to a sandbox that runs one. */
export const guestDirectory = builtIn;

/** Path of a guest program, compiled from `test/guests/NAME.c` when that is newer. Static: it needs no libraries. */
export function guestPath(name: string): string {
  const source = sourceOf(name);
  const built = `${builtIn}${name}`;
  if (modified(built) > modified(source)) return built;
  mkdirSync(builtIn, { recursive: true });
  execFileSync("gcc", ["-O1", "-static", "-pthread", "-Wall", "-Wextra", "-Werror", "-o", `${built}.new`, source], {
    stdio: "inherit",
  });
  execFileSync("mv", ["-f", `${built}.new`, built]);
  return built;
}
