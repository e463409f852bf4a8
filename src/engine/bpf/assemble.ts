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
  const body = search(ranges(program));
  const code: Instruction[] = [
    load(DATA.arch),
    { code: BPF.jumpEqual, jt: 1, jf: 0, k: program.auditArch },
    give(KILL_PROCESS),
    load(DATA.nr),
    ...body,
  ];
  if (code.length > MAX_INSTRUCTIONS) throw new Error(`a filter of ${code.length} instructions is too long`);
  return encode(code);
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
function search(all: readonly Range[]): Instruction[] {
  const middle = all[all.length >> 1];
  if (middle === undefined) throw new Error("a filter needs a range");
  if (all.length === 1) return emit(middle.tree, "nr");
  return branch(
    BPF.jumpAtLeast,
    middle.first,
    search(all.slice(all.length >> 1)),
    search(all.slice(0, all.length >> 1)),
  );
}

const JUMPS = { equal: BPF.jumpEqual, atLeast: BPF.jumpAtLeast, anyBit: BPF.jumpAnyBit } as const;

/** `loaded` says what the accumulator holds, so that a word is loaded once for a run of tests. */
function emit(tree: Tree, loaded: string): Instruction[] {
  if (tree.kind === "return") return [give(tree)];
  const wanted = `${tree.arg} ${tree.word} ${tree.mask}`;
  const code: Instruction[] = [];
  if (loaded !== wanted) {
    code.push(load(DATA.args + tree.arg * 8 + (tree.word === "high" ? 4 : 0)));
    if (tree.mask !== 0xffffffff) code.push({ code: BPF.and, jt: 0, jf: 0, k: tree.mask });
  }
  code.push(...branch(JUMPS[tree.is], tree.value, emit(tree.yes, wanted), emit(tree.no, wanted)));
  return code;
}

function branch(code: number, value: number, yes: readonly Instruction[], no: readonly Instruction[]): Instruction[] {
  if (yes.length <= 255) return [{ code, jt: 0, jf: yes.length, k: value }, ...yes, ...no];
  if (no.length <= 255) return [{ code, jt: no.length, jf: 0, k: value }, ...no, ...yes];
  return [{ code, jt: 1, jf: 0, k: value }, { code: BPF.jump, jt: 0, jf: 0, k: yes.length }, ...yes, ...no];
}

function load(offset: number): Instruction {
  return { code: BPF.loadWord, jt: 0, jf: 0, k: offset };
}

function give(tree: Extract<Tree, { kind: "return" }>): Instruction {
  return { code: BPF.return, jt: 0, jf: 0, k: tree.action };
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
