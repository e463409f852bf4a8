/** What is started: its arguments, environment and search path. */
import type { ProcessSpec } from "../model.js";
import { type PlanParts, packStrings } from "./encode.js";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_ENV: Readonly<Record<string, string>> = { PATH: DEFAULT_PATH, HOME: "/", LANG: "C.UTF-8" };
const DEFAULT_TERM = "xterm-256color";

export function processParts(process: ProcessSpec): Pick<PlanParts, "argv" | "envp" | "search" | "cwd"> {
  return {
    argv: packStrings(process.argv),
    envp: packStrings(environmentOf(process)),
    search: Buffer.from(searchPathOf(process)),
    cwd: Buffer.from(process.cwd === "" ? "/" : process.cwd),
  };
}

function environmentOf({ env, clearEnv, terminal }: ProcessSpec): string[] {
  const merged = new Map(clearEnv ? [] : Object.entries(DEFAULT_ENV));
  if (!clearEnv && terminal !== undefined) merged.set("TERM", DEFAULT_TERM);
  for (const [name, value] of env) merged.set(name, value);
  return [...merged].map(([name, value]) => `${name}=${value}`);
}

export function searchPathOf({ env }: ProcessSpec): string {
  return env.get("PATH") ?? DEFAULT_PATH;
}
