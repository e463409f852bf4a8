import { readSync } from "node:fs";
import { Socket, type SocketConstructorOpts } from "node:net";
import { ReadStream } from "node:tty";
import type { FdCalls } from "./fds.js";

/** Where the bytes of one output stream come from. Reads as long as the sink wants more. */
export interface OutputSource {
  /** Reads again after the sink asked to wait. */
  resume(): void;
  /** Nothing more will be written: reads what is left without waiting for an end of file that may never come. */
  finish(): void;
  dispose(): void;
}

export interface OutputSink {
  /** Copies the bytes. False: wait for `resume` before reading on. */
  take(bytes: Buffer): boolean;
  /** No bytes come any more. */
  end(): void;
}

/** Reads a pipe to its end. Owns the descriptor. */
export function createPipeSource(fd: number, fds: FdCalls, sink: OutputSink): OutputSource {
  return createSource(
    {
      fd,
      open: (options) => new Socket({ ...options, fd }),
      readsToEnd: true,
    },
    fds,
    sink,
  );
}

/**
 * Reads what a terminal prints, until no process has it open. The descriptor stays the caller's, and must not block.
 *
 * libuv takes a hangup that comes with a short read for the end, as is right for a pipe; of a terminal there may be
 * more to read. So libuv gets a duplicate, and the rest is read here until the kernel says EIO.
 */
export function createTerminalSource(master: number, fds: FdCalls, sink: OutputSink): OutputSource {
  return createSource(
    {
      fd: master,
      open: (options) => new ReadStream(fds.duplicate(master), options),
      readsToEnd: false,
    },
    fds,
    sink,
  );
}

interface Descriptor {
  readonly fd: number;
  /** Begins to read; the socket owns what it reads from. */
  open(options: SocketConstructorOpts & { onread: { buffer: Buffer; callback(length: number): boolean } }): Socket;
  /** Whether an end seen by the socket means that everything was read. */
  readonly readsToEnd: boolean;
}

/** `flowing`: the socket reads. `draining`: read here, as far as the sink goes along. */
type SourceState = "flowing" | "draining" | "ended";

function createSource(descriptor: Descriptor, fds: FdCalls, sink: OutputSink): OutputSource {
  let state: SourceState = "flowing";
  /** Set by `finish`: then an empty descriptor is an ended one. */
  let final = false;
  let socket = open();

  function open(): Socket {
    const opened = descriptor.open({
      readable: true,
      writable: false,
      onread: {
        buffer: fds.scratch,
        callback: (length) => state === "flowing" && sink.take(fds.scratch.subarray(0, length)),
      },
    });
    opened.once("end", socketEnded);
    opened.once("error", socketEnded);
    opened.resume();
    return opened;
  }

  function socketEnded(): void {
    if (state !== "flowing") return;
    if (descriptor.readsToEnd) {
      end();
      return;
    }
    socket.destroy();
    state = "draining";
    drain();
  }

  function drain(): void {
    while (state === "draining") {
      const length = readNow(descriptor.fd, fds.scratch);
      if (length === "later" && !final) {
        // Somebody opened the terminal again.
        state = "flowing";
        socket = open();
        return;
      }
      if (length === "later" || length === "end") {
        end();
        return;
      }
      if (!sink.take(fds.scratch.subarray(0, length))) return;
    }
  }

  function end(): void {
    state = "ended";
    socket.destroy();
    sink.end();
  }

  return {
    resume() {
      if (state === "flowing") socket.resume();
      else drain();
    },
    finish() {
      if (final) return;
      final = true;
      if (state !== "flowing") return;
      socket.pause();
      state = "draining";
      drain();
    },
    dispose() {
      state = "ended";
      socket.destroy();
    },
  };
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
