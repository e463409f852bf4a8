import { closeSync, constants, openSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import koffi from "koffi";

/** Of a terminal, in characters. */
export interface WindowSize {
  readonly columns: number;
  readonly rows: number;
}

/**
 * What the standard streams of a process need of the operating system beyond `node:fs`.
 * Every descriptor is close-on-exec and belongs to the caller. Failures throw an error that names the call.
 */
export interface FdCalls {
  /** Where reads land before they are kept: one for all streams of a thread, without content between callbacks. */
  readonly scratch: Buffer;
  /** A pipe: read end, write end. */
  pipe(): readonly [number, number];
  /** A new pseudo terminal of this size. */
  openTerminal(size: WindowSize): { readonly master: number; readonly slave: number };
  /** Sets the size and tells the foreground process group (SIGWINCH). */
  setTerminalSize(master: number, size: WindowSize): void;
  /** Foreground process group of a terminal as seen by this process; zero when there is none. */
  terminalGroup(master: number): number;
  /** SIGINT, SIGQUIT or SIGTSTP to the foreground group, sent by the kernel itself; it accepts no other. */
  signalTerminal(master: number, signal: number): void;
  duplicate(fd: number): number;
  setNonblocking(fd: number): void;
}

const SCRATCH_BYTES = 64 * 1024;

const F_GETFL = 3;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const O_CLOEXEC = 0o2000000;

/** ioctl_tty(2), asm-generic/ioctls.h: the same on x86-64 and arm64. */
const ioctls = {
  setSize: 0x5414, // TIOCSWINSZ
  foregroundGroup: 0x540f, // TIOCGPGRP
  lock: 0x40045431, // TIOCSPTLCK
  openPeer: 0x5441, // TIOCGPTPEER
  signal: 0x40045436, // TIOCSIG
} as const;

/** Pipes and pseudo terminals for the standard streams of sandboxed processes. */
export function createDescriptors(): FdCalls {
  const libc = koffi.load("libc.so.6");
  const pipe2 = libc.func("pipe2", "int", ["void *", "int"]);
  const fcntl = libc.func("fcntl", "int", ["int", "int", "long"]);
  const ioctlValue = libc.func("ioctl", "int", ["int", "unsigned long", "long"]);
  const ioctlPointer = libc.func("ioctl", "int", ["int", "unsigned long", "void *"]);
  const pair = new Int32Array(2);
  const word = new Int32Array(1);
  const windowSize = new Uint16Array(4);

  function check(call: string, result: number): number {
    if (result >= 0) return result;
    const errno = koffi.errno();
    const code = getSystemErrorName(-errno);
    throw Object.assign(new Error(`${call}: ${code}`), { code, errno, syscall: call });
  }

  const calls: FdCalls = {
    scratch: Buffer.allocUnsafeSlow(SCRATCH_BYTES),
    pipe() {
      check("pipe2", pipe2(pair, O_CLOEXEC));
      return [pair[0] ?? -1, pair[1] ?? -1];
    },
    openTerminal(size) {
      const flags = constants.O_RDWR | constants.O_NOCTTY;
      const master = openSync("/dev/ptmx", flags | constants.O_NONBLOCK); // Node adds O_CLOEXEC
      let slave = -1;
      try {
        word[0] = 0;
        check("ioctl TIOCSPTLCK", ioctlPointer(master, ioctls.lock, word));
        // Opened by its master, not by a path, which another mount of devpts could give another meaning.
        slave = check("ioctl TIOCGPTPEER", ioctlValue(master, ioctls.openPeer, flags | O_CLOEXEC));
        calls.setTerminalSize(master, size);
        return { master, slave };
      } catch (error) {
        closeSync(master);
        if (slave >= 0) closeSync(slave);
        throw error;
      }
    },
    setTerminalSize(master, size) {
      windowSize.set([size.rows, size.columns, 0, 0]);
      check("ioctl TIOCSWINSZ", ioctlPointer(master, ioctls.setSize, windowSize));
    },
    terminalGroup(master) {
      check("ioctl TIOCGPGRP", ioctlPointer(master, ioctls.foregroundGroup, word));
      return word[0] ?? 0;
    },
    signalTerminal(master, signal) {
      check("ioctl TIOCSIG", ioctlValue(master, ioctls.signal, signal));
    },
    duplicate: (fd) => check("fcntl F_DUPFD_CLOEXEC", fcntl(fd, F_DUPFD_CLOEXEC, 0)),
    setNonblocking(fd) {
      const flags = check("fcntl F_GETFL", fcntl(fd, F_GETFL, 0));
      check("fcntl F_SETFL", fcntl(fd, F_SETFL, flags | constants.O_NONBLOCK));
    },
  };
  return calls;
}
