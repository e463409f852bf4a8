import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { SandboxError } from "../../base/errors.js";
import type { Channels } from "../../native/channel.js";
import { nativeFiles } from "../../native/library.js";
import { launchFailure } from "../launch/failure.js";
import type { Grant, HeldCall, Settlement, VerdictSource } from "../model.js";
import type { EnginePolicy } from "../policy/engine-policy.js";
import type { NameTable } from "../policy/network.js";
import type { AutomaticSettlement } from "../ports.js";
import {
  killMessage,
  type LaunchId,
  type SandboxLimit,
  type StageTime,
  signalMessage,
  type WaitStatus,
} from "../warden/messages.js";
import type { EngineStart, FromEngine, ToEngine } from "./protocol.js";

const ESRCH = 3;
const ESHUTDOWN = 108;

/** A program that runs. */
export interface Started {
  readonly pid: number;
  readonly stages: readonly StageTime[];
}

/** What the engine and the warden tell the registry. Called in the order in which things happened. */
export interface EngineEvents {
  exited(launchId: LaunchId, exit: WaitStatus): void;
  /** Nothing of the sandbox is left. */
  gone(launchId: LaunchId): void;
  held(call: HeldCall): void;
  holdGone(holdId: number): void;
  automatic(settled: AutomaticSettlement): void;
  /** Calls that `automatic` would have been told of, had there been fewer. */
  recordsLost(sandboxId: string, count: number): void;
  /** How many calls the engine settled by itself since the last time. */
  settled(source: VerdictSource, outcome: Settlement["kind"], count: number): void;
  /** How often a grant settled calls since the last time. */
  grantUsed(grantId: string, uses: number): void;
  grantEnded(grantId: string): void;
  /** A sandbox reached a limit; `SandboxLimit` says at which it is being killed. */
  limited(launchId: LaunchId, limit: SandboxLimit): void;
  /** The engine lost control of a sandbox: kill it. */
  lost(launchId: LaunchId, message: string): void;
  /** A refused call that should not have been refused: a bug to be reported. */
  error(sandboxId: string, message: string, stack: string): void;
  /** The engine or the warden ended unasked: nothing can be launched any more, and all sandboxes are being killed. */
  failed(error: Error): void;
}

/** The main thread's side of the engine thread and of the warden. */
export interface EngineClient {
  newLaunchId(): LaunchId;
  /** Starts a sandbox's main process. `fds` stay the caller's. Rejects with what failed, and then nothing is left. */
  launch(launch: Launch): Promise<void>;
  /** Starts one more process in a sandbox. */
  exec(exec: Exec): Promise<void>;
  signal(launchId: LaunchId, signal: number, scope: "process" | "group"): void;
  /** Signals every member of a sandbox at once. Resolves with false when the sandbox ended meanwhile. */
  signalAll(sandboxLaunchId: LaunchId, signal: number): Promise<boolean>;
  /** Kills everything of a sandbox; `gone` follows. */
  kill(sandboxLaunchId: LaunchId): void;
  settle(holdId: number, settlement: Settlement): void;
  /** Replaces what the names in a sandbox's rules stand for. */
  setNames(sandboxLaunchId: LaunchId, names: NameTable): void;
  addGrant(sandboxLaunchId: LaunchId, grant: Grant): void;
  removeGrant(sandboxLaunchId: LaunchId, grantId: string): void;
  /**
   * Replaces the content of a file that a sandbox is shown: the `index`th of those of its plan that may change. Nothing
   * happens when it has ended.
   */
  showFile(sandboxLaunchId: LaunchId, index: number, content: Uint8Array): void;
  /** The warden's process id. */
  readonly wardenPid: number;
  /** Ends both; whatever still runs is killed by the warden. */
  close(): Promise<void>;
}

export interface Launch {
  readonly launchId: LaunchId;
  readonly sandboxId: string;
  readonly processId: string;
  readonly policy: EnginePolicy;
  readonly names: NameTable;
  /** `onStarted` may come some milliseconds late, at once with what follows. */
  readonly startMayWait: boolean;
  /** Bytes of `struct sg_plan`. */
  readonly plan: Buffer;
  readonly fds: readonly number[];
  /** The warden has the descriptors: the caller may close its own. Not called when that fails. */
  onSent(): void;
  /** The program runs. Called before anything else is told of it, which the promise could not promise. */
  onStarted(started: Started): void;
}

export interface Exec {
  readonly launchId: LaunchId;
  readonly sandboxLaunchId: LaunchId;
  readonly processId: string;
  readonly plan: Buffer;
  readonly fds: readonly number[];
  onSent(): void;
  onStarted(started: Started): void;
}

interface Launching {
  started(started: Started): void;
  reject(error: Error): void;
}

interface Packet {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
  done(): void;
}

/** Plans above this go through a memory file: a packet is bounded by the socket's buffer. */
const INLINE_PLAN_BYTES = 64 * 1024;

