import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

const POLL_MS = 5;

/** Waits for what tells nobody when it happens, such as the end of a process that is not a child. */
export async function eventually(what: string, holds: () => boolean, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await delay(POLL_MS);
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined; // it ended, or is not ours to read
  }
}

export interface ProcessStatus {
  readonly pid: number;
  readonly parent: number;
  /** As in /proc/PID/stat: `T` is stopped, `Z` a zombie. */
  readonly state: string;
  readonly argv: string;
}

export function statusOf(pid: number): ProcessStatus | undefined {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { pid, parent: Number(parent), state, argv: (read(`/proc/${pid}/cmdline`) ?? "").replaceAll("\0", " ") };
}

/** Everything that runs, zombies left out. */
export function allProcesses(): ProcessStatus[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statusOf(Number(name)))
    .filter((status): status is ProcessStatus => status !== undefined && status.state !== "Z");
}

export function isAlive(pid: number): boolean {
  const state = statusOf(pid)?.state;
  return state !== undefined && state !== "Z" && state !== "X";
}

/** Processes with this word in their arguments. */
export function withArgument(marker: string): ProcessStatus[] {
  return allProcesses().filter(({ argv }) => argv.split(" ").includes(marker));
}

/** A process of the host, outside every sandbox, with the user's rights. Detached, it leads a group of its own. */
export async function hostProcess(
  options: { readonly detached?: boolean } = {},
): Promise<AsyncDisposable & { readonly pid: number; readonly child: ChildProcess }> {
  const child = spawn("/bin/sleep", ["1000"], { stdio: "ignore", ...options });
  await once(child, "spawn");
  return {
    child,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}
