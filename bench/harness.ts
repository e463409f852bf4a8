import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connect, type SandgateClient } from "../src/client/client.js";

export interface BenchServer extends AsyncDisposable {
  readonly pid: number;
  /** 0 for the echo server. */
  readonly wardenPid: number;
  readonly address: string;
  /** A client of a connection of its own; closed with the server. */
  client(): SandgateClient;
}

/** Starts `server.ts` in a process of its own and waits until it serves. */
export async function startBenchServer(kind: "sandgate" | "echo", ...options: string[]): Promise<BenchServer> {
  const directory = mkdtempSync(join(tmpdir(), "sandgate-bench-"));
  const path = join(directory, "socket");
  const child: ChildProcess = fork(fileURLToPath(new URL("./server.js", import.meta.url)), [kind, path, ...options]);
  const clients: SandgateClient[] = [];
  let wardenPid = 0;
  for (;;) {
    const [message] = (await once(child, "message")) as [{ wardenPid: number } | "ready"];
    if (message === "ready") break;
    wardenPid = message.wardenPid;
  }
  return {
    pid: child.pid ?? 0,
    wardenPid,
    address: `unix:${path}`,
    client() {
      const client = connect(`unix:${path}`);
      clients.push(client);
      return client;
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close();
      child.send("stop");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** What a bare program printed, as a number. */
export function bareNumber(program: string, ...args: string[]): number {
  return Number(execFileSync(program, args, { encoding: "utf8" }));
}

/** A number of a process's /proc status, such as VmRSS in KiB. */
export function statusOf(pid: number, field: string): number {
  const line = new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "latin1"));
  return Number(line?.[1] ?? 0);
}

/** User and system time of a process, in milliseconds. */
export function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Private memory of a process in KiB, from its smaps_rollup; 0 when it may not be read. */
export function privateKibOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
    return [...text.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+)/gm)].reduce((sum, match) => sum + Number(match[1]), 0);
  } catch {
    return 0;
  }
}

/** Direct children of a process. */
export function childrenOf(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.flatMap((tid) =>
    readFileSync(`/proc/${pid}/task/${tid}/children`, "latin1").split(" ").filter(Boolean).map(Number),
  );
}
