import assert from "node:assert/strict";
import { createJudge } from "../../../src/sandbox/engine/sandbox.js";
import type { CallMatch, Grant } from "../../../src/sandbox/model.js";
import type { EnginePolicy } from "../../../src/sandbox/policy/engine-policy.js";
import { fileCall } from "./support.js";

const everyCall: CallMatch = {
  syscalls: [],
  categories: [],
  paths: [],
  writesOnly: false,
  destinations: [],
  executables: [],
  programs: [],
  arguments: [],
};

function judgeWith(grant: Partial<Grant>, ended: string[] = []) {
  // The judge looks at nothing else of a policy.
  const policy: Pick<EnginePolicy, "rules" | "triggers"> = {
    rules: [],
    triggers: [{ syscalls: ["openat"], categories: [], match: undefined, requiredIntegrity: undefined }],
  };
  const judge = createJudge(policy as EnginePolicy, {
    used: () => undefined,
    ended: (grantId) => ended.push(grantId),
  });
  judge.addGrant({
    grantId: "grant-1",
    sandboxId: "box",
    executable: undefined,
    match: everyCall,
    settlement: { kind: "allow" },
    expireTimeMs: undefined,
    maxUses: 0,
    ...grant,
  });
  return judge;
}

const byGrant = (settlement: Grant["settlement"]) => ({
  kind: "settled",
  settlement,
  source: "grant",
  sourceName: "grant-1",
});
const asked = { kind: "ask", rule: "" };

describe("a remembered verdict", () => {
  it("allows calls that it matches, but none whose arguments the program can still change", () => {
    const judge = judgeWith({});
    assert.deepEqual(judge.judge(fileCall(1), 0), byGrant({ kind: "allow" }));
    assert.deepEqual(judge.judge(fileCall(2, { integrity: "racy" }), 0), asked);
  });

  it("refuses those too", () => {
    const judge = judgeWith({ settlement: { kind: "deny", errno: 13 } });
    assert.deepEqual(judge.judge(fileCall(1, { integrity: "racy" }), 0), byGrant({ kind: "deny", errno: 13 }));
  });

  it("for the same call holds for an equal one and no other", () => {
    const judge = judgeWith({ match: { sameCall: fileCall(1, { path: "/one" }) } });
    assert.deepEqual(judge.judge(fileCall(2, { path: "/one" }), 0), byGrant({ kind: "allow" }));
    assert.deepEqual(judge.judge(fileCall(3, { path: "/two" }), 0), asked);
  });

  it("for an executable holds for processes that run it, and for no other", () => {
    const judge = judgeWith({ executable: Buffer.from("/usr/bin/cp") });
    const by = (executable: string) => {
      const call = fileCall(1);
      return { ...call, task: { ...call.task, executable: Buffer.from(executable) } };
    };
    assert.deepEqual(judge.judge(by("/usr/bin/cp"), 0), byGrant({ kind: "allow" }));
    for (const other of ["/usr/bin/cpio", "/usr/bin/cp (deleted)", "/usr/bin/c", ""]) {
      assert.deepEqual(judge.judge(by(other), 0), asked, other);
    }
  });

  it("ends with its time and with its last use, and is asked about again", () => {
    const ended: string[] = [];
    const timed = judgeWith({ expireTimeMs: 100 }, ended);
    assert.deepEqual(timed.judge(fileCall(1), 99), byGrant({ kind: "allow" }));
    assert.deepEqual(timed.judge(fileCall(1), 100), asked);
    const counted = judgeWith({ maxUses: 1 }, ended);
    assert.deepEqual(counted.judge(fileCall(1), 0), byGrant({ kind: "allow" }));
    assert.deepEqual(counted.judge(fileCall(1), 0), asked);
    assert.deepEqual(ended, ["grant-1", "grant-1"]);
  });
});
