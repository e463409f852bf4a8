/**
 * The rules for calls that name a process by number. The caller, which zero names, is nobody else's business; of any
 * other number only the engine can say whether it is of the sandbox. Without one, what asks passes and what changes does not.
 */
import { constants } from "node:os";
import { ALLOW, NOTIFY, refuse, type Tree, whenAnyBit, whenAtLeast, whenEqual, whenOneOf, whenZero } from "./tree.js";

/** Who says whether a number names a process of the sandbox: nobody, when only the caller's own may be changed. */
export type ProcessJudge = "engine" | "nobody";

const NOT_PERMITTED = refuse(constants.errno.EPERM);

const asks = (judge: ProcessJudge): Tree => (judge === "engine" ? NOTIFY : ALLOW);
const changes = (judge: ProcessJudge): Tree => (judge === "engine" ? NOTIFY : NOT_PERMITTED);

/** Calls whose first argument is the number. */
export function askPidTree(judge: ProcessJudge): Tree {
  return whenEqual(0, 0, ALLOW, asks(judge));
}

export function changePidTree(judge: ProcessJudge): Tree {
  return whenEqual(0, 0, ALLOW, changes(judge));
}

const EVERYBODY = 0xffffffff; // -1

/** kill(2): the caller's own group, and everybody whom the kernel's scope of signals lets it reach, need no look. */
export function killTree(judge: ProcessJudge): Tree {
  return whenOneOf(0, [0, EVERYBODY], ALLOW, asks(judge));
}

/** Setting needs a pointer; to ask, it is null. */
export function limitTree(judge: ProcessJudge): Tree {
  return whenEqual(0, 0, ALLOW, whenZero(2, asks(judge), changes(judge)));
}

/** How the calls of one kind number processes and groups; what they number users by reaches all of a user's. */
export interface WhoNumbers {
  readonly process: number;
  readonly group: number;
}

export const PRIORITY_WHO: WhoNumbers = { process: 0, group: 1 };
export const IO_PRIORITY_WHO: WhoNumbers = { process: 1, group: 2 };

export function askWhoTree(who: WhoNumbers, judge: ProcessJudge): Tree {
  return whoTree(who, asks(judge));
}

export function changeWhoTree(who: WhoNumbers, judge: ProcessJudge): Tree {
  return whoTree(who, changes(judge));
}

function whoTree({ process, group }: WhoNumbers, others: Tree): Tree {
  return whenOneOf(0, [process, group], whenEqual(1, 0, ALLOW, others), NOT_PERMITTED);
}

const FIRST_CPU_CLOCK = 0x80000000;
/** The complement of zero, over the three bits that say which clock. */
const FIRST_OWN_CLOCK = 0xfffffff8;
const PER_THREAD = 4;
const CLOCK_KIND = 3;
const OF_DESCRIPTOR = 3;

/** Clocks that count a process's CPU time have its number in their own. Those of threads are the caller's by the kernel's rule. */
export function clockTree(judge: ProcessJudge): Tree {
  const others = whenAnyBit(
    0,
    PER_THREAD,
    ALLOW,
    whenEqual(0, OF_DESCRIPTOR, ALLOW, asks(judge), { mask: CLOCK_KIND }),
  );
  return whenAtLeast(0, FIRST_OWN_CLOCK, ALLOW, whenAtLeast(0, FIRST_CPU_CLOCK, others, ALLOW));
}

const F_SETOWN = 8;
const F_SETOWN_EX = 15;
const FIOSETOWN = 0x8901;
const SIOCSPGRP = 0x8902;
/** Requests of ioctl(2) that take the number in memory. */
export const OWNER_REQUESTS: readonly number[] = [FIOSETOWN, SIOCSPGRP];

/** Who is signalled about a descriptor. The newer form has the number in memory. */
export function ownerTree(judge: ProcessJudge, otherwise: Tree): Tree {
  return whenEqual(
    1,
    F_SETOWN,
    whenEqual(2, 0, ALLOW, asks(judge)),
    whenEqual(1, F_SETOWN_EX, NOT_PERMITTED, otherwise),
  );
}
