import { closeSync, readSync } from "node:fs";
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
  /**
   * `parked`: nothing reads yet, and the kernel keeps what is written. `flowing`: the socket reads.
   * `draining`: read here, as far as the sink goes along.
   */
  state: "parked" | "flowing" | "draining" | "ended";
  /** Set by `finishSource`: then what is empty has ended. */
  final: boolean;
  socket: Socket | undefined;
  /** Ends the parking. */
  timer: NodeJS.Timeout | undefined;
}

/**
 * How long a pipe waits in the kernel before it gets a socket. A socket costs about as much as a short
 * program's whole start, and most short programs have ended by then: theirs is read at their end.
 */
const PARKED_MS = 5;

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
  const source: OutputSource = {
    kind,
    fd,
    fds,
    sink,
    state: "parked",
    final: false,
    socket: undefined,
    timer: undefined,
  };
  if (kind === "terminal") flow(source);
  else source.timer = setTimeout(flow, PARKED_MS, source);
  return source;
}

function flow(source: OutputSource): void {
  if (source.state !== "parked") return;
  source.state = "flowing";
  openSocket(source);
}

/** The process ended: whatever a parked pipe has is read now; if others still hold its end, more may come. */
export function unparkSource(source: OutputSource): void {
  if (source.state !== "parked") return;
  clearTimeout(source.timer);
  source.state = "draining";
  drain(source);
}

/** Reads again after the sink asked to wait. */
export function resumeSource(source: OutputSource): void {
  if (source.state === "flowing") source.socket?.resume();
  else if (source.state === "draining") drain(source);
}

/** Nothing more will be written: reads what is left without waiting for an end of file that may never come. */
export function finishSource(source: OutputSource): void {
  if (source.final) return;
  source.final = true;
  if (source.state !== "flowing" && source.state !== "parked") return;
  clearTimeout(source.timer);
  source.socket?.pause();
  source.state = "draining";
  drain(source);
}

export function disposeSource(source: OutputSource): void {
  const unowned = source.kind === "pipe" && source.socket === undefined && source.state !== "ended";
  source.state = "ended";
  clearTimeout(source.timer);
  source.socket?.destroy();
  source.socket = undefined;
  // A pipe is its socket's to close, if it ever had one.
  if (unowned) closeSync(source.fd);
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
    endSource(source);
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
      // Somebody opened the terminal again, or still holds the pipe's other end.
      source.state = "flowing";
      openSocket(source);
      return;
    }
    if (length === "later" || length === "end") {
      endSource(source);
      return;
    }
    if (!sink.take(source, fds.scratch.subarray(0, length))) return;
  }
}

/** Reads no more, whatever is left. */
export function endSource(source: OutputSource): void {
  if (source.state === "ended") return;
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
