import assert from "node:assert/strict";
import { pino } from "pino";
import { startService } from "../../src/service/main.js";
import { connectDecider, deny } from "../support/decider.js";
import { run, startTestService } from "../support/service.js";

/** Value of a figure, by its name with its labels as they are written. */
async function figures(address: string): Promise<Map<string, number>> {
  const response = await fetch(`http://${address}/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

describe("the metrics", () => {
  it("count calls by who settled them and how, held ones with their time, launches, calls of the API and events", async () => {
    await using test = await startTestService({ metrics: true });
    const address = await test.service.listenMetrics({ host: "127.0.0.1", port: 0 });
    const decider = await connectDecider(test.client, { judge: () => deny(13) });
    const script =
      "import os\nfor pid in (0, 0, os.getpid()):\n  try: os.kill(pid, 0)\n  except PermissionError: pass\ntry: os.setpriority(0, 0, 0)\nexcept PermissionError: pass";
    await run(test.client, {
      spec: {
        rules: [{ name: "priorities", match: { syscalls: ["setpriority"] }, action: { case: "deny", value: {} } }],
        holds: { triggers: [{ syscalls: ["kill"] }] },
      },
      process: { argv: ["python3", "-c", script] },
    });
    const missing = run(test.client, { process: { argv: ["/no/such/program"] } });
    await assert.rejects(missing);
    // The engine tells its counts a moment later.
    let found = await figures(address);
    while (!found.has('sandgate_calls_settled_total{source="rule",outcome="deny"}')) found = await figures(address);
    const value = (name: string): number | undefined => found.get(name);
    assert.equal(value('sandgate_calls_settled_total{source="decider",outcome="deny"}'), 3);
    assert.equal(value('sandgate_calls_settled_total{source="rule",outcome="deny"}'), 1);
    assert.equal(value('sandgate_held_call_seconds_count{source="decider"}'), 3);
    assert.equal(value('sandgate_events_total{kind="call_settled"}'), 3);
    assert.equal(value('sandgate_spawn_seconds_count{result="started"}'), 1);
    assert.equal(value('sandgate_spawn_seconds_count{result="failed"}'), 1);
    assert.equal(value('sandgate_rpcs_total{method="sandgate.v1.SandboxService/Run",code="OK"}'), 1);
    assert.equal(value('sandgate_rpcs_open{method="sandgate.v1.DecisionService/Decide"}'), 1);
    assert.deepEqual([value("sandgate_deciders"), value("sandgate_held_calls"), value("sandgate_watchers")], [1, 0, 0]);
    assert.ok((value("sandgate_journal_events") ?? 0) > 3);
    assert.ok((value("sandgate_resident_memory_bytes") ?? 0) > 1e6);
    await decider[Symbol.asyncDispose]();
    const failures = [...found].filter(
      ([name]) => name.startsWith("sandgate_rpcs_total") && !name.includes('code="OK"'),
    );
    assert.equal(failures.length, 1);
    assert.match(
      failures[0]?.[0] ?? "",
      /SandboxService\/Run",code="(FAILED_PRECONDITION|NOT_FOUND|INVALID_ARGUMENT)"/,
    );
  });

  it("are served over loopback only unless that was asked for, and nothing else is", async () => {
    await using test = await startTestService({ metrics: true });
    const { service } = test;
    await assert.rejects(service.listenMetrics({ host: "0.0.0.0", port: 0 }), /only loopback addresses are accepted/);
    await assert.rejects(service.listenMetrics({ host: "localhost", port: 0 }), /the host must be an address/);
    const anywhere = await service.listenMetrics({ host: "0.0.0.0", port: 0, allowRemote: true });
    await figures(anywhere.replace("0.0.0.0", "127.0.0.1"));
    const address = await service.listenMetrics({ host: "::1", port: 0 });
    assert.match(address, /^\[::1\]:\d+$/);
    assert.equal((await fetch(`http://${address}/`)).status, 404);
    assert.equal((await fetch(`http://${address}/metrics`, { method: "POST" })).status, 405);
    await assert.rejects(service.listenMetrics({ host: "::1", port: Number(/\d+$/.exec(address)?.[0]) }), /EADDRINUSE/);
  });

  it("are not kept where nobody asked for them", async () => {
    const service = await startService({ log: pino({ level: "silent" }) });
    await assert.rejects(service.listenMetrics({ host: "127.0.0.1", port: 0 }), /without metrics/);
    await service.close(0);
  });
});