export interface EngineClientOptions {
  readonly channels: Channels;
  readonly events: EngineEvents;
  /** Marks a plan as being in the last descriptor, and returns its header. */
  readonly planHeader: (plan: Buffer) => Buffer;
  readonly spinUs: number;
  /** Whether `settled` is wanted. */
  readonly countSettled: boolean;
}

/** Starts the engine thread and the warden. Rejects when either cannot start. */
export async function startEngine(options: EngineClientOptions): Promise<EngineClient> {
  const { channels, events, planHeader, spinUs } = options;
  const [ourEnd, wardenEnd] = channels.pair();
  const [tracerFd, tracerEnd] = channels.pair();
  const wakeFd = channels.event();
  const recordsTaken = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const start: EngineStart = {
    wardenFd: channels.duplicate(ourEnd),
    tracerFd,
    wakeFd: channels.duplicate(wakeFd),
    spinUs,
    recordsTaken: recordsTaken.buffer,
    countSettled: options.countSettled,
  };
  const launching = new Map<LaunchId, Launching>();
  const signalling = new Map<number, { resolve(reached: boolean): void; reject(error: Error): void }>();
  const outgoing: Packet[] = [];
  let retry: NodeJS.Timeout | undefined;
  let lastLaunchId = 0;
  let lastRequestId = 0;
  let workerLives = true;
  let phase: "starting" | "running" | "closing" | "failed" = "starting";
  let hello: (() => void) | undefined;
  let wardenPid = 0;

  // The tracer starts the warden and ends with it.
  const warden: ChildProcess = spawn(nativeFiles.tracer, [nativeFiles.warden], {
    stdio: ["ignore", "ignore", "inherit", wardenEnd, tracerEnd],
    env: {},
  });
  closeSync(wardenEnd);
  closeSync(tracerEnd);
  const worker = new Worker(fileURLToPath(new URL("./worker.js", import.meta.url)), {
    workerData: start,
    // Descriptors come from and go to other threads and processes here; Node need not keep count.
    trackUnmanagedFds: false,
  });

  function fail(error: Error): void {
    if (phase === "closing" || phase === "failed") return;
    phase = "failed";
    for (const waiting of launching.values()) waiting.reject(serviceFailed(error));
    for (const waiting of signalling.values()) waiting.reject(serviceFailed(error));
    launching.clear();
    signalling.clear();
    // The warden kills everything when its socket closes; if it is the one that died, its keepers do.
    closeSync(ourEnd);
    warden.kill("SIGKILL");
    events.failed(error);
  }

  warden.on("error", (error) => fail(new Error(`the warden could not be started: ${error.message}`, { cause: error })));
  warden.on("exit", (code, signal) => fail(new Error(`the warden ended unexpectedly (${signal ?? `status ${code}`})`)));
  worker.on("error", (error) => fail(new Error("the engine thread failed", { cause: error })));
  worker.on("exit", () => {
    workerLives = false;
    fail(new Error("the engine thread ended unexpectedly"));
  });
  worker.on("message", (batch: readonly FromEngine[]) => {
    for (const message of batch) take(message);
  });

  function take(message: FromEngine): void {
    switch (message.kind) {
      case "warden":
        takeWarden(message.message);
        return;
      case "warden_ended":
        fail(new Error("the warden closed its socket"));
        return;
      case "held":
        events.held(message.call);
        return;
      case "gone":
        events.holdGone(message.holdId);
        return;
      case "automatic":
        events.automatic(message.settled);
        Atomics.add(recordsTaken, 0, 1);
        return;
      case "records_lost":
        for (const [sandboxId, count] of message.bySandbox) events.recordsLost(sandboxId, count);
        return;
      case "settled":
        for (const [key, count] of message.counts) {
          const [source, outcome] = key.split(" ") as [VerdictSource, Settlement["kind"]];
          events.settled(source, outcome, count);
        }
        return;
      case "grant_ended":
        events.grantEnded(message.grantId);
        return;
      case "grants_used":
        for (const [grantId, uses] of message.uses) events.grantUsed(grantId, uses);
        return;
      case "signalled": {
        const waiting = signalling.get(message.requestId);
        signalling.delete(message.requestId);
        if (message.errno === 0) waiting?.resolve(true);
        else if (message.errno === ESRCH || message.errno === ESHUTDOWN) waiting?.resolve(false);
        else
          waiting?.reject(
            new SandboxError(
              "failed_precondition",
              `the sandbox's tasks could not be signalled (errno ${message.errno})`,
              { reason: "WRONG_STATE" },
            ),
          );
        return;
      }
      case "lost":
        events.lost(message.sandboxLaunchId, message.message);
        return;
      case "error":
        events.error(message.sandboxId, message.message, message.stack);
        return;
      default:
        message satisfies never;
    }
  }

  function takeWarden(message: Extract<FromEngine, { kind: "warden" }>["message"]): void {
    switch (message.kind) {
      case "hello":
        wardenPid = message.pid;
        hello?.();
        return;
      case "started": {
        const waiting = launching.get(message.launchId);
        launching.delete(message.launchId);
        waiting?.started({ pid: message.pid, stages: message.stages });
        return;
      }
      case "failed": {
        const waiting = launching.get(message.launchId);
        launching.delete(message.launchId);
        waiting?.reject(launchFailure(message.stage, message.errno, message.argument));
        return;
      }
      case "exited":
        events.exited(message.launchId, message.exit);
        return;
      case "gone":
        events.gone(message.launchId);
        return;
      case "limit":
        events.limited(message.launchId, message.limit);
        return;
      default:
        message satisfies never;
    }
  }

  function post(message: ToEngine): void {
    worker.postMessage(message);
    channels.signal(wakeFd);
  }

  /** Ends the engine thread with the process: Node would wait for ever for a thread that sleeps in the kernel. */
  function onProcessExit(): void {
    post({ kind: "stop" });
  }
  process.once("exit", onProcessExit);

  /** Sends to the warden in order; what its queue has no room for now goes a moment later. */
  function sendWarden(bytes: Uint8Array, fds: readonly number[], done: () => void): void {
    outgoing.push({ bytes, fds, done });
    if (retry === undefined) flush();
  }

  function flush(): void {
    retry = undefined;
    if (phase === "failed") return;
    for (let packet = outgoing[0]; packet !== undefined; packet = outgoing[0]) {
      try {
        if (!channels.send(ourEnd, packet.bytes, packet.fds)) {
          retry = setTimeout(flush, 1);
          return;
        }
      } catch (error) {
        fail(new Error("the warden cannot be reached", { cause: error }));
        return;
      }
      outgoing.shift();
      packet.done();
    }
  }

  function begin({ launchId, plan, fds, onSent, onStarted }: Launch | Exec): Promise<void> {
    if (phase !== "running") return Promise.reject(serviceFailed(new Error("the engine is not running")));
    return new Promise((resolve, reject) => {
      const started = (program: Started): void => {
        onStarted(program);
        resolve();
      };
      launching.set(launchId, { started, reject });
      if (plan.length <= INLINE_PLAN_BYTES) {
        sendWarden(plan, fds, onSent);
        return;
      }
      const file = channels.memoryFile(plan);
      sendWarden(planHeader(plan), [...fds, file], () => {
        closeSync(file);
        onSent();
      });
    });
  }

  await new Promise<void>((resolve, reject) => {
    hello = resolve;
    warden.once("error", reject);
    warden.once("exit", (code) => reject(new Error(`the warden ended at its start with status ${code}`)));
    worker.once("error", reject);
  });
  phase = "running";

  return {
    newLaunchId: () => ++lastLaunchId,
    launch(launch) {
      const { launchId, sandboxId, processId, policy, names, startMayWait } = launch;
      // No wake: the engine looks here when the warden says that the launch is ready.
      worker.postMessage({
        kind: "expect",
        launchId,
        sandboxId,
        processId,
        policy,
        names,
        startMayWait,
      } satisfies ToEngine);
      return begin(launch);
    },
    exec(exec) {
      const { launchId, sandboxLaunchId, processId } = exec;
      worker.postMessage({ kind: "expect_exec", launchId, sandboxLaunchId, processId } satisfies ToEngine);
      return begin(exec);
    },
    signal(launchId, signal, scope) {
      sendWarden(signalMessage(launchId, signal, scope), [], () => undefined);
    },
    signalAll(sandboxLaunchId, signal) {
      const requestId = ++lastRequestId;
      return new Promise((resolve, reject) => {
        signalling.set(requestId, { resolve, reject });
        post({ kind: "signal_all", sandboxLaunchId, signal, requestId });
      });
    },
    kill(sandboxLaunchId) {
      sendWarden(killMessage(sandboxLaunchId), [], () => undefined);
    },
    settle: (holdId, settlement) => post({ kind: "settle", holdId, settlement }),
    setNames: (sandboxLaunchId, names) => post({ kind: "names", sandboxLaunchId, names }),
    addGrant: (sandboxLaunchId, grant) => post({ kind: "add_grant", sandboxLaunchId, grant }),
    removeGrant: (sandboxLaunchId, grantId) => post({ kind: "remove_grant", sandboxLaunchId, grantId }),
    showFile: (sandboxLaunchId, index, content) => post({ kind: "show_file", sandboxLaunchId, index, content }),
    wardenPid,
    async close() {
      if (phase === "closing") return;
      const failed = phase === "failed";
      phase = "closing";
      clearTimeout(retry);
      const wardenEnded = warden.exitCode !== null || warden.signalCode !== null ? undefined : once(warden, "exit");
      const workerEnded = workerLives ? once(worker, "exit") : undefined;
      // The thread sleeps in the kernel, where `terminate` does not reach it: it is asked, also after a failure.
      if (workerLives) post({ kind: "stop" });
      if (!failed) closeSync(ourEnd);
      await Promise.all([wardenEnded, workerEnded]);
      process.removeListener("exit", onProcessExit);
      closeSync(wakeFd);
    },
  };
}

function serviceFailed(cause: Error): SandboxError {
  return new SandboxError("unavailable", `the service lost its engine: ${cause.message}`, {
    reason: "SERVICE_FAILED",
    cause,
  });
}
