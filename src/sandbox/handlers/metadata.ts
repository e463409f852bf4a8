/** Calls that change what a file is called, owned and dated by: Landlock does not judge them. */

import type { Call } from "../../engine/call.js";
import type { Handler } from "../../engine/loop.js";
import { ACT_VALUE_LIMIT } from "../../native/abi.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import { type ActDetails, type FileShape, fileActHandler } from "./file-act.js";

const EINVAL = 22;
const E2BIG = 7;
const ERANGE = 34;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
/** With its NUL, which makes a longer one stand out. */
const NAME_LIMIT = 256;

// utimensat(2)
const UTIME_NOW = (1n << 30n) - 1n;
const NOW: NonNullable<ActDetails["times"]> = [0n, UTIME_NOW, 0n, UTIME_NOW];
const NANOSECONDS = 1000n;
const MICROSECONDS_PER_SECOND = 1_000_000n;

/** The flags argument of an *at call, checked as the kernel does. */
function atFlags(argument: number): { flags(call: Call): number; check(call: Call): boolean } {
  return {
    flags: (call) => call.int(argument),
    check: (call) => (call.int(argument) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) === 0,
  };
}

function chmodShape(place: Pick<FileShape, "directory" | "path">, modeArg: number, flagsArg?: number): FileShape {
  const at = flagsArg === undefined ? undefined : atFlags(flagsArg);
  return {
    ...place,
    ...(at === undefined ? {} : { flags: at.flags }),
    details(call) {
      if (at?.check(call) === false) return EINVAL;
      const noFollow = at !== undefined && (at.flags(call) & AT_SYMLINK_NOFOLLOW) !== 0;
      return { act: "chmod", mode: call.int(modeArg), noFollow };
    },
  };
}

function chownShape(
  place: Pick<FileShape, "directory" | "path">,
  idsArg: number,
  follow: "always" | "never" | { readonly flagsArg: number },
): FileShape {
  const at = typeof follow === "string" ? undefined : atFlags(follow.flagsArg);
  return {
    ...place,
    ...(at === undefined ? {} : { flags: at.flags }),
    details(call) {
      if (at?.check(call) === false) return EINVAL;
      const noFollow = at === undefined ? follow === "never" : (at.flags(call) & AT_SYMLINK_NOFOLLOW) !== 0;
      return { act: "chown", uid: call.int(idsArg), gid: call.int(idsArg + 1), noFollow };
    },
  };
}

type TimesForm = "timespec" | "timeval" | "seconds";
const TIMES_BYTES: Readonly<Record<TimesForm, number>> = { timespec: 32, timeval: 32, seconds: 16 };

function timesOf(bytes: Buffer, form: TimesForm): NonNullable<ActDetails["times"]> | undefined {
  if (bytes.length === 0) return NOW;
  const word = (index: number): bigint => bytes.readBigInt64LE(index * 8);
  switch (form) {
    case "seconds":
      return [word(0), 0n, word(1), 0n];
    case "timespec":
      return [word(0), word(1), word(2), word(3)];
    case "timeval": {
      const isTime = (micros: bigint): boolean => micros >= 0n && micros < MICROSECONDS_PER_SECOND;
      if (!isTime(word(1)) || !isTime(word(3))) return undefined;
      return [word(0), word(1) * NANOSECONDS, word(2), word(3) * NANOSECONDS];
    }
  }
}

function utimeShape(
  place: Pick<FileShape, "directory" | "path" | "nullIsDescriptor">,
  timesArg: number,
  form: TimesForm,
  flagsArg?: number,
): FileShape {
  const at = flagsArg === undefined ? undefined : atFlags(flagsArg);
  return {
    ...place,
    ...(at === undefined ? {} : { flags: at.flags }),
    shapes: [{ kind: "block", arg: timesArg, limit: TIMES_BYTES[form] }],
    details(call) {
      if (at?.check(call) === false) return EINVAL;
      const copied = call.memory(timesArg);
      if (typeof copied === "number") return copied;
      const times = timesOf(copied.bytes, form);
      if (times === undefined) return EINVAL;
      return { act: "utime", times, noFollow: at !== undefined && (at.flags(call) & AT_SYMLINK_NOFOLLOW) !== 0 };
    },
  };
}

type AttributePlace = Pick<FileShape, "directory" | "path"> & { readonly noFollow?: boolean };

function attributeName(call: Call): Uint8Array | number {
  const name = call.memory(1);
  if (typeof name === "number") return name;
  return name.cut || name.bytes.length === 0 ? ERANGE : name.bytes;
}

function attributeShape(act: "setxattr" | "removexattr", place: AttributePlace): FileShape {
  const { noFollow = false, ...where } = place;
  return {
    ...where,
    shapes: [
      { kind: "string", arg: 1, limit: NAME_LIMIT },
      ...(act === "setxattr" ? [{ kind: "bytes", arg: 2, lengthArg: 3, limit: ACT_VALUE_LIMIT } as const] : []),
    ],
    details(call) {
      const name = attributeName(call);
      if (typeof name === "number") return name;
      if (act === "removexattr") return { act, name, noFollow };
      const value = call.memory(2);
      if (typeof value === "number") return value;
      return value.cut ? E2BIG : { act, name, value: value.bytes, options: call.int(4), noFollow };
    },
  };
}

const byPath = { path: 0 } as const;
const byDescriptor = { directory: 0 } as const;
const atDirectory = { directory: 0, path: 1 } as const;

const SHAPES: Readonly<Record<string, FileShape>> = {
  chmod: chmodShape(byPath, 1),
  fchmod: chmodShape(byDescriptor, 1),
  fchmodat: chmodShape(atDirectory, 2),
  fchmodat2: chmodShape(atDirectory, 2, 3),
  chown: chownShape(byPath, 1, "always"),
  lchown: chownShape(byPath, 1, "never"),
  fchown: chownShape(byDescriptor, 1, "always"),
  fchownat: chownShape(atDirectory, 2, { flagsArg: 4 }),
  utime: utimeShape(byPath, 1, "seconds"),
  utimes: utimeShape(byPath, 1, "timeval"),
  futimesat: utimeShape({ ...atDirectory, nullIsDescriptor: true }, 2, "timeval"),
  utimensat: utimeShape({ ...atDirectory, nullIsDescriptor: true }, 2, "timespec", 3),
  setxattr: attributeShape("setxattr", byPath),
  lsetxattr: attributeShape("setxattr", { ...byPath, noFollow: true }),
  fsetxattr: attributeShape("setxattr", byDescriptor),
  removexattr: attributeShape("removexattr", byPath),
  lremovexattr: attributeShape("removexattr", { ...byPath, noFollow: true }),
  fremovexattr: attributeShape("removexattr", byDescriptor),
};

/** By the name of the call. */
export const metadataHandlers: Readonly<Record<string, (mediator: Mediator) => Handler<EngineSandbox>>> =
  Object.fromEntries(
    Object.entries(SHAPES).map(([name, shape]) => [name, (mediator: Mediator) => fileActHandler(mediator, shape)]),
  );
