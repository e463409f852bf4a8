import { closeSync, constants, openSync } from "node:fs";
import { kill } from "node:process";
import { SandboxError } from "../../base/errors.js";
import type { ProcessSpec, TerminalSize } from "../model.js";
import type { ProcessStreams } from "../ports.js";
import {
  type Attachment,
  type AttachmentHost,
  type AttachmentSeat,
  type AttachOptions,
  createAttachment,
  type OutputChunk,
  type OutputStream,
} from "./attachment.js";
import type { FdCalls } from "./fds.js";
import { createNoInput, createPipeInput, createTerminalInput, type InputQueue } from "./input.js";
import { createOutput, type Output } from "./output.js";
import { openRunOutput } from "./run-output.js";
import { createPipeSource, createTerminalSource, type OutputSink, type OutputSource } from "./source.js";

export interface StreamsOptions {
  /** Bytes kept of each output stream. Zero: 1 MiB. */
  readonly maxOutputBytes: number;
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

/** The streams of one process that is about to be launched. Throws when the system has no descriptors left. */
export function createStreams(spec: ProcessSpec, options: StreamsOptions): ProcessStreams & StreamAccess {
  const { fds } = options;
  const ends = spec.terminal === undefined ? openPipes(spec, fds) : openTerminal(spec.terminal, fds);
  const capacity = options.maxOutputBytes === 0 ? DEFAULT_OUTPUT_BYTES : options.maxOutputBytes;
  const outputs: readonly Output[] = ends.outputs.map(({ name }) => createOutput(name, capacity, spec.outputOverflow));
  const seats = new Set<AttachmentSeat>();
  let sources: readonly OutputSource[] = [];
  let childOpen = true;
  let disposed = false;
  let writer: AttachmentSeat | undefined;
  let input: InputQueue | undefined;
  let settleDrained = (): void => {};
  const drained = new Promise<void>((resolve) => {
    settleDrained = resolve;
  });

  function wakeAll(): void {
    for (const seat of seats) seat.wake();
  }

  const host: AttachmentHost = {
    outputs,
    get input() {
      input ??= ends.createInput(() => writer?.wake());
      return input;
    },
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

  function closeChildEnds(): void {
    if (!childOpen) return;
    childOpen = false;
    for (const fd of new Set(ends.childFds)) closeSync(fd);
  }

  function sinkOf(output: Output): OutputSink {
    return {
      take(bytes) {
        const more = output.append(bytes);
        wakeAll();
        return more;
      },
      end() {
        output.end();
        wakeAll();
        if (outputs.every((each) => each.ended)) settleDrained();
      },
    };
  }

  return {
    childFds: ends.childFds,
    drained,
    names: outputs.map((output) => output.name),
    launched() {
      closeChildEnds();
      if (disposed) return;
      sources = ends.outputs.map(({ open }, index) => {
        const output = outputs[index] as Output;
        const source = open(sinkOf(output));
        output.whenRoom(() => source.resume());
        return source;
      });
    },
    exited() {
      // The output may outlive the process in others that share it; `sandboxGone` is the last word.
    },
    sandboxGone() {
      for (const source of sources) source.finish();
      host.input.dispose();
      settleDrained();
      wakeAll();
    },
    dispose() {
      if (disposed) return;
      disposed = true;
      closeChildEnds();
      for (const source of sources) source.dispose();
      // Without a queue yet, its descriptor must be closed all the same.
      host.input.dispose();
      ends.close();
      for (const output of outputs) output.dispose();
      settleDrained();
      for (const seat of seats) seat.hostGone();
    },
    attach(attachOptions, changed) {
      const { attachment, seat } = createAttachment(host, attachOptions, changed);
      seats.add(seat);
      return attachment;
    },
    runOutput: (signal, maxBytes) => openRunOutput(outputs, seats, signal, maxBytes),
    feed: (data) => host.input.feed(data),
    resize(size) {
      if (ends.master === undefined || disposed) {
        throw new SandboxError("failed_precondition", "the process has no terminal to resize", {
          reason: "WRONG_STATE",
        });
      }
      fds.setTerminalSize(ends.master, size);
    },
    signalForeground(signal) {
      if (ends.master === undefined || disposed) return false;
      return signalForeground(ends.master, signal, fds);
    },
  };
}

interface Ends {
  readonly childFds: readonly [number, number, number];
  readonly outputs: readonly { readonly name: OutputStream; open(sink: OutputSink): OutputSource }[];
  createInput(changed: () => void): InputQueue;
  readonly master: number | undefined;
  /** Closes what neither a source nor the input owns. */
  close(): void;
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
    let reading = false;
    return {
      childFds: [inRead, outWrite, errWrite],
      outputs: [
        { name: "stdout", open: (sink) => createPipeSource(outRead, fds, sink) },
        {
          name: "stderr",
          open(sink) {
            reading = true;
            return createPipeSource(errRead, fds, sink);
          },
        },
      ],
      createInput: (changed) => (inWrite === undefined ? createNoInput() : createPipeInput(inWrite, changed)),
      master: undefined,
      close() {
        if (reading) return;
        closeSync(outRead);
        closeSync(errRead);
      },
    };
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw error;
  }
}

function openTerminal(size: TerminalSize, fds: FdCalls): Ends {
  const { master, slave } = fds.openTerminal(size);
  return {
    childFds: [slave, slave, slave],
    outputs: [{ name: "terminal", open: (sink) => createTerminalSource(master, fds, sink) }],
    createInput: (changed) => createTerminalInput(master, changed),
    master,
    close: () => closeSync(master),
  };
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
