/**
 * Calls that name a process by number. Linux tells by their answers whether there is such a process, and lets a program change
 * any process of its user; inside, there are only the processes of the sandbox.
 */
import { IO_PRIORITY_WHO, PRIORITY_WHO, type WhoNumbers } from "../../engine/bpf/processes.js";
import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { deferred, refuse, type Verdict } from "../../engine/verdict.js";
import { PROCESS_VALUE_LIMIT } from "../../native/abi.js";
import type { ArgumentShape } from "../../native/exchange.js";
import type { TaskIdentity } from "../../native/task.js";
import type { Continue, Mediator, Subject } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { CallCategory } from "../model.js";
import type { ProcessChange } from "../warden/process-change.js";

const ESRCH = 3;
const EVERYBODY = -1;

const registersOnly: Continue = { kind: "continue", because: "registers_only" };

/** What to do about a process that is not the caller: without a change, the kernel answers once it is known to be inside. */
type Change = Omit<ProcessChange, "pid"> | "refuse" | undefined;

interface NamingCall {
  readonly category?: CallCategory;
  readonly shapes?: readonly ArgumentShape[];
  /** The number as it was given: negative for a group, zero for the caller. */
  readonly named: (call: Call) => number;
  /** A positive errno when what it points to cannot be copied. */
  readonly change?: (call: Call) => Change | number;
}

const first = (call: Call): number => call.int(0);
const who =
  (numbers: WhoNumbers) =>
  (call: Call): number =>
    call.int(0) === numbers.group ? -call.int(1) : call.int(1);
const refused = (): Change => "refuse";
const asking: NamingCall = { named: first };
const signalling: NamingCall = { named: first, category: "ipc" };
/** Linux keeps the complement of the process's number above three bits that say which clock. */
const clock: NamingCall = { named: (call) => ~(call.int(0) >> 3) };
/** struct sched_param and struct rlimit64. */
const PARAMETERS_BYTES = 4;
const LIMIT_BYTES = 16;

function copied(call: Call, arg: number, change: ProcessChange["change"], value = 0): Change | number {
  const memory = call.memory(arg);
  if (typeof memory === "number") return memory;
  return memory.cut ? "refuse" : { change, value, bytes: memory.bytes };
}

const NAMING: Readonly<Record<string, NamingCall>> = {
  getpgid: asking,
  getsid: asking,
  get_robust_list: asking,
  sched_getparam: asking,
  sched_getscheduler: asking,
  sched_getaffinity: asking,
  sched_getattr: asking,
  sched_rr_get_interval: asking,
  pidfd_open: signalling,
  kill: { ...signalling, named: (call) => (call.int(0) === EVERYBODY ? 0 : call.int(0)) },
  tkill: signalling,
  tgkill: signalling,
  rt_sigqueueinfo: signalling,
  rt_tgsigqueueinfo: signalling,
  getpriority: { named: who(PRIORITY_WHO) },
  ioprio_get: { named: who(IO_PRIORITY_WHO) },
  clock_gettime: clock,
  clock_getres: clock,
  clock_nanosleep: clock,
  timer_create: clock,
  fcntl: { named: (call) => call.int(2) },
  sched_setaffinity: {
    shapes: [{ kind: "bytes", arg: 2, lengthArg: 1, limit: PROCESS_VALUE_LIMIT }],
    named: first,
    change: (call) => copied(call, 2, "affinity"),
  },
  sched_setscheduler: {
    shapes: [{ kind: "block", arg: 2, limit: PARAMETERS_BYTES }],
    named: first,
    change: (call) => copied(call, 2, "scheduler", call.int(1)),
  },
  sched_setparam: {
    shapes: [{ kind: "block", arg: 1, limit: PARAMETERS_BYTES }],
    named: first,
    change: (call) => copied(call, 1, "parameters"),
  },
  setpriority: {
    named: who(PRIORITY_WHO),
    change: (call) => (call.int(0) === PRIORITY_WHO.process ? { change: "priority", value: call.int(2) } : "refuse"),
  },
  ioprio_set: {
    named: who(IO_PRIORITY_WHO),
    change: (call) =>
      call.int(0) === IO_PRIORITY_WHO.process ? { change: "ioPriority", value: call.int(2) } : "refuse",
  },
  prlimit64: {
    shapes: [{ kind: "block", arg: 2, limit: LIMIT_BYTES }],
    named: first,
    change(call) {
      if (call.word(2) === 0n) return undefined;
      // The old limit would have to be written into the caller's memory.
      return call.word(3) === 0n ? copied(call, 2, "limit", call.int(1)) : "refuse";
    },
  },
  sched_setattr: { named: first, change: refused },
  migrate_pages: { named: first, change: refused },
  move_pages: { named: first, change: refused },
};

function isCaller(named: number, own: TaskIdentity): boolean {
  return named < 0 ? -named === own.group : named === own.pid || named === own.tid;
}

/**
 * The caller itself passes: its number stays its own while it waits. Whether any other number is of the sandbox, the keeper
 * finds out, to which the kernel answers for the sandbox's processes alone. What only asks or signals is then the kernel's,
 * whose scope of signals holds should the number change hands meanwhile; a change is carried out by the keeper
 * itself, at once, since nothing of the kind would hold it.
 */
function namingHandler(mediator: Mediator, { category = "process", shapes = [], named, change }: NamingCall) {
  const subject: Subject = { category, integrity: "registers", detail: { kind: "raw" } };

  return {
    shapes,
    handle(call: Call, sandbox: EngineSandbox): Verdict {
      const pid = named(call);
      if (pid === 0 || isOwn(call.tid, pid)) return mediator.settleInKernel(call, sandbox, subject, registersOnly);
      const { keeper } = sandbox;
      if (keeper === undefined) return { kind: "errno", errno: ESRCH };
      const wanted = change?.(call);
      if (typeof wanted === "number") return { kind: "errno", errno: wanted };
      if (wanted === "refuse" || (wanted !== undefined && pid < 0)) return refuse;
      const origin = mediator.originOf(call, sandbox);
      const waiting = mediator.defer(call);
      const fail = (errno: number): void => waiting.answer({ kind: "errno", errno });
      keeper.process({ change: "ask", pid }, (member) => {
        if (!member.ok) {
          fail(member.errno);
          return;
        }
        mediator.settle(origin, subject, waiting, {
          refuse: fail,
          allow() {
            if (wanted === undefined) {
              waiting.answer(registersOnly);
              return;
            }
            keeper.process({ ...wanted, pid }, (result) =>
              waiting.answer(result.ok ? { kind: "value", value: 0 } : { kind: "errno", errno: result.errno }),
            );
          },
        });
      });
      return deferred;
    },
  } satisfies Handler<EngineSandbox>;

  function isOwn(tid: number, pid: number): boolean {
    const own = mediator.tasks.identity(tid);
    return own !== undefined && isCaller(pid, own);
  }
}

/** By name, for the table of handlers. */
export const processHandlers: Readonly<Record<string, (mediator: Mediator) => Handler<EngineSandbox>>> =
  Object.fromEntries(
    Object.entries(NAMING).map(
      ([name, call]) => [name, (mediator: Mediator) => namingHandler(mediator, call)] as const,
    ),
  );
