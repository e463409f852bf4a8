import { type ChildProcess, spawnSync, spawn as startProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { guestPath } from "./guests.js";

/** Something outside that receives datagrams. */
export interface Receiver extends AsyncDisposable {
  /** "0" for a Unix socket. */
  readonly port: string;
  /** What came in since the last time, in order: up to a last message that is sent from outside. */
  received(): Promise<string[]>;
}

/** Runs the guest for datagrams without a sandbox, and returns what it printed. */
export function sendOutside(...args: readonly string[]): string {
  return spawnSync(guestPath("datagrams"), args, { encoding: "utf8" }).stdout.trim();
}

/** Receives at an address of loopback, or at a path or `@name` of a Unix socket. */
export async function receive(host: string): Promise<Receiver> {
  const child = startProcess(guestPath("datagrams"), ["receive", host, "0"], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  let arrived: () => void = () => undefined;
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    arrived();
  });
  const until = async (isThere: () => boolean): Promise<void> => {
    while (!isThere()) {
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
    }
  };
  await until(() => lines.length > 0);
  const port = lines.shift()?.split(" ")[1] ?? "";
  return {
    port,
    async received() {
      sendOutside("send", host, port, "sendto", "last");
      await until(() => lines.at(-1) === "last");
      return lines.splice(0).slice(0, -1);
    },
    [Symbol.asyncDispose]: () => endProcess(child),
  };
}

/** Kills a helper and waits for its end. */
export async function endProcess(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
