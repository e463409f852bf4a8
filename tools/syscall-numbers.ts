/**
 * Makes `src/engine/syscalls/numbers.ts` from the kernel's own tables, for a new release:
 *
 *   node dist/tools/syscall-numbers.js 7.1 LINUX/arch/x86/entry/syscalls/syscall_64.tbl LINUX/scripts/syscall.tbl \
 *     > src/engine/syscalls/numbers.ts
 *
 * A call that is new then has no row in `table.ts`, and the module does not load until somebody gave it one.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The ABIs that the kernel's own makefiles take for each architecture: arch/x86/entry/syscalls/Makefile, arch/arm64/kernel/Makefile.syscalls. */
const X86_64_ABIS = ["common", "64"];
const AARCH64_ABIS = ["common", "64", "renameat", "rlimit", "memfd_secret"];
/** In the generic headers up to 6.10, and in no table since: never implemented, but known by its number. */
const AARCH64_FORMER: readonly (readonly [string, number])[] = [["nfsservctl", 42]];

const LINE_WIDTH = 118;

/** Name and number of each call of a `.tbl` file: number, ABI, name and entry points, one call a line. */
export function parseTable(text: string, abis: readonly string[]): (readonly [string, number])[] {
  return text.split("\n").flatMap((line) => {
    const [number, abi, name] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (number === undefined || abi === undefined || name === undefined || !abis.includes(abi)) return [];
    return [[name, Number(number)] as const];
  });
}

function formatTable(name: string, calls: readonly (readonly [string, number])[]): string {
  const lines: string[] = [];
  let line = " ";
  for (const [call, number] of [...calls].sort(([, one], [, other]) => one - other)) {
    const entry = ` ${call}: ${number},`;
    if (line.length + entry.length > LINE_WIDTH) {
      lines.push(line);
      line = " ";
    }
    line += entry;
  }
  lines.push(line);
  return [
    "// biome-ignore format: a table by number",
    `export const ${name}: Readonly<Record<string, number>> = {`,
    ...lines,
    "};",
  ].join("\n");
}

/** The module's text, from the text of both tables. */
export function numbersModule(release: string, x86: string, generic: string): string {
  return `/**
 * Numbers of the system calls of Linux ${release}, from arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl.
 * Made by tools/syscall-numbers.ts, which says how; not to be edited.
 */

/** The kernel release that the numbers are from. */
export const NUMBERS_RELEASE = "${release}";

${formatTable("X86_64", parseTable(x86, X86_64_ABIS))}

${formatTable("AARCH64", [...parseTable(generic, AARCH64_ABIS), ...AARCH64_FORMER])}
`;
}

function main([release, x86, generic]: readonly string[]): void {
  if (release === undefined || x86 === undefined || generic === undefined) {
    process.stderr.write("usage: syscall-numbers RELEASE syscall_64.tbl syscall.tbl\n");
    process.exitCode = 2;
    return;
  }
  process.stdout.write(numbersModule(release, readFileSync(x86, "utf8"), readFileSync(generic, "utf8")));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
