import { closeSync } from "node:fs";
import { createDeadlineHeap, type Deadline, noDeadline } from "../base/deadlines.js";
import { MAX_FDS, RECORD, RECORD_KIND } from "../native/abi.js";
import type { ArgumentShape, Exchange, TakenSocket } from "../native/exchange.js";
import { type Call, createCallWindow } from "./call.js";
import { refuse, type Verdict } from "./verdict.js";

/** Handles one notified call of one sandbox. Never waits: what must wait returns `deferred`. */
export interface Handler<Sandbox> {
  /** What the native side copies before the handler runs. */
  readonly shapes: readonly ArgumentShape[];
  handle(call: Call, sandbox: Sandbox): Verdict;
}

/** By system-call number: its keys are what the filters notify, and nothing else is notified. */
export type HandlerTable<Sandbox> = ReadonlyMap<number, Handler<Sandbox>>;

/** A listener in the set. */
export interface Listener {
  readonly slot: number;
}

/** A socket in the set. */
export interface Channel {
  /** False when the peer's queue is full or the peer is gone. */
  send(packet: Uint8Array, fds: readonly number[]): boolean;
  /** Detaches and closes it; `onEnd` is not called. */
  close(): void;
}

export interface ChannelEvents {
  /** `packet` is valid only during the call; the descriptors change hands. */
  onPacket(packet: Buffer, fds: readonly number[]): void;
  onEnd(): void;
}

/** A call that is answered later. Exactly one of `answer`, `release`, expiry and `onGone` happens. */
export interface Deferred {
  /** Answers it; ignored (and an fd closed) when it was answered, expired or is gone. */
  answer(verdict: Exclude<Verdict, { kind: "deferred" }>): void;
  /** It was answered by somebody else: nothing more is done about it. */
  release(): void;
  /** Moves the deadline: milliseconds from now. */
  extend(timeoutMs: number): void;
  /** Whether the caller still waits for its answer. */
  isWaiting(): boolean;
  /** Writes into the caller's memory while it waits. Returns whether that was possible. */
  store(address: bigint, bytes: Uint8Array): boolean;
}

export interface DeferOptions {
  /** Milliseconds until the call is refused with EPERM. Every deferred call has a deadline. */
  readonly timeoutMs: number;
  /**
   * Opens a pidfd of the calling thread (ownership passes) to learn of its end; a negative number for none. Called
   * once the call has waited for a moment: most are answered before, and a dead caller's answer harms nobody.
   */
  openTask(): number;
  /** The deadline passed; the call has been refused. */
  onExpired(): void;
  /** The caller died, or its listener ended; nobody waits any more. */
  onGone(): void;
}

/** Where the loop tells of what no handler caused. */
export interface LoopEvents<Sandbox> {
  /** The last filtered task of a sandbox is gone. */
  onListenerEnd(sandbox: Sandbox): void;
  /** The listener failed and was closed: its notified calls now fail with ENOSYS. */
  onListenerFault(sandbox: Sandbox, errno: number): void;
  /** A handler threw, or an answer could not be given: a bug or a lost race. The call was refused. */
  onError(error: unknown, sandbox: Sandbox | undefined): void;
  /** The main thread signalled the wake event. */
  onWake(): void;
  /** After each turn, with everything of it handled. */
  onTurnEnd(): void;
}

export interface EngineLoop<Sandbox> extends Disposable {
  /** Sets the handlers, once, before the first listener is attached: they are built with this loop. */
  handle(handlers: HandlerTable<Sandbox>): void;
  /** Takes ownership of `fd`. */
  attachListener(fd: number, sandbox: Sandbox): Listener;
  /** Takes ownership of `fd`. */
  attachChannel(fd: number, events: ChannelEvents): Channel;
  /** A duplicate of the caller's socket `fd`, which the caller of this owns; else a positive errno. */
  takeSocket(call: Call, fd: number): TakenSocket | number;
  /** To be called by a handler that then returns `deferred`. */
  defer(call: Call, options: DeferOptions): Deferred;
  /** Calls `act` after this many milliseconds, once. Returns how to call it off. */
  after(timeoutMs: number, act: () => void): () => void;
  /** Runs until `stop`. */
  run(): void;
  stop(): void;
}

