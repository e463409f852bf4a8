/**
 * The engine thread's entry: builds the loop with the sandbox handlers and runs it until it is told to
 * stop. Everything here is synchronous; nothing waits but the loop itself.
 */
import { closeSync, ftruncateSync, writeSync } from "node:fs";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { createEngineLoop } from "../../engine/loop.js";
import { archFromNode } from "../../engine/syscalls/table.js";
import { createChannels } from "../../native/channel.js";
import { createExchange } from "../../native/exchange.js";
import { loadLibrary } from "../../native/library.js";
import { createTasks } from "../../native/task.js";
import { createHandlers } from "../handlers/table.js";
import type { Settlement } from "../model.js";
import { createKeeper } from "../warden/keeper.js";
import { type LaunchId, parseWardenMessage, type WardenMessage } from "../warden/messages.js";
import { createTracer } from "../warden/tracer.js";
import { createMediator } from "./mediator.js";
import type { EngineStart, FromEngine, ToEngine } from "./protocol.js";
import { createRecords } from "./records.js";
import { createJudge, createNetworkJudge, type EngineSandbox, type GrantEvents } from "./sandbox.js";

/** Main-thread messages taken in one turn, so that their answers always fit the exchange. */
const MESSAGES_PER_TURN = 1024;
/** Uses of grants are told to the main thread no more often than this. */
const USES_DELAY_MS = 100;
/** Records of settled calls are told together: waking the main thread costs more than making one. */
const RECORDS_TOGETHER = 64;
const RECORDS_DELAY_MS = 2;
/** Longest that killed processes are waited for; a task that hangs in the kernel must not keep a sandbox for ever. */
const DYING_MS = 5000;
/** Longest that the start of a program is kept back where it may be. */
const START_DELAY_MS = 3;

type StartMessage = Extract<WardenMessage, { kind: "started" }>;

interface Expected {
  readonly processId: string;
  readonly sandbox: EngineSandbox;
}

