import { readSync } from "node:fs";
import { Socket, type SocketConstructorOpts } from "node:net";
import { ReadStream } from "node:tty";
import type { FdCalls } from "../../native/descriptors.js";

/** Where the bytes of one output stream come from. Reads as long as the sink wants more. Plain data, like the ring. */
export interface OutputSource {
  readonly kind: "pipe" | "terminal";
  /** Not blocking. A pipe's belongs to its socket; a terminal's is the caller's, and the socket has a duplicate. */
  readonly fd: number;
  readonly fds: FdCalls;
  readonly sink: OutputSink;
  /** `flowing`: the socket reads. `draining`: read here, as far as the sink goes along. */
  state: "flowing" | "draining" | "ended";
  /** Set by `finishSource`: then what is empty has ended. */
  final: boolean;
  socket: Socket | undefined;
}

export interface OutputSink {
  /** Copies the bytes. False: wait for `resumeSource` before reading on. */
  take(source: OutputSource, bytes: Buffer): boolean;
  /** No bytes come any more. */
  end(source: OutputSource): void;
}

/**
 * Reads a pipe to its end, or what a terminal prints until no process has it open.
 *
 * libuv takes a hangup that comes with a short read for the end, as is right for a pipe; of a terminal there may be
 * more to read. So after the end of a terminal's socket the rest is read here, until the kernel says EIO.
 */
export function openSource(kind: OutputSource["kind"], fd: number, fds: FdCalls, sink: OutputSink): OutputSource {
  const source: OutputSource = { kind, fd, fds, sink, state: "flowing", final: false, socket: undefined };
  openSocket(source);
  return source;
}

/** Reads again after the sink asked to wait. */
export function resumeSource(source: OutputSource): void {
  if (source.state === "flowing") source.socket?.resume();
  else drain(source);
}

/** Nothing more will be written: reads what is left without waiting for an end of file that may never come. */
export function finishSource(source: OutputSource): void {
  if (source.final) return;
  source.final = true;
  if (source.state !== "flowing") return;
  source.socket?.pause();
  source.state = "draining";
  drain(source);
}

export function disposeSource(source: OutputSource): void {
  source.state = "ended";
  source.socket?.destroy();
  source.socket = undefined;
}

function openSocket(source: OutputSource): void {
  const { fds, sink } = source;
  const options: SocketConstructorOpts & { onread: { buffer: Buffer; callback(length: number): boolean } } = {
    readable: true,
    writable: false,
    onread: {
      buffer: fds.scratch,
      callback: (length) => source.state === "flowing" && sink.take(source, fds.scratch.subarray(0, length)),
    },
  };
  const socket =
    source.kind === "pipe"
      ? new Socket({ ...options, fd: source.fd })
      : new ReadStream(fds.duplicate(source.fd), options);
  const ended = (): void => {
    if (source.socket === socket && source.state === "flowing") socketEnded(source);
  };
  socket.on("end", ended);
  socket.on("error", ended);
  socket.resume();
  source.socket = socket;
}

function socketEnded(source: OutputSource): void {
  if (source.kind === "pipe") {
    end(source);
    return;
  }
  source.socket?.destroy();
  source.state = "draining";
  drain(source);
}

function drain(source: OutputSource): void {
  const { fd, fds, sink } = source;
  while (source.state === "draining") {
    const length = readNow(fd, fds.scratch);
    if (length === "later" && !source.final) {
      // Somebody opened the terminal again.
      source.state = "flowing";
      openSocket(source);
      return;
    }
    if (length === "later" || length === "end") {
      end(source);
      return;
    }
    if (!sink.take(source, fds.scratch.subarray(0, length))) return;
  }
}

function end(source: OutputSource): void {
  disposeSource(source);
  source.sink.end(source);
}

/** Reads once without waiting. */
function readNow(fd: number, into: Buffer): number | "later" | "end" {
  try {
    const length = readSync(fd, into, 0, into.length, null);
    return length === 0 ? "end" : length;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EAGAIN" ? "later" : "end";
  }
}