export interface LoopOptions<Sandbox> {
  readonly exchange: Exchange;
  /** An eventfd by which the main thread wakes the loop; ownership passes. */
  readonly wakeFd: number;
  readonly events: LoopEvents<Sandbox>;
  /** How long a turn polls before it sleeps while calls keep coming, in microseconds. */
  readonly spinUs: number;
}

type Slot<Sandbox> =
  | { readonly kind: "free" }
  | { readonly kind: "wake" }
  | { readonly kind: "listener"; readonly sandbox: Sandbox; readonly waiting: Set<Waiting> }
  | { readonly kind: "channel"; readonly events: ChannelEvents }
  | { readonly kind: "task"; readonly waiting: Waiting };

interface Timer extends Deadline {
  readonly kind: "timer";
  readonly act: () => void;
}

interface Waiting extends Deadline {
  readonly kind: "call";
  readonly slot: number;
  readonly idLow: number;
  readonly idHigh: number;
  readonly options: DeferOptions;
  taskSlot: number;
  /** When its task begins to be watched; of `performance.now`. */
  readonly watchMs: number;
  state: "waiting" | "done";
}

const NO_SLOT = -1;
/** Calls that are answered within this are not watched. */
const WATCH_DELAY_MS = 2;

export function createEngineLoop<Sandbox>(options: LoopOptions<Sandbox>): EngineLoop<Sandbox> {
  const { exchange, events, spinUs } = options;
  const { bytes, words } = exchange;
  const call = createCallWindow(exchange);
  const deadlines = createDeadlineHeap<Waiting | Timer>();
  const slots: Slot<Sandbox>[] = [];
  const freeSlots: number[] = [];
  /** Vacated in this turn. Records of the turn may still name them, so they are free only in the next. */
  const retiredSlots: number[] = [];
  const byNumber: (Handler<Sandbox> | undefined)[] = [];
  /** In the order in which they began to wait. */
  const unwatched: Waiting[] = [];
  let running = false;
  let soon = false;
  let busy = false;

  place({ kind: "wake" }, "wake", options.wakeFd);

  function place(slot: Slot<Sandbox>, kind: "listener" | "channel" | "task" | "wake", fd: number): number {
    const index = freeSlots.pop() ?? slots.length;
    try {
      exchange.add(index, kind, fd);
    } catch (error) {
      freeSlots.push(index);
      if (index === slots.length) slots.push({ kind: "free" });
      throw error;
    }
    slots[index] = slot;
    return index;
  }

  function vacate(index: number): void {
    slots[index] = { kind: "free" };
    retiredSlots.push(index);
  }

  function answer(slot: number, idLow: number, idHigh: number, verdict: Exclude<Verdict, { kind: "deferred" }>): void {
    switch (verdict.kind) {
      case "continue":
        exchange.continueCall(slot, idLow, idHigh);
        return;
      case "errno":
        exchange.returnCall(slot, idLow, idHigh, verdict.errno, 0);
        return;
      case "value":
        exchange.returnCall(slot, idLow, idHigh, 0, verdict.value);
        return;
      case "fd":
        exchange.installFd(slot, idLow, idHigh, verdict.fd, verdict.closeOnExec);
        return;
      default:
        verdict satisfies never;
    }
  }

  /** Ends a deferred call, once. False when it had ended before. */
  function finish(waiting: Waiting): boolean {
    if (waiting.state === "done") return false;
    waiting.state = "done";
    deadlines.clear(waiting);
    const listener = slots[waiting.slot];
    if (listener?.kind === "listener") listener.waiting.delete(waiting);
    if (waiting.taskSlot !== NO_SLOT) {
      exchange.remove(waiting.taskSlot);
      vacate(waiting.taskSlot);
      waiting.taskSlot = NO_SLOT;
    }
    return true;
  }

  function handleCall(offset: number): void {
    call.moveTo(offset);
    const slot = slots[call.slot];
    if (slot?.kind !== "listener") return;
    let verdict: Verdict;
    try {
      const handler = byNumber[call.nr];
      if (handler === undefined) throw new Error(`call ${call.nr} was notified but has no handler`);
      verdict = handler.handle(call, slot.sandbox);
    } catch (error) {
      verdict = refuse;
      events.onError(error, slot.sandbox);
    }
    if (verdict.kind !== "deferred") answer(call.slot, call.idLow, call.idHigh, verdict);
  }

  function handleTerminal(index: number, error: number): void {
    const slot = slots[index];
    if (slot === undefined) return;
    switch (slot.kind) {
      case "listener":
        vacate(index);
        for (const waiting of [...slot.waiting]) if (finish(waiting)) waiting.options.onGone();
        if (error === 0) events.onListenerEnd(slot.sandbox);
        else events.onListenerFault(slot.sandbox, -error);
        return;
      case "channel":
        vacate(index);
        slot.events.onEnd();
        return;
      case "task":
        // The library has removed the pidfd already.
        slot.waiting.taskSlot = NO_SLOT;
        vacate(index);
        if (finish(slot.waiting)) slot.waiting.options.onGone();
        return;
      case "free":
      case "wake":
        return;
      default:
        slot satisfies never;
    }
  }

  function handleMessage(offset: number, index: number): void {
    const fds: number[] = [];
    for (let i = 0; i < MAX_FDS; i++) {
      const fd = bytes.readInt32LE(offset + RECORD.at.fds + i * 4);
      if (fd >= 0) fds.push(fd);
    }
    const slot = slots[index];
    const length = words[(offset + RECORD.at.args) / 4] as number;
    if (slot?.kind !== "channel") {
      for (const fd of fds) closeSync(fd);
      return;
    }
    try {
      slot.events.onPacket(bytes.subarray(offset + RECORD.bytes, offset + RECORD.bytes + length), fds);
    } catch (error) {
      // One peer's bad packet is not the end of every sandbox.
      events.onError(error, undefined);
    }
  }

  function handleRecord(offset: number): void {
    const kind = bytes.readUInt16LE(offset + RECORD.at.kind);
    const index = words[(offset + RECORD.at.slot) / 4] as number;
    switch (kind) {
      case RECORD_KIND.call:
        busy = true;
        handleCall(offset);
        return;
      case RECORD_KIND.message:
        handleMessage(offset, index);
        return;
      case RECORD_KIND.wake:
        events.onWake();
        return;
      case RECORD_KIND.terminal:
      case RECORD_KIND.fault:
      case RECORD_KIND.task:
        handleTerminal(index, bytes.readInt32LE(offset + RECORD.at.error));
        return;
      case RECORD_KIND.outcome: {
        const slot = slots[index];
        const errno = -bytes.readInt32LE(offset + RECORD.at.error);
        events.onError(
          new Error(`an answer failed with errno ${errno}`),
          slot?.kind === "listener" ? slot.sandbox : undefined,
        );
        return;
      }
      default:
        throw new Error(`unknown record kind ${kind}`);
    }
  }

  /** Rounded up, so that what is waited for is due; -1 when there is nothing. */
  function untilNextMs(): number {
    const nextMs = Math.min(deadlines.nextMs(), unwatched[0]?.watchMs ?? Number.POSITIVE_INFINITY);
    return nextMs === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(nextMs - performance.now()));
  }

  /** Watches the tasks of calls that wait for longer than a moment. */
  function watch(): void {
    if (unwatched.length === 0) return;
    const nowMs = performance.now();
    const due = unwatched.findIndex(({ state, watchMs }) => state === "waiting" && watchMs > nowMs);
    for (const waiting of unwatched.splice(0, due < 0 ? unwatched.length : due)) {
      if (waiting.state === "done") continue;
      try {
        const pidfd = waiting.options.openTask();
        if (pidfd >= 0) waiting.taskSlot = place({ kind: "task", waiting }, "task", pidfd);
      } catch (error) {
        events.onError(error, undefined); // it has its deadline still
      }
      // The pidfd is the caller's if the caller still waits; if not, nobody would tell of its end any more.
      if (exchange.isWaiting(waiting.slot, waiting.idLow, waiting.idHigh)) continue;
      if (finish(waiting)) waiting.options.onGone();
    }
  }

  function expire(): void {
    if (deadlines.nextMs() === Number.POSITIVE_INFINITY) return;
    const nowMs = performance.now();
    for (let due = deadlines.takeDue(nowMs); due !== undefined; due = deadlines.takeDue(nowMs)) {
      if (due.kind === "timer") due.act();
      else if (finish(due)) {
        answer(due.slot, due.idLow, due.idHigh, refuse);
        due.options.onExpired();
      }
      if (exchange.answerRoom() < 1024) {
        soon = true;
        return;
      }
    }
  }

  return {
    handle(handlers) {
      for (const [nr, handler] of handlers) {
        byNumber[nr] = handler;
        exchange.setShape(nr, handler.shapes);
      }
    },
    attachListener(fd, sandbox) {
      return { slot: place({ kind: "listener", sandbox, waiting: new Set() }, "listener", fd) };
    },
    attachChannel(fd, channelEvents) {
      const index = place({ kind: "channel", events: channelEvents }, "channel", fd);
      const isOpen = (): boolean => {
        const slot = slots[index];
        return slot?.kind === "channel" && slot.events === channelEvents;
      };
      return {
        send: (packet, fds) => isOpen() && exchange.send(index, packet, fds),
        close() {
          if (!isOpen()) return;
          exchange.remove(index);
          vacate(index);
        },
      };
    },
    takeSocket: (of, fd) => exchange.takeSocket(of.slot, of.idLow, of.idHigh, of.tid, fd),
    defer(deferredCall, deferOptions) {
      const nowMs = performance.now();
      const { tid } = deferredCall;
      // Written out, as every deferred call makes one.
      const waiting: Waiting = {
        dueAtMs: noDeadline.dueAtMs,
        duePlace: noDeadline.duePlace,
        kind: "call",
        slot: deferredCall.slot,
        idLow: deferredCall.idLow,
        idHigh: deferredCall.idHigh,
        options: deferOptions,
        taskSlot: NO_SLOT,
        watchMs: nowMs + WATCH_DELAY_MS,
        state: "waiting",
      };
      const listener = slots[waiting.slot];
      if (listener?.kind !== "listener") throw new Error("only a listener's call can be deferred");
      listener.waiting.add(waiting);
      deadlines.set(waiting, nowMs + deferOptions.timeoutMs);
      unwatched.push(waiting);
      return {
        answer(verdict) {
          if (finish(waiting)) answer(waiting.slot, waiting.idLow, waiting.idHigh, verdict);
          else if (verdict.kind === "fd") closeSync(verdict.fd);
        },
        release() {
          finish(waiting);
        },
        extend(timeoutMs) {
          if (waiting.state === "waiting") deadlines.set(waiting, performance.now() + timeoutMs);
        },
        isWaiting: () => waiting.state === "waiting" && exchange.isWaiting(waiting.slot, waiting.idLow, waiting.idHigh),
        store: (address, bytes) =>
          waiting.state === "waiting" &&
          exchange.store(waiting.slot, waiting.idLow, waiting.idHigh, tid, address, bytes) === 0,
      };
    },
    after(timeoutMs, act) {
      const timer: Timer = { ...noDeadline, kind: "timer", act };
      deadlines.set(timer, performance.now() + timeoutMs);
      return () => deadlines.clear(timer);
    },
    run() {
      running = true;
      while (running) {
        const timeoutMs = soon ? 0 : untilNextMs();
        const spin = busy ? spinUs : 0;
        soon = false;
        busy = false;
        const used = exchange.turn(timeoutMs, spin);
        for (let offset = 0; offset < used; offset += words[offset / 4] as number) handleRecord(offset);
        freeSlots.push(...retiredSlots.splice(0));
        watch();
        expire();
        events.onTurnEnd();
      }
      exchange.turn(0, 0); // the last answers
    },
    stop() {
      running = false;
    },
    [Symbol.dispose]() {
      exchange[Symbol.dispose]();
    },
  };
}
