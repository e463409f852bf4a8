import assert from "node:assert/strict";
import { SandboxError } from "../../../src/base/errors.js";
import type { BindRule, NetworkRule, ProcessSpec } from "../../../src/sandbox/model.js";
import { mediationOf } from "../../../src/sandbox/policy/mediation.js";
import { validateProcess, validateSpec } from "../../../src/sandbox/policy/validate.js";
import { ANY_CALL, processOf, ruleOf, type SpecParts, specOf, triggerOf } from "../../support/specs.js";

function refusal(check: () => void): string | undefined {
  try {
    check();
  } catch (error) {
    assert.ok(error instanceof SandboxError, String(error));
    assert.equal(error.code, "invalid_argument");
    assert.ok(error.message.startsWith(`${error.field}: `), error.message);
    return error.reason === "INVALID_FIELD" ? error.field : `${error.reason} ${error.field}`;
  }
  return undefined;
}

function refused(parts: SpecParts): string | undefined {
  const spec = specOf(parts);
  return refusal(() => validateSpec(spec, mediationOf(spec)));
}

function refusedProcess(argv: readonly string[], parts: Partial<ProcessSpec> = {}): string | undefined {
  return refusal(() => validateProcess(processOf(argv, parts)));
}

describe("a spec", () => {
  it("is accepted when it makes sense", () => {
    const asks = { triggers: [triggerOf({ syscalls: ["openat", "connect"] })] };
    assert.equal(refused({}), undefined);
    assert.equal(
      refused({
        filesystem: {
          readable: ["/srv"],
          writable: ["/tmp/x", "/"],
          grantableReadable: ["/home"],
          grantableWritable: ["/var"],
        },
        network: {
          allow: [{ transport: "tcp", host: "10.0.0.0/8", ports: [{ first: 1, last: 65535 }] }],
          deny: [{ transport: "tcp", host: "10.1.0.0/16", ports: [] }],
          grantable: [{ transport: "tcp", host: "", ports: [] }],
          bind: [{ transport: "tcp", address: "", ports: [{ first: 8080, last: 8090 }] }],
        },
        holds: asks,
        rules: [ruleOf("a", { paths: ["/srv/**", "**/x", "**"] }, { kind: "kill", scope: "sandbox", signal: 9 })],
        protections: { mayDegrade: ["landlock_scope", "memory_limit"] },
      }),
      undefined,
    );
  });

  it("names the path that is not absolute, goes up, is cut by a NUL, or is too long", () => {
    for (const path of ["srv", "", "./srv", "/srv/../etc", "/..", "/a\0b", `/${"x".repeat(4096)}`]) {
      assert.equal(
        refused({ filesystem: { readable: ["/ok", path] } }),
        "spec.filesystem.readable[1]",
        path.slice(0, 20),
      );
      assert.equal(refused({ filesystem: { writable: [path] } }), "spec.filesystem.writable[0]");
    }
    assert.equal(refused({ filesystem: { readable: ["/a..b", "/...", "/ok/"] } }), undefined);
  });

  it("names the network rule that cannot be read", () => {
    const rule = (parts: Partial<NetworkRule>): NetworkRule => ({ transport: "tcp", host: "", ports: [], ...parts });
    const field = (parts: Partial<NetworkRule>) => refused({ network: { allow: [rule({}), rule(parts)] } });
    assert.equal(field({ host: "example.org" }), undefined);
    assert.throws(() => field({ host: "*.example.org" }), /unimplemented|not implemented in this version/);
    assert.equal(field({ host: "10.0.0" }), "spec.network.allow[1].host");
    assert.equal(refused({ network: { deny: [rule({ host: "example.org" })] } }), "spec.network.deny[0].host");
    assert.equal(field({ host: "10.0.0.0/40" }), "spec.network.allow[1].host");
    assert.equal(field({ ports: [{ first: 0, last: 80 }] }), "spec.network.allow[1].ports[0]");
    assert.equal(field({ ports: [{ first: 80, last: 79 }] }), "spec.network.allow[1].ports[0]");
    assert.equal(field({ transport: "unix", host: "10.0.0.1" }), "spec.network.allow[1].host");
    assert.equal(field({ transport: "unix", ports: [{ first: 1, last: 1 }] }), "spec.network.allow[1].ports");
    assert.equal(field({ host: "*" }), undefined);
    assert.equal(field({ transport: "icmp", ports: [{ first: 1, last: 1 }] }), "spec.network.allow[1].ports");
    const bind = (parts: Partial<BindRule>) =>
      refused({ network: { bind: [{ transport: "tcp", address: "", ports: [], ...parts }] } });
    assert.equal(bind({ ports: [{ first: 1, last: 70000 }] }), "spec.network.bind[0].ports[0]");
    assert.equal(bind({ ports: [{ first: 1, last: 9000 }] }), undefined);
    assert.equal(bind({ address: "localhost" }), "spec.network.bind[0].address");
    assert.equal(bind({ address: "127.0.0.1" }), undefined);
    assert.equal(bind({ ports: [{ first: 1, last: 65535 }] }), undefined);
  });

  it("names the rule without a name of its own, with an impossible answer, or a pattern that matches nothing", () => {
    const deny = { kind: "deny", errno: 1 } as const;
    assert.equal(refused({ rules: [ruleOf("", {}, deny)] }), "spec.rules[0].name");
    assert.equal(refused({ rules: [ruleOf("a", {}, deny), ruleOf("a", {}, deny)] }), "spec.rules[1].name");
    assert.equal(refused({ rules: [ruleOf("a", {}, { kind: "deny", errno: 0 })] }), "spec.rules[0].deny.error_number");
    assert.equal(
      refused({ rules: [ruleOf("a", {}, { kind: "kill", scope: "process", signal: 65 })] }),
      "spec.rules[0].kill.signal",
    );
    assert.equal(refused({ rules: [ruleOf("a", { paths: ["/x", "*.txt"] }, deny)] }), "spec.rules[0].match.paths[1]");
    assert.equal(refused({ rules: [ruleOf("a", { programs: ["git"] }, deny)] }), "spec.rules[0].match.programs[0]");
    const host = { transport: undefined, host: "nowhere", ports: [] };
    assert.equal(
      refused({ rules: [ruleOf("a", { destinations: [host] }, deny)] }),
      "spec.rules[0].match.destinations[0].host",
    );
    const trigger = triggerOf({ syscalls: ["openat"], match: { ...ANY_CALL, executables: ["python3"] } });
    assert.equal(refused({ holds: { triggers: [trigger] } }), "spec.holds.triggers[0].match.executables[0]");
  });

  it("names the protection that does not exist", () => {
    assert.equal(refused({ protections: { mayDegrade: ["landlock"] } }), "spec.protections.may_degrade[0]");
    assert.equal(refused({ protections: { disabled: ["landlock_fs", ""] } }), "spec.protections.disabled[1]");
  });

  it("holds no call for ever, or for less than a decider is given", () => {
    assert.equal(refused({ holds: { maxHoldMs: 0 } }), "spec.holds.max_hold");
    assert.equal(refused({ holds: { verdictTimeoutMs: 0 } }), "spec.holds.verdict_timeout");
    assert.equal(refused({ holds: { maxHeld: 0 } }), "spec.holds.max_held");
    assert.equal(
      refused({ holds: { verdictTimeoutMs: 10_000, maxHoldMs: 9_999 } }),
      "POLICY_CONTRADICTION spec.holds.verdict_timeout",
    );
    assert.equal(refused({ holds: { verdictTimeoutMs: 10_000, maxHoldMs: 10_000 } }), undefined);
  });

  it("offers a decider nothing that it is never asked about", () => {
    const holding = (...syscalls: string[]) => ({ triggers: [triggerOf({ syscalls })] });
    const writes = { triggers: [triggerOf({ syscalls: ["openat"], match: { ...ANY_CALL, writesOnly: true } })] };
    const grantable = [{ transport: "tcp", host: "", ports: [] }] as const;
    assert.equal(
      refused({ filesystem: { grantableReadable: ["/a"] }, holds: holding("execve") }),
      "POLICY_CONTRADICTION spec.filesystem.grantable_readable",
    );
    assert.equal(
      refused({ filesystem: { grantableReadable: ["/a"] }, holds: writes }),
      "POLICY_CONTRADICTION spec.filesystem.grantable_readable",
    );
    assert.equal(refused({ filesystem: { grantableReadable: ["/a"] }, holds: holding("openat") }), undefined);
    assert.equal(
      refused({ filesystem: { grantableWritable: ["/a"] } }),
      "POLICY_CONTRADICTION spec.filesystem.grantable_writable",
    );
    assert.equal(refused({ filesystem: { grantableWritable: ["/a"] }, holds: writes }), undefined);
    assert.equal(refused({ network: { grantable } }), "POLICY_CONTRADICTION spec.network.grantable");
    assert.equal(refused({ network: { grantable }, holds: holding("connect") }), undefined);
    const ask = ruleOf("ask", { destinations: [{ transport: undefined, host: "", ports: [] }] }, { kind: "ask" });
    assert.equal(refused({ network: { grantable }, rules: [ask] }), undefined);
  });

  it("has no rule that could never come to be asked", () => {
    const deny = { kind: "deny", errno: 1 } as const;
    const last = ruleOf("last", {}, deny);
    assert.equal(refused({ rules: [last] }), "POLICY_CONTRADICTION spec.rules[0]");
    assert.equal(refused({ rules: [ruleOf("a", { programs: ["/bin/*"] }, deny), last] }), undefined);
    assert.equal(refused({ rules: [last], holds: { triggers: [triggerOf({ syscalls: ["connect"] })] } }), undefined);
  });

  it("does not say two things of one path or destination", () => {
    const holds = { triggers: [triggerOf({ syscalls: ["openat"] })] };
    assert.equal(
      refused({ filesystem: { writable: ["/a"], grantableWritable: ["/b", "/a"] }, holds }),
      "POLICY_CONTRADICTION spec.filesystem.grantable_writable[1]",
    );
    const rule = { transport: "tcp", host: "10.0.0.1", ports: [] } as const;
    assert.equal(refused({ network: { allow: [rule], deny: [rule] } }), "POLICY_CONTRADICTION spec.network.allow[0]");
  });
});

describe("a process", () => {
  it("has a program, and strings that can be handed over", () => {
    assert.equal(refusedProcess(["/bin/echo", ""]), undefined);
    assert.equal(refusedProcess([]), "process.argv");
    assert.equal(refusedProcess([""]), "process.argv[0]");
    assert.equal(refusedProcess(["a", "b\0c"]), "process.argv[1]");
    assert.equal(refusedProcess(["a", "x".repeat(131072)]), "process.argv[1]");
    assert.equal(refusedProcess(Array(20).fill("x".repeat(100_000))), "process.argv");
    assert.equal(refusedProcess(["a"], { env: new Map([["A=B", "c"]]) }), 'process.env["A=B"]');
    assert.equal(refusedProcess(["a"], { env: new Map([["", "c"]]) }), 'process.env[""]');
    assert.equal(refusedProcess(["a"], { env: new Map([["A", "c\0"]]) }), 'process.env["A"]');
    assert.equal(refusedProcess(["a"], { env: new Map([["A", "c=d"]]) }), undefined);
    assert.equal(refusedProcess(["a"], { cwd: "tmp" }), "process.cwd");
    assert.equal(refusedProcess(["a"], { cwd: "/tmp" }), undefined);
  });
});
