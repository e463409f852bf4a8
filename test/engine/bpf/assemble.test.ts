import assert from "node:assert/strict";
import fc from "fast-check";
import { assemble, BPF, type FilterProgram, INSTRUCTION_BYTES } from "../../../src/engine/bpf/assemble.js";
import { ACTION, ALLOW, NOTIFY, refuse, type Tree, whenEqual, whenOneOf } from "../../../src/engine/bpf/tree.js";
import { decodeProgram, evaluate, isConstantAllow } from "../../support/evaluate.js";

const ARCH = 0xc000003e;
const UNKNOWN = refuse(38);

function program(cases: readonly (readonly [number, Tree])[]): FilterProgram {
  return { auditArch: ARCH, x32: true, cases: new Map(cases), otherwise: UNKNOWN };
}

/** What a tree says, without any assembling. */
function follow(tree: Tree, args: readonly bigint[]): number {
  if (tree.kind === "return") return tree.action;
  const value = args[tree.arg] ?? 0n;
  const word = Number((tree.word === "high" ? value >> 32n : value) & 0xffffffffn);
  const compared = (word & tree.mask) >>> 0;
  const holds =
    tree.is === "equal"
      ? compared === tree.value
      : tree.is === "atLeast"
        ? compared >= tree.value
        : (compared & tree.value) !== 0;
  return follow(holds ? tree.yes : tree.no, args);
}

const leaf: fc.Arbitrary<Tree> = fc.constantFrom(ALLOW, NOTIFY, refuse(1), refuse(13));
const word = fc.oneof(fc.constantFrom(0, 1, 2, 0xffffffff, 0x80000000), fc.nat({ max: 0xffffffff }));
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 7, withCrossShrink: true },
    leaf,
    fc.record({
      kind: fc.constant("test" as const),
      arg: fc.nat({ max: 5 }),
      word: fc.constantFrom("low" as const, "high" as const),
      mask: fc.oneof(fc.constant(0xffffffff), word),
      is: fc.constantFrom("equal" as const, "atLeast" as const, "anyBit" as const),
      value: word,
      yes: tie("tree"),
      no: tie("tree"),
    }),
  ),
}));
const argument = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 0xffffffffn, 1n << 32n),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);

describe("the assembler of filters", () => {
  it("gives for any trees, numbers and arguments what the trees say", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: 40 }), tree), { maxLength: 12 }),
        fc.nat({ max: 45 }),
        fc.array(argument, { minLength: 6, maxLength: 6 }),
        (cases, nr, args) => {
          const expected = new Map(cases).get(nr) ?? UNKNOWN;
          assert.equal(evaluate(assemble(program(cases)), { arch: ARCH, nr, args }), follow(expected, args));
        },
      ),
      { numRuns: 300 },
    );
  });

  it("jumps over branches that are longer than 8 bits can say", () => {
    const long = (salt: number): Tree =>
      whenOneOf(
        0,
        Array.from({ length: 600 }, (_, value) => value * 7 + salt),
        ALLOW,
        refuse(salt),
      );
    const built = assemble(program([[1, whenEqual(1, 5, long(1), long(2))], [2, long(3)], [3, NOTIFY]])); // biome-ignore format: pairs
    assert.ok(built.length / INSTRUCTION_BYTES > 1500);
    assert.ok(decodeProgram(built).some(({ code }) => code === BPF.jump));
    const run = (nr: number, ...args: bigint[]) => evaluate(built, { arch: ARCH, nr, args });
    assert.equal(run(1, 8n, 5n), ACTION.allow);
    assert.equal(run(1, 8n, 6n), refuseAction(2));
    assert.equal(run(1, 9n, 5n), refuseAction(1));
    assert.equal(run(1, 9n, 6n), ACTION.allow);
    assert.equal(run(2, BigInt(599 * 7 + 3)), ACTION.allow);
    assert.equal(run(3), ACTION.notify);
    assert.equal(evaluate(built, { arch: 0x40000003, nr: 3 }), ACTION.killProcess);
  });

  it("kills foreign architectures and x32, and lets no number wrap", () => {
    const built = assemble(program([[0, ALLOW], [469, ALLOW]])); // biome-ignore format: pairs
    assert.equal(evaluate(built, { arch: ARCH, nr: 0 }), ACTION.allow);
    for (const arch of [0x40000003, 0xc00000b7, 0, 0xffffffff]) {
      assert.equal(evaluate(built, { arch, nr: 0 }), ACTION.killProcess);
    }
    for (const nr of [0x40000000, 0x40000000 + 469, 0x7fffffff, 0x80000000, 0xfffffffe]) {
      assert.equal(evaluate(built, { arch: ARCH, nr }), ACTION.killProcess, `${nr}`);
    }
    for (const nr of [1, 468, 470, 0x3fffffff, 0xffffffff]) {
      assert.equal(evaluate(built, { arch: ARCH, nr }), refuseAction(38), `${nr}`);
    }
  });

  it("looks at no argument of a call that is allowed whatever its arguments", () => {
    const built = assemble(program([[1, ALLOW], [2, whenEqual(0, 1, ALLOW, ALLOW)], [3, refuse(1)]])); // biome-ignore format: pairs
    assert.ok(isConstantAllow(built, ARCH, 1));
    assert.ok(!isConstantAllow(built, ARCH, 2));
    assert.ok(!isConstantAllow(built, ARCH, 3));
    assert.ok(!isConstantAllow(built, 0x40000003, 1));
  });

  it("refuses a filter that the kernel would not take for its length", () => {
    const values = Array.from({ length: 4200 }, (_, value) => value);
    assert.throws(() => assemble(program([[1, whenOneOf(0, values, NOTIFY, ALLOW)]])), /too long/);
  });
});

describe("the evaluator of filters", () => {
  const instruction = (code: number, jt: number, jf: number, k: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt16LE(code, 0);
    bytes.writeUInt8(jt, 2);
    bytes.writeUInt8(jf, 3);
    bytes.writeUInt32LE(k, 4);
    return bytes;
  };
  const run = (...code: Buffer[]) => evaluate(Buffer.concat(code), { arch: ARCH, nr: 1 });

  it("runs what is sound and refuses what is not", () => {
    assert.equal(run(instruction(BPF.return, 0, 0, ACTION.allow)), ACTION.allow);
    assert.throws(() => evaluate(Buffer.alloc(0), { arch: ARCH, nr: 1 }), RangeError);
    assert.throws(() => evaluate(Buffer.alloc(7), { arch: ARCH, nr: 1 }), RangeError);
    assert.throws(() => run(instruction(BPF.loadWord, 0, 0, 0)), /end with a return/);
    assert.throws(
      () => run(instruction(BPF.jumpEqual, 1, 0, 0), instruction(BPF.return, 0, 0, 0)),
      /leaves the filter/,
    );
    assert.throws(() => run(instruction(BPF.jump, 0, 0, 1), instruction(BPF.return, 0, 0, 0)), /leaves the filter/);
    assert.throws(() => run(instruction(BPF.loadWord, 0, 0, 64), instruction(BPF.return, 0, 0, 0)), /outside/);
    assert.throws(() => run(instruction(BPF.loadWord, 0, 0, 2), instruction(BPF.return, 0, 0, 0)), /outside/);
    assert.throws(() => run(instruction(0x16, 0, 0, 0)), /not one that filters use/); // BPF_RET|BPF_A
  });
});

function refuseAction(errno: number): number {
  const tree = refuse(errno);
  return tree.kind === "return" ? tree.action : 0;
}
