import type { Call } from "../../engine/call.js";
import type { Deferred, EngineLoop } from "../../engine/loop.js";
import { archFromAudit, syscallName } from "../../engine/syscalls/table.js";
import { deferred, refuse, type Verdict } from "../../engine/verdict.js";
import type { TakenSocket } from "../../native/exchange.js";
import type { Tasks } from "../../native/task.js";
import type {
  ArgumentIntegrity,
  CallCategory,
  CallDetail,
  HeldCall,
  Settlement,
  SignalScope,
  TaskInfo,
} from "../model.js";
import type { Tracer } from "../warden/tracer.js";
import { createInterrupts, type Interrupts } from "./interrupts.js";
import type { Records } from "./records.js";
import type { EngineSandbox, JudgedCall, Judgement } from "./sandbox.js";

/** A call that was decoded: copies, so that nothing of it can change any more. */
export interface Subject {
  readonly category: CallCategory;
  readonly detail: CallDetail;
  readonly integrity: ArgumentIntegrity;
}

/** Who said that a call may run: within the program's own rights, or up to the ceiling of verdicts. */
export type Allowance = "static" | "ceiling";

/** How a settled call is carried out; each must end in an answer. */
export interface Execution {
  allow(allowance: Allowance): void;
  refuse(errno: number): void;
}

/** What handlers share: who calls, how a call is judged, and how it waits for a verdict. */
export interface Mediator {
  readonly tasks: Tasks;
  /**
   * Judges a subject, asks when it must, and runs exactly one of the execution's arms, now or later.
   * `waiting` is what `defer` gave for the call.
   */
  settle(origin: Origin, subject: Subject, waiting: WaitingCall, execution: Execution): void;
  /**
   * Likewise for a call that the kernel itself carries out: answered in its own turn when no question
   * is needed, with `allowed` or an errno.
   */
  settleInKernel(call: Call, sandbox: EngineSandbox, subject: Subject, allowed: Continue): Verdict;
  /**
   * Defers a call, watching its task. When it ends unanswered, its hold is withdrawn and `onEnd` is called. `onSlow`
   * is called once, when it has waited for longer than a moment.
   */
  defer(call: Call, onEnd?: () => void, onSlow?: () => void): WaitingCall;
  readonly tracer: Tracer;
  /** Tells the service's operator of something that should not have happened. */
  report(sandbox: EngineSandbox, message: string): void;
  /** What of the call outlives its handler. */
  originOf(call: Call, sandbox: EngineSandbox): Origin;
  /** A duplicate of the caller's socket `fd`, owned by the handler; else a positive errno. */
  takeSocket(call: Call, fd: number): TakenSocket | number;
  /** Signals that come for calls that wait in vain. */
  readonly interrupts: Interrupts;
}

/** A deferred call, and the hold that it waits for: 0 while there is none. */
export interface WaitingCall extends Deferred {
  holdId: number;
}

export type Continue = Extract<Verdict, { kind: "continue" }>;

/** The call's identity, copied out of the record. */
export interface Origin {
  readonly sandbox: EngineSandbox;
  readonly tid: number;
  readonly nr: number;
  readonly arch: number;
  readonly syscall: string;
  readonly args: readonly bigint[];
  /** Read from /proc at the first use. */
  readonly task: TaskInfo;
}

/** The main thread's registry of holds, as the mediator needs it. */
export interface Holds {
  /** Announces a held call; `settled` is called at most once. */
  begin(call: HeldCall, sandbox: EngineSandbox, settled: (settlement: Settlement) => void): void;
  /** The call is gone or refused: nobody need decide it any more. Ignored once it was settled. */
  withdraw(holdId: number): void;
}

export interface MediatorOptions {
  readonly loop: EngineLoop<EngineSandbox>;
  readonly tasks: Tasks;
  readonly tracer: Tracer;
  readonly report: Mediator["report"];
  readonly holds: Holds;
  readonly records: Records;
}