function runEngine(start: EngineStart, port: NonNullable<typeof parentPort>): void {
  const library = loadLibrary();
  const channels = createChannels(library);
  const sandboxes = new Map<LaunchId, EngineSandbox>();
  const expected = new Map<LaunchId, Expected>();
  const processIds = new Map<LaunchId, { readonly sandbox: EngineSandbox; readonly pid: number }>();
  const held = new Map<number, (settlement: Settlement) => void>();
  /** Starts that are told a moment later, or with what comes next of the sandbox. */
  const heldStarts = new Map<LaunchId, { readonly message: StartMessage; cancel(): void }>();
  let outbox: FromEngine[] = [];

  let grantUses = new Map<string, number>();
  const grantEvents: GrantEvents = {
    used(grantId) {
      // A grant spares the main thread its calls, so their number is told only now and then.
      if (grantUses.size === 0) loop.after(USES_DELAY_MS, tellUses);
      grantUses.set(grantId, (grantUses.get(grantId) ?? 0) + 1);
    },
    ended: (grantId) => post({ kind: "grant_ended", grantId }),
  };

  /** Records in the outbox, which nobody waits for: alone, they go when they are many, or a moment later. */
  let records = 0;
  let recordsAreDue = false;

  const post = (message: FromEngine): void => {
    outbox.push(message);
    if (message.kind !== "automatic") return;
    records += 1;
    if (records > 1) return;
    loop.after(RECORDS_DELAY_MS, () => {
      recordsAreDue = true;
    });
  };

  const arch = archFromNode(process.arch);
  if (arch === undefined) throw new Error(`the engine does not know the system calls of ${process.arch}`);
  using loop = createEngineLoop<EngineSandbox>({
    exchange: createExchange(library),
    wakeFd: start.wakeFd,
    spinUs: start.spinUs,
    events: {
      onListenerEnd(sandbox) {
        sandbox.listener = undefined;
        if (sandbox.released) conclude(sandbox);
      },
      onListenerFault(sandbox, errno) {
        sandbox.listener = undefined;
        const message = `its notification listener failed with errno ${errno}`;
        post({ kind: "lost", sandboxLaunchId: sandbox.launchId, message });
      },
      onError(error, sandbox) {
        const known = error instanceof Error ? error : new Error(String(error));
        post({ kind: "error", sandboxId: sandbox?.sandboxId ?? "", message: known.message, stack: known.stack ?? "" });
      },
      onWake: takeMessages,
      onTurnEnd() {
        if (outbox.length === 0) return;
        if (outbox.length === records && records < RECORDS_TOGETHER && !recordsAreDue) return;
        port.postMessage(outbox);
        outbox = [];
        records = 0;
        recordsAreDue = false;
      },
    },
  });
  const settledCalls = createRecords({
    post,
    after: (delayMs, act) => void loop.after(delayMs, act),
    taken: new Int32Array(start.recordsTaken),
    counting: start.countSettled,
  });
  const mediator = createMediator({
    loop,
    tasks: createTasks(library),
    records: settledCalls,
    tracer: createTracer(loop, start.tracerFd),
    report: ({ sandboxId }, message) => post({ kind: "error", sandboxId, message, stack: "" }),
    holds: {
      begin(call, sandbox, settled) {
        held.set(call.holdId, settled);
        tellStart(sandbox.launchId);
        post({ kind: "held", call });
      },
      withdraw(holdId) {
        if (held.delete(holdId)) post({ kind: "gone", holdId });
      },
    },
  });

  loop.handle(createHandlers(arch, mediator));

  const warden = loop.attachChannel(start.wardenFd, {
    onPacket: takeWardenPacket,
    onEnd() {
      post({ kind: "warden_ended" });
      for (const sandbox of sandboxes.values()) forget(sandbox);
    },
  });

  function tellUses(): void {
    post({ kind: "grants_used", uses: grantUses });
    grantUses = new Map();
  }

  function takeWardenPacket(packet: Buffer, fds: readonly number[]): void {
    const message = parseWardenMessage(packet);
    switch (message.kind) {
      case "ready":
        takeReady(message.launchId, message.pid, fds);
        return;
      case "started": {
        const sandbox = sandboxes.get(message.launchId);
        if (sandbox?.startMayWait === true) holdStart(sandbox, message);
        else post({ kind: "warden", message });
        return;
      }
      case "exited":
      case "failed": {
        const process = processIds.get(message.launchId);
        process?.sandbox.processes.delete(process.pid);
        process?.sandbox.launching.delete(process.pid);
        processIds.delete(message.launchId);
        expected.delete(message.launchId);
        const sandbox = sandboxes.get(message.launchId);
        if (message.kind === "failed" && sandbox !== undefined) forget(sandbox);
        break;
      }
      case "gone": {
        const sandbox = sandboxes.get(message.launchId);
        if (sandbox === undefined) return;
        sandbox.released = true;
        if (sandbox.listener === undefined) conclude(sandbox);
        // Killed is not dead: the last ones may still be on their way out.
        else loop.after(DYING_MS, () => conclude(sandbox));
        return;
      }
      case "limit":
        break;
      case "hello":
        post({ kind: "warden", message });
        return;
      default:
        message satisfies never;
    }
    tellStart(message.launchId);
    post({ kind: "warden", message });
  }

  /**
   * Keeps the news of a start for a moment. A short program has ended by then, and the main thread and its
   * client are woken once instead of twice, while the program still needs the processor.
   */
  function holdStart(sandbox: EngineSandbox, message: StartMessage): void {
    const { launchId } = sandbox;
    const cancel = loop.after(START_DELAY_MS, () => tellStart(launchId));
    heldStarts.set(launchId, { message, cancel });
  }

  function tellStart(launchId: LaunchId): void {
    const start = heldStarts.get(launchId);
    if (start === undefined) return;
    heldStarts.delete(launchId);
    start.cancel();
    post({ kind: "warden", message: start.message });
  }

  /** Attaches what a launch made, and only then lets it go on. What cannot be attached is killed. */
  function takeReady(launchId: LaunchId, pid: number, fds: readonly number[]): void {
    // The main thread posted before it asked the warden, but nobody woke us for it.
    if (!expected.has(launchId)) takeMessages();
    const expectation = expected.get(launchId);
    expected.delete(launchId);
    const [go, ...others] = fds;
    if (expectation === undefined) {
      for (const fd of fds) closeSync(fd);
      return;
    }
    const { sandbox } = expectation;
    const listener = sandbox.policy.hasListener && others.length > 0 ? others.shift() : undefined;
    const keeper = others.shift();
    sandbox.shownFiles.push(...others);
    try {
      // A full descriptor table makes the kernel drop what it cannot pass on.
      if (go === undefined) throw new Error("the warden's descriptors did not arrive; this process may have too many");
      const shared = listener !== undefined && sandbox.policy.mediateConnect ? channels.duplicate(listener) : undefined;
      if (listener !== undefined) sandbox.listener = loop.attachListener(listener, sandbox);
      if (keeper !== undefined) {
        sandbox.keeper = createKeeper(loop, keeper, () => {
          sandbox.keeper = undefined;
        });
      }
      if (shared !== undefined && sandbox.keeper !== undefined) sandbox.keeper.share(shared);
      else if (shared !== undefined) closeSync(shared);
      sandbox.processes.set(pid, expectation.processId);
      if (sandbox.policy.holdExec) sandbox.launching.add(pid);
      processIds.set(launchId, { sandbox, pid });
      channels.signal(go);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      post({ kind: "lost", sandboxLaunchId: sandbox.launchId, message: `it could not be attached: ${message}` });
    } finally {
      if (go !== undefined) closeSync(go);
    }
  }

  /** Nothing of the sandbox is left. */
  function conclude(sandbox: EngineSandbox): void {
    if (!sandboxes.has(sandbox.launchId)) return;
    forget(sandbox);
    tellStart(sandbox.launchId);
    post({ kind: "warden", message: { kind: "gone", launchId: sandbox.launchId } });
  }

  function forget(sandbox: EngineSandbox): void {
    sandboxes.delete(sandbox.launchId);
    sandbox.keeper?.close();
    sandbox.keeper = undefined;
    for (const fd of sandbox.shownFiles.splice(0)) closeSync(fd);
  }

  /** One write, so that who reads it meanwhile sees the old content or the new one. */
  function showFile(fd: number, content: Uint8Array): void {
    writeSync(fd, content, 0, content.length, 0);
    ftruncateSync(fd, content.length);
  }

  function takeMessages(): void {
    for (let left = MESSAGES_PER_TURN; left > 0; left--) {
      const received = receiveMessageOnPort(port);
      if (received === undefined) return;
      take(received.message as ToEngine);
    }
    // More may wait: wake ourselves instead of sleeping on them.
    channels.signal(start.wakeFd);
  }

  function take(message: ToEngine): void {
    switch (message.kind) {
      case "expect": {
        const { launchId, sandboxId, policy, startMayWait } = message;
        const sandbox: EngineSandbox = {
          launchId,
          sandboxId,
          policy,
          startMayWait,
          judge: createJudge(policy, grantEvents),
          network: createNetworkJudge(policy.network, () => sandbox.names, policy.scopesAbstract),
          names: message.names,
          processes: new Map(),
          launching: new Set(),
          listener: undefined,
          released: false,
          keeper: undefined,
          shownFiles: [],
        };
        sandboxes.set(launchId, sandbox);
        expected.set(launchId, { processId: message.processId, sandbox });
        return;
      }
      case "expect_exec": {
        const sandbox = sandboxes.get(message.sandboxLaunchId);
        if (sandbox !== undefined) expected.set(message.launchId, { processId: message.processId, sandbox });
        return;
      }
      case "settle": {
        const settled = held.get(message.holdId);
        held.delete(message.holdId);
        settled?.(message.settlement);
        return;
      }
      case "add_grant":
        sandboxes.get(message.sandboxLaunchId)?.judge.addGrant(message.grant);
        return;
      case "remove_grant":
        sandboxes.get(message.sandboxLaunchId)?.judge.removeGrant(message.grantId);
        return;
      case "show_file": {
        const fd = sandboxes.get(message.sandboxLaunchId)?.shownFiles[message.index];
        if (fd !== undefined) showFile(fd, message.content);
        return;
      }
      case "names": {
        const sandbox = sandboxes.get(message.sandboxLaunchId);
        if (sandbox !== undefined) sandbox.names = message.names;
        return;
      }
      case "signal_all": {
        const { requestId, signal } = message;
        const keeper = sandboxes.get(message.sandboxLaunchId)?.keeper;
        if (keeper === undefined) post({ kind: "signalled", requestId, errno: 3 /* ESRCH */ });
        else
          keeper.signalAll(signal, (result) =>
            post({ kind: "signalled", requestId, errno: result.ok ? 0 : result.errno }),
          );
        return;
      }
      case "stop":
        warden.close();
        loop.stop();
        return;
      default:
        message satisfies never;
    }
  }

  loop.run();
}

if (parentPort === null) throw new Error("this module is the entry of a worker thread");
runEngine(workerData as EngineStart, parentPort);
