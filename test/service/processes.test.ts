/** Calls that name a process by number: the sandbox's own are named as anywhere, and there are no others. */
import assert from "node:assert/strict";
import { guestDirectory, guestPath } from "../support/guests.js";
import { hostProcess } from "../support/processes.js";
import { act, type Spec, spawn, startTestService, type TestService } from "../support/service.js";

const CALLS = "affinity scheduler limit priority io-priority clock group signal descriptor".split(" ");

describe("a process that is named by number", () => {
  let service: TestService;
  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  const outcomes = async (spec: Spec, who: string): Promise<Record<string, string>> => {
    const lines = (await act(service.client, spec, "by-number", who)).split("\n");
    return Object.fromEntries(lines.map((line) => line.split(" ") as [string, string]));
  };
  const all = (outcome: string): Record<string, string> => Object.fromEntries(CALLS.map((call) => [call, outcome]));

  for (const [kind, spec] of [
    ["a sandbox", {}],
    ["a sandbox with process ids of its own", { checkpointable: true }],
    [
      "a sandbox that holds some of these calls",
      {
        holds: { triggers: [{ syscalls: ["kill", "setpriority"] }] },
        rules: [{ name: "free", match: { syscalls: ["kill", "setpriority"] }, action: { case: "allow", value: {} } }],
      },
    ],
  ] as const) {
    it(`is the caller itself, its thread or its child, in ${kind}`, async () => {
      for (const who of ["self", "child"]) assert.deepEqual(await outcomes(spec as Spec, who), all("ok"), who);
      // Linux counts the time of processes by such a number, not of threads.
      assert.deepEqual(await outcomes(spec as Spec, "thread"), { ...all("ok"), clock: "ESRCH" });
    });
  }

  it("does not exist outside of the sandbox, whatever is asked", async () => {
    await using host = await hostProcess();
    await using other = await spawn(service.client, { process: { argv: [guestPath("act"), "sleep"] } });
    const unused = 4_194_303; // the highest that there can be
    for (const pid of [host.pid, other.pid, service.service.wardenPid, process.pid, 1, unused]) {
      assert.deepEqual(
        await outcomes({ filesystem: { readable: [guestDirectory] } }, `${pid}`),
        all("ESRCH"),
        `${pid}`,
      );
    }
  });
});
