/**
 * Runs an assembled filter on given registers, as the kernel would. For tests and for explaining a verdict; what is
 * enforced is the kernel's own run of the same bytes.
 */
import { BPF, DATA, INSTRUCTION_BYTES, type Instruction } from "../../src/engine/bpf/assemble.js";
import { ACTION } from "../../src/engine/bpf/tree.js";

/** struct seccomp_data without the instruction pointer, which no filter here looks at. */
export interface CallRegisters {
  readonly arch: number;
  readonly nr: number;
  /** Missing ones are zero. */
  readonly args?: readonly bigint[];
}

/** Bytes, or what `decodeProgram` made of them. */
export type Program = Uint8Array | readonly Instruction[];

/** What the filter returns. Throws on anything that the kernel's own check would not accept. */
export function evaluate(program: Program, call: CallRegisters): number {
  const action = run(decoded(program), dataOf(call), () => true);
  if (action === undefined) throw new Error("a load was refused");
  return action;
}

/**
 * Whether the kernel's per-number cache answers this call without running the filter: it follows the program with
 * only the architecture and the number known, and gives up at the first load of anything else.
 */
export function isConstantAllow(program: Program, arch: number, nr: number): boolean {
  const action = run(decoded(program), dataOf({ arch, nr }), (offset) => offset === DATA.nr || offset === DATA.arch);
  return action === ACTION.allow;
}

function decoded(program: Program): readonly Instruction[] {
  return program instanceof Uint8Array ? decodeProgram(program) : program;
}

/** The instructions, each jump proven to land inside and the end proven to be a return. */
export function decodeProgram(program: Uint8Array): Instruction[] {
  const bytes = Buffer.from(program.buffer, program.byteOffset, program.byteLength);
  if (bytes.length === 0 || bytes.length % INSTRUCTION_BYTES !== 0)
    throw new RangeError(`${bytes.length} bytes are no filter`);
  const code: Instruction[] = [];
  for (let at = 0; at < bytes.length; at += INSTRUCTION_BYTES) {
    code.push({
      code: bytes.readUInt16LE(at),
      jt: bytes.readUInt8(at + 2),
      jf: bytes.readUInt8(at + 3),
      k: bytes.readUInt32LE(at + 4),
    });
  }
  for (const [index, instruction] of code.entries()) check(instruction, index, code.length);
  if (code[code.length - 1]?.code !== BPF.return) throw new RangeError("a filter must end with a return");
  return code;
}

function check({ code, jt, jf, k }: Instruction, index: number, length: number): void {
  const inside = (jump: number) => {
    if (index + 1 + jump >= length) throw new RangeError(`the jump at ${index} leaves the filter`);
  };
  switch (code) {
    case BPF.loadWord:
      if (k % 4 !== 0 || k + 4 > DATA.size) throw new RangeError(`the load at ${index} is outside seccomp_data`);
      return;
    case BPF.jump:
      inside(k);
      return;
    case BPF.jumpEqual:
    case BPF.jumpAtLeast:
    case BPF.jumpAnyBit:
      inside(jt);
      inside(jf);
      return;
    case BPF.and:
    case BPF.return:
      return;
    default:
      throw new RangeError(`operation ${code} at ${index} is not one that filters use`);
  }
}

/** Undefined when `mayLoad` forbids a load. */
function run(code: readonly Instruction[], data: Buffer, mayLoad: (offset: number) => boolean): number | undefined {
  let accumulator = 0;
  for (let at = 0; at < code.length; at += 1) {
    const { code: operation, jt, jf, k } = code[at] as Instruction;
    switch (operation) {
      case BPF.loadWord:
        if (!mayLoad(k)) return undefined;
        accumulator = data.readUInt32LE(k);
        break;
      case BPF.and:
        accumulator = (accumulator & k) >>> 0;
        break;
      case BPF.jump:
        at += k;
        break;
      case BPF.jumpEqual:
        at += accumulator === k ? jt : jf;
        break;
      case BPF.jumpAtLeast:
        at += accumulator >= k ? jt : jf;
        break;
      case BPF.jumpAnyBit:
        at += (accumulator & k) !== 0 ? jt : jf;
        break;
      case BPF.return:
        return k;
    }
  }
  throw new RangeError("the filter ran past its end");
}

function dataOf({ arch, nr, args = [] }: CallRegisters): Buffer {
  const data = Buffer.alloc(DATA.size);
  data.writeUInt32LE(nr >>> 0, DATA.nr);
  data.writeUInt32LE(arch >>> 0, DATA.arch);
  args.forEach((value, index) => {
    data.writeBigUInt64LE(BigInt.asUintN(64, value), DATA.args + index * 8);
  });
  return data;
}
