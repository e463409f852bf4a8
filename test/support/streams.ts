import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createDescriptors } from "../../src/native/descriptors.js";
import type { ProcessSpec } from "../../src/sandbox/model.js";
import type { ProcessStreams } from "../../src/sandbox/ports.js";
import type { Attachment, AttachmentEvent, AttachOptions, OutputChunk } from "../../src/sandbox/stdio/attachment.js";
import { createStreams, type StreamAccess, type StreamsOptions } from "../../src/sandbox/stdio/streams.js";

export const fds = createDescriptors();

/** A real process, not confined, on streams of ours. */
export interface StreamedProcess extends Disposable {
  readonly streams: ProcessStreams & StreamAccess;
  readonly child: ChildProcess;
  /** Resolves with the exit code, or the name of the signal. */
  readonly exit: Promise<number | string>;
}

export function processSpec(argv: readonly string[], options: Partial<ProcessSpec> = {}): ProcessSpec {
  return {
    argv,
    env: new Map(),
    clearEnv: false,
    cwd: "/",
    stdin: "closed",
    terminal: undefined,
    outputOverflow: "drop_oldest",
    ...options,
  };
}

/** Starts a shell script. On a terminal it is the controlling one, as it is for a sandboxed process. */
export function startScript(
  script: string,
  options: Partial<ProcessSpec> = {},
  maxOutputBytes = 0,
  special: Partial<StreamsOptions> = {},
): StreamedProcess {
  const shell = ["/bin/sh", "-c", script];
  const argv = options.terminal === undefined ? shell : ["setsid", "--ctty", "--wait", ...shell];
  const streams = createStreams(processSpec(argv, options), { maxOutputBytes, allowance: undefined, fds, ...special });
  const [command, ...rest] = argv as [string, ...string[]];
  const child = spawn(command, rest, { stdio: [...streams.childFds] });
  streams.launched();
  const exit = once(child, "exit").then(([code, signal]): number | string => {
    streams.exited();
    return code ?? signal;
  });
  return {
    streams,
    child,
    exit,
    [Symbol.dispose]() {
      child.kill("SIGKILL");
      streams.dispose();
    },
  };
}

/** An attachment with something to wait on. */
export interface Reader extends Disposable {
  readonly attachment: Attachment;
  /** The next event. */
  next(): Promise<AttachmentEvent>;
  /** The next output. */
  chunk(): Promise<OutputChunk>;
  /** Reads on until `done`, giving credit for what was read. Returns all chunks. */
  until(done: (chunks: readonly OutputChunk[]) => boolean): Promise<OutputChunk[]>;
  /** Reads to the end of every stream. */
  rest(): Promise<OutputChunk[]>;
}

export function attach(streams: StreamAccess, options: Partial<AttachOptions> = {}): Reader {
  let wake = (): void => {};
  const attachment = streams.attach(
    {
      streams: [],
      offsets: new Map(streams.names.map((name) => [name, 0])),
      creditBytes: 0,
      input: false,
      takeOverInput: false,
      ...options,
    },
    () => wake(),
  );

  async function next(): Promise<AttachmentEvent> {
    for (;;) {
      const event = attachment.take();
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }

  async function chunk(): Promise<OutputChunk> {
    for (;;) {
      const event = await next();
      if (event.kind === "output") return event.chunk;
    }
  }

  async function until(done: (chunks: readonly OutputChunk[]) => boolean): Promise<OutputChunk[]> {
    const chunks: OutputChunk[] = [];
    while (!done(chunks)) {
      const one = await chunk();
      attachment.credit(one.data.length);
      chunks.push(one);
    }
    return chunks;
  }

  return {
    attachment,
    next,
    chunk,
    until,
    rest: () => until(() => attachment.ended),
    [Symbol.dispose]: () => attachment[Symbol.dispose](),
  };
}

/** The bytes of one stream. */
export function textOf(chunks: readonly OutputChunk[], stream: OutputChunk["stream"] = "stdout"): string {
  return Buffer.concat(chunks.filter((chunk) => chunk.stream === stream).map((chunk) => chunk.data)).toString();
}
