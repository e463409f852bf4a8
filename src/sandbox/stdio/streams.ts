import { closeSync, constants, openSync } from "node:fs";
import { kill } from "node:process";
import { SandboxError } from "../../base/errors.js";
import type { FdCalls } from "../../native/descriptors.js";
import type { ProcessSpec, TerminalSize } from "../model.js";
import type { ProcessStreams } from "../ports.js";
import { type OutputAllowance, takeAllowed } from "./allowance.js";
import {
  type Attachment,
  type AttachmentHost,
  type AttachmentSeat,
  type AttachOptions,
  createAttachment,
  type OutputChunk,
} from "./attachment.js";
import { createNoInput, createPipeInput, createTerminalInput, type InputQueue } from "./input.js";
import { appendOutput, createOutput, type Output, type OutputStream } from "./output.js";
import { clearRing } from "./ring.js";
import { openRunOutput } from "./run-output.js";
import { disposeSource, endSource, finishSource, type OutputSink, openSource, unparkSource } from "./source.js";

export interface StreamsOptions {
  /** Bytes kept of each output stream. Zero: 1 MiB. */
  readonly maxOutputBytes: number;
  /** Undefined: any amount may be written. */
  readonly allowance: OutputAllowance | undefined;
  readonly fds: FdCalls;
}

/** What clients do with a process's streams. */
export interface StreamAccess {
  /** Output streams that the process has: two, or its terminal. */
  readonly names: readonly OutputStream[];
  /**
   * Attaches a reader, and writer if asked. `changed` is called when there may be something to take. Throws
   * `invalid_argument` for a stream that the process does not have, `out_of_range` for an offset that it has not
   * reached, `failed_precondition` when another attachment has the input.
   */
  attach(options: AttachOptions, changed: () => void): Attachment;
  /**
   * All output in the order of its arrival, for one consumer, whose pace the program has to keep from now on. What is
   * beyond `maxBytes` (zero or infinite: no limit) is read and counted, but not delivered. See `openRunOutput`.
   */
  runOutput(signal: AbortSignal, maxBytes: number): AsyncIterable<OutputChunk>;
  /** Gives the process all its input at once, and ends it. Throws `failed_precondition` when it has none. */
  feed(data: Uint8Array): void;
  /** Throws `failed_precondition` when the process has no terminal. */
  resize(size: TerminalSize): void;
  /** Signals the terminal's foreground process group. False when there is no terminal, or no such group. */
  signalForeground(signal: number): boolean;
}

const DEFAULT_OUTPUT_BYTES = 1024 * 1024;

/** Signals that a terminal itself sends to its foreground group: SIGINT, SIGQUIT, SIGTSTP. */
const terminalSignals: readonly number[] = [2, 3, 20];

/**
 * The streams of one process that is about to be launched. Throws when the system has no descriptors left.
 *
 * Most sandboxes are idle most of the time, so what only readers and writers need is made when the first one comes.
 */
export function createStreams(spec: ProcessSpec, options: StreamsOptions): ProcessStreams & StreamAccess {
  const { fds, allowance } = options;
  const ends = spec.terminal === undefined ? openPipes(spec, fds) : openTerminal(spec.terminal, fds);
  const capacity = options.maxOutputBytes === 0 ? DEFAULT_OUTPUT_BYTES : options.maxOutputBytes;
  const outputs = ends.reads.map(([name]) => createOutput(name, capacity, spec.outputOverflow));
  let stage: "made" | "launched" | "disposed" = "made";
  let host: AttachmentHost | undefined;
  let settleDrained = (): void => {};
  const drained = new Promise<void>((resolve) => {
    settleDrained = resolve;
  });

  function hostOf(): AttachmentHost {
    host ??= createHost(outputs, (changed) => openInput(ends, changed));
    return host;
  }

  function launched(): void {
    if (stage !== "made") return;
    stage = "launched";
    closeAll(ends.childFds);
    const sink: OutputSink = {
      take(source, bytes) {
        const output = outputs.find((each) => each.source === source);
        if (output === undefined) return false;
        const allowed = allowance === undefined ? bytes : takeAllowed(allowance, bytes);
        const more = allowed.length === 0 || appendOutput(output, allowed);
        wakeAll(host);
        if (allowed.length === bytes.length) return more;
        // The writers wait until they are killed; when the sandbox is gone there are none.
        if (source.final) endSource(source);
        return false;
      },
      end(source) {
        for (const output of outputs) output.ended ||= output.source === source;
        if (outputs.every((output) => output.ended)) settleDrained();
        wakeAll(host);
      },
    };
    outputs.forEach((output, index) => {
      const [, fd] = ends.reads[index] ?? [output.name, -1];
      output.source = openSource(ends.master === undefined ? "pipe" : "terminal", fd, fds, sink);
    });
  }

  function dispose(): void {
    if (stage === "disposed") return;
    if (stage === "made") closeAll([...ends.childFds, ...ends.reads.map(([, fd]) => fd)]);
    else if (ends.master !== undefined) closeSync(ends.master);
    stage = "disposed";
    hostOf().input.dispose();
    for (const output of outputs) {
      if (output.source !== undefined) disposeSource(output.source);
      output.ended = true;
      clearRing(output.ring);
    }
    settleDrained();
    for (const seat of hostOf().seats) seat.hostGone();
  }

  return {
    childFds: ends.childFds,
    drained,
    names: outputs.map((output) => output.name),
    launched,
    exited() {
      // Output may outlive the process in others that share it; `sandboxGone` is the last word.
      for (const { source } of outputs) if (source !== undefined) unparkSource(source);
    },
    sandboxGone() {
      for (const { source } of outputs) if (source !== undefined) finishSource(source);
      if (allowance?.exceeded === true) for (const { source } of outputs) if (source !== undefined) endSource(source);
      hostOf().input.dispose();
      settleDrained();
      wakeAll(host);
    },
    dispose,
    attach: (attachOptions, changed) => createAttachment(hostOf(), attachOptions, changed),
    runOutput: (signal, maxBytes) => openRunOutput(outputs, hostOf().seats, signal, maxBytes),
    feed: (data) => hostOf().input.feed(data),
    resize(size) {
      if (ends.master === undefined || stage === "disposed") {
        throw new SandboxError("failed_precondition", "the process has no terminal to resize", {
          reason: "WRONG_STATE",
        });
      }
      fds.setTerminalSize(ends.master, size);
    },
    signalForeground: (signal) =>
      ends.master !== undefined && stage !== "disposed" && signalForeground(ends.master, signal, fds),
  };
}

