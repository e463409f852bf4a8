/**
 * Landlock's rights by ABI version, from <linux/landlock.h> and landlock(7). All fit in 32 bits, so they are numbers.
 */

/** Rights on files and directories. */
export const FS = {
  execute: 1 << 0,
  writeFile: 1 << 1,
  readFile: 1 << 2,
  readDir: 1 << 3,
  removeDir: 1 << 4,
  removeFile: 1 << 5,
  makeChar: 1 << 6,
  makeDir: 1 << 7,
  makeReg: 1 << 8,
  makeSock: 1 << 9,
  makeFifo: 1 << 10,
  makeBlock: 1 << 11,
  makeSym: 1 << 12,
  /** Rename and link between directories, ABI 2. */
  refer: 1 << 13,
  /** ABI 3. */
  truncate: 1 << 14,
  /** ABI 5. */
  ioctlDev: 1 << 15,
} as const;

/** Rights on TCP ports, ABI 4. */
export const NET = { bindTcp: 1 << 0, connectTcp: 1 << 1 } as const;

/** Scopes, ABI 6. */
export const SCOPE = { abstractUnixSocket: 1 << 0, signal: 1 << 1 } as const;

/** What a Landlock layer of this ABI handles: everything that it can. */
export interface HandledRights {
  readonly fs: number;
  readonly net: number;
  readonly scoped: number;
}

/** The newest ABI that this table knows; a newer kernel is used as though it had this one. */
export const NEWEST_ABI = 7;

export function handledRights(abi: number): HandledRights {
  return {
    fs: abi < 1 ? 0 : ALL_FS & ~LATER.filter(([, since]) => abi < since).reduce((mask, [right]) => mask | right, 0),
    net: abi < 4 ? 0 : NET.bindTcp | NET.connectTcp,
    scoped: abi < 6 ? 0 : SCOPE.abstractUnixSocket | SCOPE.signal,
  };
}

const ALL_FS = (1 << 16) - 1;
const LATER: readonly (readonly [right: number, since: number])[] = [
  [FS.refer, 2],
  [FS.truncate, 3],
  [FS.ioctlDev, 5],
];

/** What a readable tree grants: reading and executing. */
export const READ_TREE = FS.execute | FS.readFile | FS.readDir;

/** What a writable tree grants: everything but device files. */
export const WRITE_TREE = ALL_FS & ~(FS.makeChar | FS.makeBlock);

/** Rights that make sense on something that is not a directory; the kernel refuses a rule with others. */
export const FILE_RIGHTS = FS.execute | FS.writeFile | FS.readFile | FS.truncate | FS.ioctlDev;

/** A device that is read and written as a file, and takes no device commands. */
export const DEVICE_FILE = FS.readFile | FS.writeFile | FS.truncate;
