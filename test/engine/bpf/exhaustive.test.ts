/** The filters that the compiler can make, over every number and the arguments that could make a difference. */
import assert from "node:assert/strict";
import { BPF, DATA, type Instruction } from "../../../src/engine/bpf/assemble.js";
import {
  buildFilter,
  CONNECT_CALLS,
  EXEC_CALLS,
  type FilterPolicy,
  HOLDABLE,
  INJECTABLE,
  OPEN_CALLS,
} from "../../../src/engine/bpf/filter.js";
import { ACTION } from "../../../src/engine/bpf/tree.js";
import {
  type Arch,
  AUDIT_ARCH,
  syscallFamilies,
  syscallName,
  syscallNumber,
  syscallTreatment,
} from "../../../src/engine/syscalls/table.js";
import { decodeProgram, evaluate, isConstantAllow } from "../../support/evaluate.js";
import { heldOutcome, type Outcome, type Registers, STATEMENTS } from "./statement.js";

const ENOSYS = 38;
const X32_BIT = 0x40000000;

/** Each field of a policy with all that it can be: a new field must be added here. */
const VALUES: { readonly [Field in keyof FilterPolicy]: readonly FilterPolicy[Field][] } = {
  arch: ["x86_64", "aarch64"],
  tcp: [false, true],
  udp: [false, true],
  icmp: [false, true],
  unix: [false, true],
  listen: ["refuse", "engine", "allow"],
  sends: ["allow", "engine"],
  metadata: ["refuse", "engine", "allow"],
  watch: ["refuse", "engine", "allow"],
  processes: ["nobody", "engine"],
  checkpointable: [false, true],
  memoryFiles: [false, true],
  paths: [false, true],
  holdOpen: ["none", "writes", "all"],
  notified: [
    new Set<string>(),
    new Set(EXEC_CALLS),
    new Set(CONNECT_CALLS),
    new Set(HOLDABLE.filter((name) => !OPEN_CALLS.includes(name))),
  ],
};

const FIELDS = Object.keys(VALUES).filter((field) => field !== "arch") as (keyof FilterPolicy)[];

function endsOf(arch: Arch): FilterPolicy[] {
  return [0, -1].map(
    (end) =>
      Object.fromEntries(
        Object.entries({ ...VALUES, arch: [arch] }).map(([field, values]) => [field, values.at(end)]),
      ) as unknown as FilterPolicy,
  );
}

function variants(base: FilterPolicy, field: keyof FilterPolicy): FilterPolicy[] {
  return VALUES[field].map((value) => ({ ...base, [field]: value }) as FilterPolicy);
}

/**
 * Shapes that differ in two fields from the tightest or the widest one: all that any rule can tell apart, since none
 * looks at more than four fields of two values.
 */
function shapes(arch: Arch): FilterPolicy[] {
  return endsOf(arch).flatMap((base) =>
    FIELDS.flatMap((one, index) =>
      FIELDS.slice(index + 1).flatMap((other) => variants(base, one).flatMap((shape) => variants(shape, other))),
    ),
  );
}

/** Shapes that differ in one field from the tightest or the widest one. */
function neighbours(arch: Arch): FilterPolicy[] {
  return endsOf(arch).flatMap((base) => [base, ...FIELDS.flatMap((field) => variants(base, field))]);
}

function outcomeOf(action: number): Outcome {
  if (action === ACTION.allow) return "allow";
  if (action === ACTION.notify) return "notify";
  if (action === ACTION.killProcess) return "kill";
  assert.equal(action & 0xffff0000, 0x00050000, `action ${action.toString(16)}`);
  return action & 0xffff;
}

function registersOf(args: readonly bigint[]): Registers {
  const value = (index: number): bigint => args[index] ?? 0n;
  return { low: (index) => Number(value(index) & 0xffffffffn), high: (index) => Number(value(index) >> 32n) };
}

