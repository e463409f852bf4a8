import { dirname } from "node:path";
import type { SandgateClient } from "../src/client/client.js";
import { buildBenchNative } from "./build.js";
import { bareNumber, startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";

const ROUNDS = 7;
const SPAWNS = 400;
const PROGRAM = "/bin/true";

/** A rule that looks at every program and refuses none of those that run here. */
const RULE = {
  name: "no shells",
  match: { programs: ["/**/bash"] },
  action: { case: "deny", value: { errorNumber: 1 } },
} as const;

async function sandboxed(client: SandgateClient, argv: readonly string[], isJudged: boolean): Promise<number> {
  let output = "";
  const rules = isJudged ? [{ ...RULE, match: { programs: [...RULE.match.programs] } }] : [];
  const spec = { filesystem: { readable: [dirname(argv[0] ?? "")] }, rules };
  for await (const { part } of client.sandbox.run({ spec, process: { argv: [...argv] } })) {
    if (part.case === "output") output += Buffer.from(part.value.data).toString();
  }
  return Number(output);
}

/** Spawning inside a sandbox, with and without a rule that judges every execve. */
export async function execBench(): Promise<Row[]> {
  const { spawner } = buildBenchNative();
  await using server = await startBenchServer("sandgate");
  const client = server.client();
  const rows: Row[] = [];
  for (const threads of [1, 4]) {
    const argv = [spawner, "threads", `${threads}`, `${SPAWNS / threads}`, PROGRAM] as const;
    const times = { bare: [] as number[], free: [] as number[], judged: [] as number[] };
    for (let round = 0; round < ROUNDS; round++) {
      times.bare.push(bareNumber(...argv));
      times.free.push(await sandboxed(client, argv, false));
      times.judged.push(await sandboxed(client, argv, true));
    }
    const caller = threads === 1 ? "one thread" : `${threads} threads`;
    const bare = median(times.bare);
    rows.push(
      { figure: `posix_spawn and wait, ${caller}, no rule on execve`, unit: "µs", bare, ours: median(times.free) },
      { figure: `posix_spawn and wait, ${caller}, every execve judged`, unit: "µs", bare, ours: median(times.judged) },
    );
  }
  return rows;
}