function wakeAll(host: AttachmentHost | undefined): void {
  if (host === undefined) return;
  for (const seat of host.seats) seat.wake();
}

function createHost(outputs: readonly Output[], makeInput: (changed: () => void) => InputQueue): AttachmentHost {
  const seats = new Set<AttachmentSeat>();
  let writer: AttachmentSeat | undefined;
  return {
    outputs,
    seats,
    input: makeInput(() => writer?.wake()),
    claimInput(seat, takeOver) {
      if (writer !== undefined && !takeOver) {
        throw new SandboxError("failed_precondition", "another attachment has the input; take_over_input takes it", {
          reason: "LEASE_HELD",
          field: "open.input",
        });
      }
      writer?.inputLost();
      writer = seat;
    },
    leave(seat) {
      seats.delete(seat);
      if (writer === seat) writer = undefined;
    },
  };
}

/** Descriptors of one process's streams. */
interface Ends {
  readonly childFds: readonly [number, number, number];
  readonly reads: readonly (readonly [OutputStream, number])[];
  /** Write end of the input, when it is a pipe. */
  readonly write: number | undefined;
  /** The terminal, which is then also what is read. */
  readonly master: number | undefined;
}

function openPipes(spec: ProcessSpec, fds: FdCalls): Ends {
  const opened: number[] = [];
  function pipe(): readonly [number, number] {
    const pair = fds.pipe();
    opened.push(...pair);
    return pair;
  }
  try {
    const [outRead, outWrite] = pipe();
    const [errRead, errWrite] = pipe();
    fds.setNonblocking(outRead);
    fds.setNonblocking(errRead);
    const [inRead, inWrite] = spec.stdin === "pipe" ? pipe() : [openSync("/dev/null", constants.O_RDONLY), undefined];
    if (inWrite !== undefined) fds.setNonblocking(inWrite);
    return {
      childFds: [inRead, outWrite, errWrite],
      reads: [
        ["stdout", outRead],
        ["stderr", errRead],
      ],
      write: inWrite,
      master: undefined,
    };
  } catch (error) {
    closeAll(opened);
    throw error;
  }
}

function openTerminal(size: TerminalSize, fds: FdCalls): Ends {
  const { master, slave } = fds.openTerminal(size);
  return { childFds: [slave, slave, slave], reads: [["terminal", master]], write: undefined, master };
}

function openInput(ends: Ends, changed: () => void): InputQueue {
  if (ends.master !== undefined) return createTerminalInput(ends.master, changed);
  return ends.write === undefined ? createNoInput() : createPipeInput(ends.write, changed);
}

/** Closes each once, though the child's may be the same. */
function closeAll(descriptors: readonly number[]): void {
  for (const fd of new Set(descriptors)) closeSync(fd);
}

function signalForeground(master: number, signal: number, fds: FdCalls): boolean {
  const group = fds.terminalGroup(master);
  if (group <= 0) return false;
  if (terminalSignals.includes(signal)) {
    fds.signalTerminal(master, signal);
    return true;
  }
  try {
    kill(-group, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}
