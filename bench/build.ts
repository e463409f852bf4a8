import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

export interface BenchNative {
  readonly caller: string;
  readonly library: string;
  readonly guest: string;
  readonly spawner: string;
  readonly connects: string;
}

const source = (name: string): string => fileURLToPath(new URL(`../../bench/native/${name}`, import.meta.url));
const output = (name: string): string => fileURLToPath(new URL(`../bench-native/${name}`, import.meta.url));
const built: { native?: BenchNative } = {};

/** Compiles the bench's own programs once. */
export function buildBenchNative(): BenchNative {
  if (built.native !== undefined) return built.native;
  mkdirSync(output(""), { recursive: true });
  const cc = (...args: string[]): void => {
    execFileSync("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", ...args], { stdio: "inherit" });
  };
  cc("-static", "-o", output("caller"), source("caller.c"));
  cc("-static", "-o", output("guest"), source("guest.c"));
  cc("-static", "-pthread", "-o", output("connects"), source("connects.c"));
  cc("-static", "-pthread", "-o", output("spawner"), source("spawner.c"));
  cc("-shared", "-fPIC", "-o", output("libbench.so"), source("loop.c"));
  built.native = {
    caller: output("caller"),
    library: output("libbench.so"),
    guest: output("guest"),
    spawner: output("spawner"),
    connects: output("connects"),
  };
  return built.native;
}
