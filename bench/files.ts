import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { baselineTrees } from "../src/sandbox/policy/sane.js";
import { buildBenchNative } from "./build.js";
import { bareNumber, startBenchServer } from "./harness.js";
import { median, type Row } from "./report.js";

const FILES = 10_000;
const ROUNDS = 21;

/** Opening, reading and closing files under a static policy, beside Landlock alone. */
export async function filesBench(): Promise<Row[]> {
  const { guest, spawner } = buildBenchNative();
  const directory = mkdtempSync(join(tmpdir(), "sandgate-bench-"));
  try {
    for (let i = 0; i < FILES; i++) writeFileSync(join(directory, `${i}`), "x");
    await using server = await startBenchServer("sandgate");
    const client = server.client();
    // The same trees in as many layers, so that what differs is the filter and the service.
    const trees = [...baselineTrees().map(({ path }) => path), directory, dirname(guest)].join(":");
    const bare: number[] = [];
    const ours: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      bare.push(bareNumber(spawner, "landlock", "2", trees, guest, "files", directory, `${FILES}`));
      let output = "";
      const spec = { filesystem: { readable: [directory] } };
      for await (const { part } of client.sandbox.run({
        spec,
        process: { argv: [guest, "files", directory, `${FILES}`] },
      })) {
        if (part.case === "output") output += Buffer.from(part.value.data).toString();
      }
      ours.push(Number(output));
    }
    return [
      {
        figure: "open, read, close of a file, static policy",
        unit: "ns",
        bare: median(bare),
        ours: median(ours),
        limit: 1.05,
      },
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