function expected(policy: FilterPolicy, nr: number, args: readonly bigint[]): Outcome {
  if (nr >= X32_BIT && nr !== 0xffffffff && policy.arch === "x86_64") return "kill";
  const name = syscallName(policy.arch, nr);
  const treatment = name === undefined ? undefined : syscallTreatment(name);
  if (name === undefined || treatment === undefined) return ENOSYS;
  if (treatment.kind === "errno") {
    const isInjectable = policy.checkpointable && INJECTABLE.some(({ syscall }) => syscall === name);
    return isInjectable ? "notify" : treatment.errno;
  }
  const registers = registersOf(args);
  if (treatment.kind === "registers") {
    const statement = STATEMENTS[name];
    assert.ok(statement, `${name} is judged by registers, but statement.ts says nothing of it`);
    const outcome = statement(registers, policy);
    if (outcome !== "allow") return outcome;
  }
  return heldOutcome(name, registers, policy);
}

/** What the instructions that one number can reach load and compare: argument offsets and constants. */
function interesting(program: readonly Instruction[], arch: number, nr: number): { args: number[]; values: number[] } {
  const args = new Set<number>();
  const values = new Set<number>();
  const seen = new Set<number>();
  const visit = (start: number, known: number | undefined): void => {
    let accumulator = known;
    for (let at = start; ; at += 1) {
      const instruction = program[at];
      if (instruction === undefined || (accumulator === undefined && seen.has(at))) return;
      if (accumulator === undefined) seen.add(at);
      const { code, jt, jf, k } = instruction;
      if (code === BPF.return) return;
      if (code === BPF.loadWord) {
        accumulator = k === DATA.nr ? nr : k === DATA.arch ? arch : undefined;
        if (k >= DATA.args) args.add(Math.floor((k - DATA.args) / 8));
      } else if (code === BPF.jump) at += k;
      else if (code === BPF.and) values.add(k);
      else if (accumulator !== undefined) {
        const holds = code === BPF.jumpEqual ? accumulator === k : code === BPF.jumpAtLeast && accumulator >= k;
        at += holds ? jt : jf;
      } else {
        values.add(k);
        visit(at + 1 + jt, undefined);
        at += jf;
      }
    }
  };
  visit(0, undefined);
  return { args: [...args], values: [...values] };
}

const BASES: readonly bigint[] = [0n, 1n, 2n, 0x7fff_0000_1000n, (1n << 64n) - 1n];

function boundaries(values: readonly number[]): bigint[] {
  const found = new Set<bigint>(BASES);
  for (const value of values) {
    for (const low of [value - 1, value, value + 1, ~value]) {
      const word = BigInt(low >>> 0);
      found.add(word);
      found.add(word | (1n << 32n));
      found.add(word | (0xffffffffn << 32n));
    }
  }
  return [...found];
}

/** Each argument in turn takes every value, while the others hold one of a few; then pairs of those looked at. */
function* vectors(args: readonly number[], values: readonly number[]): Generator<bigint[]> {
  const all = boundaries(values);
  for (const base of BASES) {
    for (const arg of args) {
      for (const value of all) yield Array.from({ length: 6 }, (_, index) => (index === arg ? value : base));
    }
  }
  const few = [...BASES, ...values.map((value) => BigInt(value >>> 0))];
  for (const [index, one] of args.entries()) {
    for (const other of args.slice(index + 1)) {
      for (const first of few) {
        for (const second of few) {
          const vector = [0n, 0n, 0n, 0n, 0n, 0n];
          vector[one] = first;
          vector[other] = second;
          yield vector;
        }
      }
    }
  }
}

const NUMBERS = [
  ...Array.from({ length: 1200 }, (_, nr) => nr),
  ...[0x3fffffff, X32_BIT, X32_BIT + 1, X32_BIT + 521, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff],
];

