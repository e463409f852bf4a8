/**
 * Assembles a filter: architecture, then the number by binary search, then the tree of that number. Conditional jumps
 * have 8 bits; where a branch is longer, an unconditional jump of 32 bits takes its place, so none can wrap.
 */
import { ACTION, type Tree } from "./tree.js";

export interface FilterProgram {
  /** AUDIT_ARCH value; a call by any other kills the process. */
  readonly auditArch: number;
  /** Numbers from 0x40000000 on are x32's and kill the process, except -1, which no table has. */
  readonly x32: boolean;
  readonly cases: ReadonlyMap<number, Tree>;
  readonly otherwise: Tree;
}

/** struct sock_filter. */
export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** Operation codes of classic BPF that filters use, from <linux/bpf_common.h>. */
export const BPF = {
  loadWord: 0x20,
  and: 0x54,
  jump: 0x05,
  jumpEqual: 0x15,
  jumpAtLeast: 0x35,
  jumpAnyBit: 0x45,
  return: 0x06,
} as const;

/** Offsets in struct seccomp_data. Both architectures are little-endian. */
export const DATA = { nr: 0, arch: 4, args: 16, size: 64 } as const;

export const INSTRUCTION_BYTES = 8;
const KILL_PROCESS = { kind: "return", action: ACTION.killProcess } as const;
const MAX_INSTRUCTIONS = 4096;
const X32_BIT = 0x40000000;
const NO_NUMBER = 0xffffffff;

/** Numbers from `first` up to the next range's share one tree. */
interface Range {
  readonly first: number;
  readonly tree: Tree;
}

export function assemble(program: FilterProgram): Buffer {
  const writer = createWriter();
  let body = search(writer, ranges(program));
  // What the start jumps to must be next to it.
  if (body !== writer.length() - 1) body = writer.jump(body);
  const start: Instruction[] = [
    load(DATA.arch),
    { code: BPF.jumpEqual, jt: 1, jf: 0, k: program.auditArch },
    { code: BPF.return, jt: 0, jf: 0, k: ACTION.killProcess },
    load(DATA.nr),
  ];
  const code = [...start, ...writer.finish()];
  if (code.length > MAX_INSTRUCTIONS) throw new Error(`a filter of ${code.length} instructions is too long`);
  return encode(code);
}

/** Where an instruction stands, counted from the program's end: jumps go forward, so a program is written backwards. */
type Place = number;

interface Writer {
  length(): number;
  /** A return, shared with an earlier-written one that a conditional jump can still reach. */
  give(action: number): Place;
  /** A conditional jump; a target out of its 8 bits' reach is reached through an unconditional one. */
  branch(code: number, value: number, yes: Place, no: Place): Place;
  jump(to: Place): Place;
  load(offset: number, mask: number): Place;
  finish(): Instruction[];
}

const REACH = 255;

function createWriter(): Writer {
  const backwards: Instruction[] = [];
  const returns = new Map<number, Place>();

  function push(instruction: Instruction): Place {
    backwards.push(instruction);
    return backwards.length - 1;
  }

  const writer: Writer = {
    length: () => backwards.length,
    give(action) {
      const known = returns.get(action);
      // Some room is left for what a branch may put between.
      if (known !== undefined && backwards.length - known < REACH - 8) return known;
      const place = push({ code: BPF.return, jt: 0, jf: 0, k: action });
      returns.set(action, place);
      return place;
    },
    jump: (to) => push({ code: BPF.jump, jt: 0, jf: 0, k: backwards.length - 1 - to }),
    branch(code, value, yes, no) {
      // One jump put in between moves the other target one further away.
      const near = (to: Place): Place => (backwards.length - 1 - to < REACH - 1 ? to : writer.jump(to));
      const yesPlace = near(yes);
      const noPlace = near(no);
      const here = backwards.length;
      return push({ code, jt: here - 1 - yesPlace, jf: here - 1 - noPlace, k: value });
    },
    load(offset, mask) {
      if (mask !== 0xffffffff) push({ code: BPF.and, jt: 0, jf: 0, k: mask });
      return push(load(offset));
    },
    finish: () => backwards.reverse(),
  };
  return writer;
}

function ranges(program: FilterProgram): Range[] {
  const found: Range[] = [{ first: 0, tree: program.otherwise }];
  const add = (first: number, tree: Tree) => {
    const last = found[found.length - 1];
    if (last?.first === first) found.pop();
    const before = found[found.length - 1];
    if (before !== undefined && before.tree.kind === "return" && sameReturn(before.tree, tree)) return;
    found.push({ first, tree });
  };
  for (const [number, tree] of [...program.cases].sort(([a], [b]) => a - b)) {
    add(number, tree);
    add(number + 1, program.otherwise);
  }
  if (program.x32) {
    add(X32_BIT, KILL_PROCESS);
    add(NO_NUMBER, program.otherwise);
  }
  return found;
}

function sameReturn(a: Tree, b: Tree): boolean {
  return a.kind === "return" && b.kind === "return" && a.action === b.action;
}

/** The accumulator holds the number throughout. */
function search(writer: Writer, all: readonly Range[]): Place {
  const middle = all[all.length >> 1];
  if (middle === undefined) throw new Error("a filter needs a range");
  if (all.length === 1) return emit(writer, middle.tree, "nr");
  const yes = search(writer, all.slice(all.length >> 1));
  const no = search(writer, all.slice(0, all.length >> 1));
  return writer.branch(BPF.jumpAtLeast, middle.first, yes, no);
}

const JUMPS = { equal: BPF.jumpEqual, atLeast: BPF.jumpAtLeast, anyBit: BPF.jumpAnyBit } as const;

/** `loaded` says what the accumulator holds, so that a word is loaded once for a run of tests. */
function emit(writer: Writer, tree: Tree, loaded: string): Place {
  if (tree.kind === "return") return writer.give(tree.action);
  const wanted = `${tree.arg} ${tree.word} ${tree.mask}`;
  const yes = emit(writer, tree.yes, wanted);
  const no = emit(writer, tree.no, wanted);
  const test = writer.branch(JUMPS[tree.is], tree.value, yes, no);
  if (loaded === wanted) return test;
  // Loads go straight on to the test, which was written just before.
  return writer.load(DATA.args + tree.arg * 8 + (tree.word === "high" ? 4 : 0), tree.mask);
}

function load(offset: number): Instruction {
  return { code: BPF.loadWord, jt: 0, jf: 0, k: offset };
}

function encode(code: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(code.length * INSTRUCTION_BYTES);
  code.forEach((instruction, index) => {
    const at = index * INSTRUCTION_BYTES;
    bytes.writeUInt16LE(instruction.code, at);
    bytes.writeUInt8(instruction.jt, at + 2); // throws instead of wrapping
    bytes.writeUInt8(instruction.jf, at + 3);
    bytes.writeUInt32LE(instruction.k >>> 0, at + 4);
  });
  return bytes;
}
