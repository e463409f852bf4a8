import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { pino } from "pino";
import { createJournal } from "../../src/sandbox/journal/journal.js";
import type { DomainEvent } from "../../src/sandbox/model.js";
import { openEventFile } from "../../src/service/event-file.js";
import { startService } from "../../src/service/main.js";
import { temporaryDirectory } from "../cli/command.js";
import { run, startTestService } from "../support/service.js";

const rotation = { maxBytes: 1 << 20, keep: 2, sync: "rotation" } as const;

const happening = (limit: string, tenant = "local"): DomainEvent => ({
  timeMs: 1,
  sandboxId: "box",
  tenant,
  labels: new Map(),
  task: undefined,
  body: { kind: "limit_reached", limit, action: "" },
});

function linesOf(path: string): Record<string, unknown>[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

describe("the event file", () => {
  it("has a line for each event of each sandbox, in the form of the API, which only its owner may read", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "events.jsonl");
    {
      await using service = await startTestService({ eventFile: { path, ...rotation } });
      await run(service.client, { process: { argv: ["/bin/true"] } });
    }
    const lines = linesOf(path);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const started = lines.find(({ processStarted }) => processStarted !== undefined);
    assert.deepEqual(started?.processStarted, { program: { text: "/bin/true" }, argv: [{ text: "/bin/true" }] });
    assert.deepEqual(
      lines.map(({ sequence }) => sequence),
      lines.map((_, at) => String(at + 1)),
    );
    for (const { cursor, sequence } of lines) assert.match(String(cursor), new RegExp(`^[-0-9a-f]{36}:${sequence}$`));
    const states = lines.flatMap(
      (line) => (line.sandboxChanged as { sandbox: { state: string } } | undefined)?.sandbox.state ?? [],
    );
    assert.equal(states.at(-1), "SANDBOX_STATE_ENDED", "the last event was not written");
  });

  it("keeps the service from starting when it cannot be written", async () => {
    using directory = temporaryDirectory();
    mkdirSync(join(directory.path, "events.jsonl"));
    await assert.rejects(
      startService({
        log: pino({ level: "silent" }),
        eventFile: { path: join(directory.path, "events.jsonl"), ...rotation },
      }),
      /cannot write events to .*events.jsonl: /,
    );
  });

  it("counts what a disk was too slow for or refused, and says it in the file and once in the log", async () => {
    using directory = temporaryDirectory();
    const inside = join(directory.path, "inside");
    mkdirSync(inside);
    const path = join(inside, "events.jsonl");
    const logged: string[] = [];
    const log = pino({}, { write: (text: string) => void logged.push(text) });
    const journal = createJournal({ epoch: "run", maxEvents: 100, snapshot: () => [] });
    const file = await openEventFile(journal, log, { path, ...rotation, maxBytes: 1 });
    // More than the journal keeps, in one turn, in which nothing can be written.
    for (let at = 0; at < 250; at++) journal.append(happening(String(at), at % 2 === 0 ? "local" : "other"));
    await until(() => file.counts().written + file.counts().dropped === 250);
    assert.ok(file.counts().dropped >= 150);
    execFileSync("mv", [inside, join(directory.path, "moved")]);
    const before = file.counts().dropped;
    journal.append(happening("no directory"));
    await until(() => file.counts().dropped === before + 1);
    journal.append(happening("still none"));
    await until(() => file.counts().dropped === before + 2);
    mkdirSync(inside);
    journal.append(happening("again"));
    await file.close(5000);
    assert.deepEqual([file.counts().written + file.counts().dropped, logged.length], [253, 1]);
    const [last] = linesOf(path);
    assert.deepEqual((last as { limitReached: unknown }).limitReached, { limit: "again" });
    rmSync(join(directory.path, "moved"), { recursive: true });
  });

  it("says in the file how many events of which kind were too many", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "events.jsonl");
    const journal = createJournal({ epoch: "run", maxEvents: 100, snapshot: () => [] });
    const file = await openEventFile(journal, pino({ level: "silent" }), { path, ...rotation });
    for (let at = 0; at < 250; at++) journal.append(happening(String(at)));
    await file.close(5000);
    const lines = linesOf(path);
    const gap = lines.find((line) => "gap" in line)?.gap as { lost: string; lostByKind: unknown } | undefined;
    assert.equal(Number(gap?.lost) + lines.length - 1, 250);
    assert.deepEqual(gap?.lostByKind, { 25: gap?.lost });
    assert.equal(file.counts().dropped, Number(gap?.lost));
  });
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}
