import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The built command, run as a user runs it. */
export const commandPath = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

export interface CommandResult {
  /** Exit status; 128 and the number for a signal. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** A command that runs for longer is killed, so that a test that fails leaves nothing behind. */
  readonly limitMs?: number;
}

/** A command that runs, with what it wrote so far. */
export interface RunningCommand {
  readonly child: ChildProcess;
  readonly result: Promise<CommandResult>;
  /** Resolves once the stream holds the text or pattern; rejects when the command ends before. */
  until(stream: "stdout" | "stderr", pattern: string | RegExp): Promise<string>;
  write(text: string): void;
}

/** Runs `sandgate ARGS` to its end. */
export function sandgate(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { child, result } = startCommand(process.execPath, [commandPath, ...args], { limitMs: 25_000, ...options });
  child.stdin?.on("error", () => undefined); // a command that refuses its options reads nothing
  child.stdin?.end(options.input ?? "");
  return result;
}

/** Starts `sandgate ARGS` and leaves its standard input open. */
export function startSandgate(args: readonly string[], options: CommandOptions = {}): RunningCommand {
  return startCommand(process.execPath, [commandPath, ...args], options);
}

export function startCommand(program: string, args: readonly string[], options: CommandOptions = {}): RunningCommand {
  // A session of its own has no controlling terminal, whatever the tests were started from.
  const child = spawn(program, args, {
    stdio: "pipe",
    detached: true,
    cwd: options.cwd,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: tmpdir(), ...options.env },
  });
  const written = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  const follow = (name: "stdout" | "stderr") => {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      written[name] += text;
      for (const listener of listeners) listener();
    });
  };
  follow("stdout");
  follow("stderr");
  const reaper = setTimeout(() => child.kill("SIGKILL"), options.limitMs ?? 100_000);
  reaper.unref();
  const result = new Promise<CommandResult>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(reaper);
      resolve({ status: code ?? (signal === null ? 255 : 128 + signalNumber(signal)), ...written });
    });
  });
  return {
    child,
    result,
    until: (stream, pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const text = written[stream];
          if (typeof pattern === "string" ? !text.includes(pattern) : !pattern.test(text)) return;
          listeners.delete(look);
          resolve(text);
        };
        listeners.add(look);
        look();
        result.then(({ status }) => {
          look();
          reject(new Error(`ended with ${status} before ${pattern}:\n${written.stdout}\n${written.stderr}`));
        }, reject);
      }),
    write: (text) => void child.stdin?.write(text),
  };
}

function signalNumber(signal: NodeJS.Signals): number {
  const numbers: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };
  return numbers[signal] ?? 0;
}

/** A directory of its own for one test, removed at the end. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "sandgate-test-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export interface ServedService extends AsyncDisposable {
  readonly address: string;
  readonly command: RunningCommand;
}

/** `sandgate serve` on a socket of its own, ready for clients; drained with SIGTERM at the end. */
export async function serveService(...args: readonly string[]): Promise<ServedService> {
  const directory = temporaryDirectory();
  const command = startSandgate(["serve", "--listen", `unix:${directory.path}/service.sock`, ...args]);
  await command.until("stdout", "ready ");
  return {
    address: `unix:${directory.path}/service.sock`,
    command,
    async [Symbol.asyncDispose]() {
      if (command.child.exitCode === null) command.child.kill("SIGTERM");
      const { status, stderr } = await command.result;
      directory[Symbol.dispose]();
      assert.equal(status, 0, stderr);
    },
  };
}

/** A listener that greets who connects, on every local address. */
export async function greetingListener(): Promise<AsyncDisposable & { readonly port: number }> {
  const { createServer } = await import("node:net");
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.end("hello\n");
  });
  server.listen(0, "0.0.0.0");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    port: address.port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, "close");
    },
  };
}