for (const arch of ["x86_64", "aarch64"] as const) {
  const audit = AUDIT_ARCH[arch];

  describe(`every filter for ${arch}`, function () {
    this.timeout(120_000);

    it("answers every number as the table says, whatever else the policy grants and holds", () => {
      const none = [0n, 0n, 0n, 0n, 0n, 0n];
      const ones = none.map(() => (1n << 64n) - 1n);
      for (const policy of shapes(arch)) {
        const program = decodeProgram(buildFilter(policy).program);
        for (const nr of NUMBERS) {
          if (isConstantAllow(program, audit, nr)) {
            assert.equal(expected(policy, nr, none), "allow", `${nr}`);
            continue;
          }
          for (const args of [none, ones]) {
            const outcome = outcomeOf(evaluate(program, { arch: audit, nr, args }));
            if (outcome !== expected(policy, nr, args)) {
              assert.equal(outcome, expected(policy, nr, args), `${syscallName(arch, nr) ?? nr} of ${show(policy)}`);
            }
          }
        }
        assert.equal(evaluate(program, { arch: 0x40000003, nr: 1 }), ACTION.killProcess);
      }
    });

    it("judges arguments as the statements say, at every boundary and with the high bits set", () => {
      let runs = 0;
      for (const policy of neighbours(arch)) {
        const program = decodeProgram(buildFilter(policy).program);
        for (const nr of NUMBERS) {
          const { args, values } = interesting(program, audit, nr);
          for (const vector of vectors(args, values)) {
            const outcome = outcomeOf(evaluate(program, { arch: audit, nr, args: vector }));
            const wanted = expected(policy, nr, vector);
            runs += 1;
            if (outcome === wanted) continue;
            const call = `${syscallName(arch, nr) ?? nr}(${vector.map((value) => value.toString(16)).join(", ")})`;
            assert.equal(outcome, wanted, `${call} of ${show(policy)}`);
          }
        }
      }
      assert.ok(runs > 100_000, `only ${runs} calls were tried`);
    });

    it("looks at every argument that a statement looks at", () => {
      const policy: FilterPolicy = neighbours(arch)[0] as FilterPolicy;
      for (const [name, statement] of Object.entries(STATEMENTS)) {
        const nr = syscallNumber(arch, name);
        if (nr === undefined) continue;
        const looked = new Set<number>();
        for (const first of BASES) {
          const note = (index: number): number => {
            looked.add(index);
            return Number(first & 0xffffffffn);
          };
          statement({ low: note, high: note }, policy);
        }
        const { args } = interesting(decodeProgram(buildFilter(policy).program), audit, nr);
        for (const arg of looked) assert.ok(args.includes(arg), `${name} does not look at argument ${arg}`);
      }
    });

    it("treats no call laxer than one that does the same", () => {
      for (const policy of shapes(arch)) {
        const { program, notified } = buildFilter(policy);
        const decoded = decodeProgram(program);
        const isFree = (name: string): boolean => {
          const nr = syscallNumber(arch, name);
          return nr !== undefined && isConstantAllow(decoded, audit, nr);
        };
        const isRefused = (name: string): boolean => {
          const treatment = syscallTreatment(name);
          // ENOSYS sends a program to the call's older sibling on purpose.
          return treatment?.kind === "errno" && treatment.errno !== ENOSYS;
        };
        for (const family of syscallFamilies()) {
          const strict = family.find((name) => isRefused(name) || isHeldWhole(name, notified, policy));
          if (strict === undefined) continue;
          const lax = family.find(isFree);
          assert.equal(lax, undefined, `${lax} passes where ${strict} does not, of ${show(policy)}`);
        }
      }
    });
  });
}

const NAMES_A_PROCESS = /kill$|sigqueueinfo$/;

/** Notified for what the policy asked, and not only for what a restore injects. */
function isHeldWhole(
  name: string,
  notified: readonly string[],
  { checkpointable, notified: held }: FilterPolicy,
): boolean {
  if (checkpointable && INJECTABLE.some(({ syscall }) => syscall === name)) return false;
  // Whom it names is judged, and a descriptor of a process was judged when it was made.
  if (NAMES_A_PROCESS.test(name) && !held.has(name)) return false;
  return notified.includes(name);
}

function show(policy: FilterPolicy): string {
  return JSON.stringify({ ...policy, notified: [...policy.notified] });
}
