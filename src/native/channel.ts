import { check, type Library } from "./library.js";

/** Packets with descriptors between the server, the warden and the engine. */
export interface Channels {
  /** A SOCK_SEQPACKET pair; the caller owns both ends. */
  pair(): [number, number];
  /** Sends one packet without waiting. False when the peer's queue is full; throws on any other failure. */
  send(fd: number, packet: Uint8Array, fds: readonly number[]): boolean;
  /** A sealed memory file with these bytes; the caller owns it. */
  memoryFile(bytes: Uint8Array): number;
  /** A second descriptor for the same file; the caller owns it. */
  duplicate(fd: number): number;
  /** An eventfd; the caller owns it. */
  event(): number;
  /** Wakes whoever waits on an eventfd. */
  signal(event: number): void;
  /** Who is at the other end of a Unix socket. */
  peer(fd: number): { readonly pid: number; readonly uid: number; readonly gid: number };
}

const EAGAIN = -11;

export function createChannels(library: Library): Channels {
  return {
    pair() {
      const fds = new Int32Array(2);
      check("socketpair", library.channelPair(fds));
      return [fds[0] ?? -1, fds[1] ?? -1];
    },
    send(fd, packet, fds) {
      const result = library.send(fd, packet, packet.length, Int32Array.from(fds), fds.length);
      if (result === EAGAIN) return false;
      check("sendmsg", result);
      return true;
    },
    memoryFile: (bytes) => check("memfd_create", library.memoryFile(bytes, bytes.length)),
    duplicate: (fd) => check("fcntl F_DUPFD_CLOEXEC", library.duplicate(fd)),
    event: () => check("eventfd", library.eventCreate()),
    signal(event) {
      library.eventSignal(event);
    },
    peer(fd) {
      const ids = new Uint32Array(3);
      check("getsockopt SO_PEERCRED", library.peerCredentials(fd, ids));
      return { pid: ids[0] ?? 0, uid: ids[1] ?? 0, gid: ids[2] ?? 0 };
    },
  };
}
