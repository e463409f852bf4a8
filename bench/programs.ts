import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type SandgateClient, Transport } from "../src/client/client.js";
import { startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";

const SOURCES = 10;
const FUNCTIONS = 40;
const TESTS = 20;
const PACKED_FILES = 10_000;
const PER_DIRECTORY = 100;
const ROUNDS = 3;

interface Task {
  readonly figure: string;
  readonly limit: number;
  readonly argv: readonly string[];
  /** Before each run, outside of its time. */
  readonly before: () => void;
}

/** A C build, a test run in Python, and packing and unpacking many files, under a static policy of files and network. */
export async function programsBench(): Promise<Row[]> {
  const directory = mkdtempSync(join(tmpdir(), "sandgate-bench-"));
  try {
    const tasks = prepare(directory);
    await using server = await startBenchServer("sandgate");
    const client = server.client();
    const rows: Row[] = [];
    for (const task of tasks) rows.push(await measure(client, directory, task));
    return rows;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(client: SandgateClient, directory: string, { figure, limit, argv, before }: Task): Promise<Row> {
  const env = {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    HOME: directory,
    LANG: "C.UTF-8",
    TMPDIR: join(directory, "tmp"),
  };
  const [program = "", ...args] = argv;
  const bare: number[] = [];
  const ours: number[] = [];
  const cpu = { bareMs: 0, oursMs: 0 };
  // The first round warms caches up and is not counted.
  for (let round = 0; round <= ROUNDS; round++) {
    before();
    const bareCpuStart = childrenCpuMs();
    const bareMs = await timed(async () => {
      const { status, stderr } = spawnSync(program, args, { env, cwd: directory, encoding: "utf8" });
      if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
    });
    const bareCpuMs = childrenCpuMs() - bareCpuStart;
    before();
    let oursCpuMs = 0;
    const oursMs = await timed(async () => {
      oursCpuMs = await runInside(client, directory, argv, env);
    });
    if (round === 0) continue;
    cpu.bareMs += bareCpuMs;
    cpu.oursMs += oursCpuMs;
    bare.push(bareMs);
    ours.push(oursMs);
  }
  // Which says more than the clock where other programs take part of the machine.
  const note = `processor time ${(cpu.oursMs / Math.max(cpu.bareMs, 1)).toFixed(2)} ×`;
  return { figure, unit: "ms", bare: median(bare), ours: median(ours), limit, note };
}

/** Of all children that ended, with theirs; in steps of 10 ms. proc(5), fields 16 and 17. */
function childrenCpuMs(): number {
  const fields = readFileSync("/proc/self/stat", "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

/** Gives the processor time of the program and of what it waited for, in milliseconds. */
async function runInside(
  client: SandgateClient,
  directory: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const spec = {
    filesystem: { writable: [directory] },
    // A host in a rule: the engine judges each connect.
    network: { allow: [{ transport: Transport.TCP, host: "127.0.0.1", ports: [{ first: 9 }] }] },
  };
  let output = "";
  const process_ = { argv: [...argv], env: { ...env }, clearEnv: true, cwd: directory };
  for await (const { part } of client.sandbox.run({ spec, process: process_ })) {
    if (part.case === "output") output += Buffer.from(part.value.data).toString();
    if (part.case !== "result") continue;
    const result = part.value.exit?.result;
    if (result?.case !== "code" || result.value !== 0) throw new Error(`${argv[0]} failed inside: ${output}`);
    const { seconds = 0n, nanos = 0 } = part.value.exit?.usage?.cpuTime ?? {};
    return Number(seconds) * 1000 + nanos / 1e6;
  }
  throw new Error(`${argv[0]} ended without a result`);
}

async function timed(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

function prepare(directory: string): Task[] {
  for (const name of ["project", "tests", "many", "unpacked", "tmp"]) mkdirSync(join(directory, name));
  writeProject(join(directory, "project"));
  writeTests(join(directory, "tests"));
  for (let i = 0; i < PACKED_FILES; i++) {
    const below = join(directory, "many", `${Math.floor(i / PER_DIRECTORY)}`);
    if (i % PER_DIRECTORY === 0) mkdirSync(below);
    writeFileSync(join(below, `${i}`), `file ${i}\n`.repeat(40));
  }
  const archive = join(directory, "many.tar");
  execFileSync("tar", ["cf", archive, "many"], { cwd: directory });
  const unpacked = join(directory, "unpacked");
  return [
    {
      figure: `C build, ${SOURCES} files with make`,
      limit: 1.1,
      argv: ["/usr/bin/make", "-s", "-C", "project", "all"],
      before: () => void spawnSync("make", ["-s", "-C", join(directory, "project"), "clean"]),
    },
    {
      figure: `Python test run, ${TESTS} test files`,
      limit: 1.1,
      argv: ["/usr/bin/python3", "-m", "unittest", "discover", "-q", "-s", "tests"],
      before: () => undefined,
    },
    {
      figure: `packing ${PACKED_FILES} files with tar`,
      limit: 1.15,
      argv: ["/usr/bin/tar", "cf", "packed.tar", "many"],
      before: () => rmSync(join(directory, "packed.tar"), { force: true }),
    },
    {
      figure: `unpacking ${PACKED_FILES} files with tar`,
      limit: 1.3,
      argv: ["/usr/bin/tar", "xf", archive, "-C", "unpacked"],
      before() {
        rmSync(unpacked, { recursive: true });
        mkdirSync(unpacked);
      },
    },
  ];
}

function writeProject(project: string): void {
  const names = Array.from({ length: SOURCES }, (_, index) => `unit${index}`);
  for (const name of names) {
    const functions = Array.from(
      { length: FUNCTIONS },
      (_, index) =>
        `int ${name}_${index}(int n) { char b[64]; return snprintf(b, sizeof(b), "%d", n * ${index}) + n; }`,
    );
    writeFileSync(join(project, `${name}.c`), `#include <stdio.h>\n#include <stdlib.h>\n${functions.join("\n")}\n`);
  }
  writeFileSync(join(project, "main.c"), "int unit0_1(int);\nint main(void) { return unit0_1(1) < 0; }\n");
  const objects = [...names, "main"].map((name) => `${name}.o`).join(" ");
  writeFileSync(
    join(project, "Makefile"),
    `all: program\nprogram: ${objects}\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\nclean:\n\trm -f program *.o\n`,
  );
}

function writeTests(tests: string): void {
  for (let i = 0; i < TESTS; i++) {
    const lines = [
      "import json, os, tempfile, unittest",
      "class Case(unittest.TestCase):",
      ...Array.from({ length: 20 }, (_, index) =>
        [
          `    def test_${index}(self):`,
          "        with tempfile.TemporaryDirectory() as d:",
          `            p = os.path.join(d, "${index}")`,
          '            with open(p, "w") as f: json.dump({"n": list(range(500))}, f)',
          '            with open(p) as f: self.assertEqual(len(json.load(f)["n"]), 500)',
        ].join("\n"),
      ),
    ];
    writeFileSync(join(tests, `test_${i}.py`), `${lines.join("\n")}\n`);
  }
}
