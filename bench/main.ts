/** `npm run bench [-- NAME…]`: every figure beside the bare one of the same run, as a Markdown table. */
import { connectsBench } from "./connects.js";
import { execBench } from "./exec.js";
import { filesBench } from "./files.js";
import { heldBench } from "./held.js";
import { launchBench } from "./launch.js";
import { notifyBench } from "./notify.js";
import { programsBench } from "./programs.js";
import { redisBench } from "./redis.js";
import { formatRow, type Row, TABLE_HEAD } from "./report.js";
import { sleepingBench } from "./sleeping.js";
import { watchBench } from "./watch.js";

const BENCHES: Readonly<Record<string, () => Promise<Row[]>>> = {
  launch: launchBench,
  notify: notifyBench,
  held: heldBench,
  exec: execBench,
  files: filesBench,
  connects: connectsBench,
  programs: programsBench,
  redis: redisBench,
  sleeping: sleepingBench,
  watch: watchBench,
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in BENCHES));
if (unknown.length > 0) {
  console.error(`unknown bench ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}`);
  process.exit(2);
}
console.log(TABLE_HEAD);
for (const [name, bench] of Object.entries(BENCHES)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  for (const row of await bench()) console.log(formatRow(row));
}