/** A call that no verdict came for is refused this long after the main thread should have settled it. */
const HOLD_SLACK_MS = 5000;
/** Path lookups and opens through the keeper, before they are refused. */
export const KEEPER_TIMEOUT_MS = 30_000;
const PARENTS = 32;
const NO_TASK: Omit<TaskInfo, "sandboxId" | "tid"> = {
  processId: "",
  pid: 0,
  ppid: 0,
  startTicks: 0,
  executable: new Uint8Array(0),
  command: new Uint8Array(0),
};

function nameOf(audit: number, nr: number): string {
  const arch = archFromAudit(audit);
  return (arch === undefined ? undefined : syscallName(arch, nr)) ?? `call ${nr}`;
}

/** A right-sized copy: a pooled Buffer would carry its whole pool to the other thread. */
function own(bytes: Buffer): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes);
}

export function createMediator(options: MediatorOptions): Mediator {
  const { loop, tasks, holds, records } = options;
  let lastHoldId = 0;

  function processIdOf(sandbox: EngineSandbox, pid: number): string {
    for (let at = pid, steps = 0; at > 1 && steps < PARENTS; at = tasks.parentOf(at), steps++) {
      const processId = sandbox.processes.get(at);
      if (processId !== undefined) return processId;
    }
    return "";
  }

  function describeTask(sandbox: EngineSandbox, tid: number): TaskInfo {
    const status = tasks.read(tid);
    if (status === undefined) return { ...NO_TASK, sandboxId: sandbox.sandboxId, tid };
    return {
      sandboxId: sandbox.sandboxId,
      processId: processIdOf(sandbox, status.tgid),
      pid: status.tgid,
      tid,
      ppid: status.ppid,
      startTicks: status.startTicks,
      executable: own(status.executable),
      command: own(status.command),
    };
  }

  /** Calls `done` when the signal was sent: until then the caller must wait, or it would go on for a moment. */
  function killScope(origin: Origin, scope: SignalScope, signal: number, done: () => void): void {
    const { sandbox, task } = origin;
    switch (scope) {
      case "process": {
        const pidfd = tasks.open(task.pid, task.pid);
        if (pidfd >= 0) {
          tasks.signal(pidfd, signal);
          tasks.close(pidfd);
        }
        done();
        return;
      }
      case "group":
        tasks.signalGroup(task.pid, signal);
        done();
        return;
      case "sandbox":
        if (sandbox.keeper === undefined) done();
        else sandbox.keeper.signalAll(signal, done);
        return;
      default:
        scope satisfies never;
    }
  }

  function carryOut(origin: Origin, settlement: Settlement, waiting: Deferred, execution: Execution): void {
    switch (settlement.kind) {
      case "allow":
        execution.allow("ceiling");
        return;
      case "static":
        execution.allow("static");
        return;
      case "deny":
        execution.refuse(settlement.errno);
        return;
      case "kill":
        // The caller still waits, so its pid is still its own.
        if (waiting.isWaiting()) killScope(origin, settlement.scope, settlement.signal, () => execution.refuse(1));
        else execution.refuse(1);
        return;
      default:
        settlement satisfies never;
    }
  }

  function judged(origin: Origin, subject: Subject): Judgement {
    const call: JudgedCall = {
      syscall: origin.syscall,
      category: subject.category,
      integrity: subject.integrity,
      detail: subject.detail,
      get args() {
        return origin.args;
      },
      get task() {
        return origin.task;
      },
    };
    return origin.sandbox.judge.judge(call, Date.now());
  }

  function heldCall(origin: Origin, subject: Subject, rule: string): HeldCall {
    return {
      holdId: ++lastHoldId,
      sandboxId: origin.sandbox.sandboxId,
      task: origin.task,
      syscall: origin.syscall,
      number: origin.nr,
      arch: origin.arch,
      args: origin.args,
      category: subject.category,
      integrity: subject.integrity,
      detail: subject.detail,
      timeMs: Date.now(),
      rule,
    };
  }

  function originOf(call: Call, sandbox: EngineSandbox): Origin {
    const { tid, nr, arch } = call;
    const words = call.argumentWords();
    let args: bigint[] | undefined;
    let task: TaskInfo | undefined;
    return {
      sandbox,
      tid,
      nr,
      arch,
      syscall: nameOf(arch, nr),
      get args() {
        args ??= Array.from(new BigUint64Array(words.buffer));
        return args;
      },
      get task() {
        task ??= describeTask(sandbox, tid);
        return task;
      },
    };
  }

  function defer(call: Call, onEnd?: () => void, onSlow?: () => void): WaitingCall {
    const { tid } = call;
    const end = (): void => {
      if (waiting.holdId !== 0) holds.withdraw(waiting.holdId);
      onEnd?.();
    };
    const { answer, release, extend, isWaiting, store } = loop.defer(call, {
      timeoutMs: KEEPER_TIMEOUT_MS,
      // Without a pidfd the end of the task is noticed at the deadline, or when its answer comes too late.
      openTask() {
        onSlow?.();
        return tasks.open(tid, tid);
      },
      onExpired: end,
      onGone: end,
    });
    const waiting: WaitingCall = { answer, release, extend, isWaiting, store, holdId: 0 };
    return waiting;
  }

  function record(origin: Origin, subject: Subject, judgement: Extract<Judgement, { kind: "settled" }>): void {
    const { settlement, source, sourceName } = judgement;
    records.count(source, settlement.kind);
    const { policy, sandboxId } = origin.sandbox;
    if (!policy.recordAutomatic) return;
    records.add(sandboxId, () => ({ call: heldCall(origin, subject, ""), settlement, source, sourceName }));
  }

  function ask(origin: Origin, subject: Subject, rule: string, waiting: WaitingCall, execution: Execution): void {
    waiting.extend(origin.sandbox.policy.maxHoldMs + HOLD_SLACK_MS);
    const call = heldCall(origin, subject, rule);
    waiting.holdId = call.holdId;
    holds.begin(call, origin.sandbox, (settlement) => {
      waiting.extend(KEEPER_TIMEOUT_MS);
      carryOut(origin, settlement, waiting, execution);
    });
  }

  return {
    tasks,
    tracer: options.tracer,
    report: options.report,
    originOf,
    defer,
    takeSocket: (call, fd) => loop.takeSocket(call, fd),
    interrupts: createInterrupts(loop, tasks),
    settle(origin, subject, waiting, execution) {
      const judgement = judged(origin, subject);
      switch (judgement.kind) {
        case "static":
          records.count("static", "static");
          execution.allow("static");
          return;
        case "settled":
          record(origin, subject, judgement);
          carryOut(origin, judgement.settlement, waiting, execution);
          return;
        case "ask":
          ask(origin, subject, judgement.rule, waiting, execution);
          return;
        default:
          judgement satisfies never;
      }
    },
    settleInKernel(call, sandbox, subject, allowed) {
      const origin = originOf(call, sandbox);
      const judgement = judged(origin, subject);
      if (judgement.kind === "static") {
        records.count("static", "static");
        return allowed;
      }
      if (judgement.kind === "settled") {
        record(origin, subject, judgement);
        const { settlement } = judgement;
        if (settlement.kind === "allow" || settlement.kind === "static") return allowed;
        if (settlement.kind === "deny") return { kind: "errno", errno: settlement.errno };
        if (settlement.scope !== "sandbox") {
          killScope(origin, settlement.scope, settlement.signal, () => undefined);
          return refuse;
        }
        const killing = defer(call);
        killScope(origin, settlement.scope, settlement.signal, () => killing.answer(refuse));
        return deferred;
      }
      const waiting = defer(call);
      ask(origin, subject, judgement.rule, waiting, {
        allow: () => waiting.answer(allowed),
        refuse: (errno) => waiting.answer({ kind: "errno", errno }),
      });
      return deferred;
    },
  };
}
