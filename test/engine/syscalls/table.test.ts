import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { NUMBERS_RELEASE } from "../../../src/engine/syscalls/numbers.js";
import {
  type Arch,
  AUDIT_ARCH,
  archFromAudit,
  isSyscallName,
  syscallFamilies,
  syscallName,
  syscallNumber,
  syscallRows,
  syscallSiblings,
  syscallTreatment,
} from "../../../src/engine/syscalls/table.js";

/** Numbers that a header defines, by the compiler's own preprocessor; undefined where there is none. */
function headerNumbers(header: string, defines: readonly string[] = []): ReadonlyMap<string, number> | undefined {
  const args = ["-E", "-dM", ...defines.map((name) => `-D${name}`), "-include", header, "-x", "c", "/dev/null"];
  const { status, stdout } = spawnSync("cc", args, { encoding: "utf8" });
  if (status !== 0) return undefined;
  const macros = new Map(
    [...stdout.matchAll(/^#define (__NR(?:3264)?_\w+) (\w+)$/gm)].map(([, name, value]) => [name ?? "", value ?? ""]),
  );
  const numbers = new Map<string, number>();
  for (const [macro, value] of macros) {
    const name = /^__NR_(\w+)$/.exec(macro)?.[1];
    const number = Number(macros.get(value) ?? value);
    if (name !== undefined && name !== "syscalls" && name !== "arch_specific_syscall" && Number.isInteger(number)) {
      numbers.set(name, number);
    }
  }
  return numbers;
}

const HEADERS: readonly { arch: Arch; header: string; defines: readonly string[] }[] = [
  { arch: "x86_64", header: "asm/unistd_64.h", defines: [] },
  {
    arch: "aarch64",
    header: "asm-generic/unistd.h",
    defines: [
      "__ARCH_WANT_RENAMEAT",
      "__ARCH_WANT_SET_GET_RLIMIT",
      "__ARCH_WANT_NEW_STAT",
      "__ARCH_WANT_MEMFD_SECRET",
      "__ARCH_WANT_SYS_CLONE3",
    ],
  },
];

/** Of Linux 7.1. */
const HIGHEST = 471;

describe("the table of system calls", () => {
  for (const { arch, header, defines } of HEADERS) {
    it(`has a row, by the same number, for every call of ${arch} that the installed headers know`, function () {
      const numbers = headerNumbers(header, defines);
      if (numbers === undefined) {
        console.error(`skipped: no C compiler or no <${header}>`);
        this.skip();
      }
      assert.ok(numbers.size > 300, `only ${numbers.size} calls found in <${header}>`);
      for (const [name, number] of numbers) assert.equal(syscallNumber(arch, name), number, name);
    });

    it(`leaves no gap in ${arch} but those that the kernel leaves`, () => {
      const taken = new Set(syscallRows(arch).map(({ number }) => number));
      const gaps: readonly (readonly [number, number])[] =
        arch === "x86_64" ? [[337, 423]] : [[244, 259], [295, 423]]; // biome-ignore format: pairs
      for (let number = 0; number <= HIGHEST; number += 1) {
        const isGap = gaps.some(([first, last]) => first <= number && number <= last);
        assert.equal(taken.has(number), !isGap, `${number}`);
      }
      assert.equal(Math.max(...taken), HIGHEST);
    });

    it(`names each number of ${arch} once, both ways`, () => {
      const rows = syscallRows(arch);
      assert.equal(new Set(rows.map(({ number }) => number)).size, rows.length);
      for (const { name, number } of rows) {
        assert.equal(syscallName(arch, number), name);
        assert.equal(syscallNumber(arch, name), number);
      }
    });
  }

  it("knows the calls that are newer than most headers", () => {
    assert.equal(NUMBERS_RELEASE, "7.1");
    const newer = { setxattrat: 463, removexattrat: 466, open_tree_attr: 467, file_getattr: 468, file_setattr: 469 };
    const newest = { listns: 470, rseq_slice_yield: 471 };
    for (const [name, number] of Object.entries({ ...newer, ...newest, mseal: 462, statmount: 457 })) {
      assert.equal(syscallNumber("x86_64", name), number, name);
      assert.equal(syscallNumber("aarch64", name), number, name);
    }
  });

  it("has no call of one architecture on the other", () => {
    assert.equal(syscallNumber("x86_64", "open"), 2);
    assert.equal(syscallNumber("aarch64", "open"), undefined);
    assert.equal(syscallNumber("x86_64", "toString"), undefined);
    assert.equal(syscallName("x86_64", 400), undefined);
    assert.ok(isSyscallName("open"));
    assert.ok(!isSyscallName("opn"));
  });

  it("knows siblings both ways, each of one family", () => {
    const seen = new Set<string>();
    for (const family of syscallFamilies()) {
      for (const name of family) {
        assert.ok(!seen.has(name), `${name} is of two families`);
        seen.add(name);
      }
    }
    assert.deepEqual(syscallSiblings("creat"), ["open", "openat", "creat", "openat2"]);
    assert.deepEqual(syscallSiblings("getpid"), ["getpid"]);
    for (const { name } of syscallRows("x86_64")) {
      for (const sibling of syscallSiblings(name)) {
        assert.deepEqual(syscallSiblings(sibling), syscallSiblings(name));
        assert.notEqual(syscallTreatment(sibling), undefined);
      }
    }
  });

  it("recognises its architectures by what the kernel reports, sign or no sign", () => {
    assert.equal(archFromAudit(AUDIT_ARCH.x86_64), "x86_64");
    assert.equal(archFromAudit(AUDIT_ARCH.aarch64 | 0), "aarch64");
    assert.equal(archFromAudit(0x40000003), undefined); // i386
  });
});
