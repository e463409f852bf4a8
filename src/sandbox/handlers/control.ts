import { AF_UNIX } from "./destination.js";

const EINVAL = 22;
const EPERM = 1;
const ETOOMANYREFS = 109;

/** struct cmsghdr: a length with its own bytes, the level, the type; all is aligned to eight bytes. */
const HEADER_BYTES = 16;
const ALIGNMENT = 8;

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SCM_CREDENTIALS = 2;

/** Control messages that change nothing of where a message goes, by level. */
const HARMLESS: ReadonlyMap<number, readonly number[]> = new Map([
  [SOL_SOCKET, [12 /* SO_PRIORITY */, 36 /* SO_MARK */, 37, 65 /* timestamps */, 61 /* SO_TXTIME */, 81]],
  [0 /* IPPROTO_IP */, [1 /* TOS */, 2 /* TTL */, 8 /* PKTINFO */, 52 /* PROTOCOL */]],
  [17 /* SOL_UDP */, [103 /* UDP_SEGMENT */]],
  [41 /* IPPROTO_IPV6 */, [2, 50 /* PKTINFO */, 8, 52 /* HOPLIMIT */, 11 /* FLOWINFO */, 62 /* DONTFRAG */, 67]],
  [282 /* SOL_TLS */, [1 /* record type */]],
]);

export interface SortedControl {
  /** What is sent on as it is. */
  readonly kept: Buffer;
  /** Descriptors of the caller that are passed. */
  readonly descriptors: readonly number[];
}

const NOTHING: SortedControl = { kept: Buffer.alloc(0), descriptors: [] };

/**
 * Takes the control messages of a call apart; a positive errno for what is malformed, or could lead elsewhere as
 * source routes do. Credentials are left out: the kernel adds those of who sends. cmsg(3), unix(7).
 */
export function sortControl(control: Buffer, domain: number, mostDescriptors: number): SortedControl | number {
  if (control.length === 0) return NOTHING;
  const kept: Buffer[] = [];
  const descriptors: number[] = [];
  for (let at = 0; at + HEADER_BYTES <= control.length; ) {
    const length = Number(control.readBigUInt64LE(at));
    if (length < HEADER_BYTES || length > control.length - at) return EINVAL;
    const level = control.readInt32LE(at + 8);
    const type = control.readInt32LE(at + 12);
    const padded = (length + ALIGNMENT - 1) & -ALIGNMENT;
    if (level === SOL_SOCKET && (type === SCM_RIGHTS || type === SCM_CREDENTIALS)) {
      // Other sockets than Unix ones ignore both.
      if (type === SCM_RIGHTS && domain === AF_UNIX)
        for (let next = at + HEADER_BYTES; next + 4 <= at + length; next += 4)
          descriptors.push(control.readInt32LE(next));
    } else if (HARMLESS.get(level)?.includes(type) === true) {
      const message = Buffer.alloc(padded);
      control.copy(message, 0, at, at + length);
      kept.push(message);
    } else return EPERM;
    at += padded;
  }
  if (descriptors.length > mostDescriptors) return ETOOMANYREFS;
  return { kept: Buffer.concat(kept), descriptors };
}
