import assert from "node:assert/strict";
import { SandboxError } from "../../../src/base/errors.js";
import { mediationOf } from "../../../src/sandbox/policy/mediation.js";
import { ANY_CALL, ruleOf, type SpecParts, specOf, triggerOf } from "../../support/specs.js";

const deny = { kind: "deny", errno: 13 } as const;

function mediation(parts: SpecParts) {
  return mediationOf(specOf(parts));
}

function refusedField(parts: SpecParts): string | undefined {
  try {
    mediation(parts);
  } catch (error) {
    assert.ok(error instanceof SandboxError, String(error));
    return `${error.reason} ${error.field}`;
  }
  return undefined;
}

describe("what a spec needs to see", () => {
  it("is nothing without triggers, rules and hosts", () => {
    const seen = mediation({ network: { allow: [{ transport: "tcp", host: "", ports: [{ first: 80, last: 80 }] }] } });
    assert.equal(seen.holdOpen, "none");
    assert.deepEqual(
      [seen.holdExec, seen.holdConnect, seen.mediateConnect, seen.holdSyscalls],
      [false, false, false, []],
    );
  });

  it("is what a rule allows only where that is to be recorded", () => {
    const rules = [ruleOf("kills", { syscalls: ["kill"] }, { kind: "allow" })];
    assert.deepEqual(mediation({ rules }).holdSyscalls, []);
    assert.ok(mediation({ rules, journal: { recordAutomatic: true } }).holdSyscalls.includes("kill"));
  });

  it("is every way to do what a trigger names", () => {
    const seen = mediation({ holds: { triggers: [triggerOf({ syscalls: ["open", "kill"] })] } });
    assert.equal(seen.holdOpen, "all");
    assert.deepEqual(seen.triggers[0]?.syscalls.slice(0, 4), ["open", "openat", "creat", "openat2"]);
    assert.ok(["tkill", "tgkill", "pidfd_send_signal"].every((name) => seen.holdSyscalls.includes(name)));
    assert.equal(seen.holdExec, false);
  });

  it("is opens for writing alone when nobody looks at the others", () => {
    const writes = triggerOf({ categories: ["file"], match: { ...ANY_CALL, writesOnly: true } });
    const reads = triggerOf({ syscalls: ["openat"] });
    assert.equal(mediation({ holds: { triggers: [writes] } }).holdOpen, "writes");
    assert.equal(mediation({ holds: { triggers: [writes, reads] } }).holdOpen, "all");
    assert.equal(mediation({ holds: { triggers: [reads, writes] } }).holdOpen, "all");
    const rule = ruleOf("no-secrets", { paths: ["/home/**"] }, deny);
    const both = mediation({ holds: { triggers: [writes] }, rules: [rule] });
    assert.deepEqual([both.holdOpen, both.askOpen], ["all", "writes"]);
  });

  it("is what a refusing rule speaks of, even without a trigger, and nothing for an allowing one", () => {
    assert.equal(mediation({ rules: [ruleOf("r", { paths: ["/tmp/**"] }, deny)] }).holdOpen, "all");
    assert.equal(mediation({ rules: [ruleOf("r", { programs: ["**/curl"] }, deny)] }).holdExec, true);
    assert.equal(mediation({ rules: [ruleOf("r", { arguments: ["-x"] }, { kind: "ask" })] }).holdExec, true);
    const host = { transport: undefined, host: "10.0.0.0/8", ports: [] };
    assert.equal(mediation({ rules: [ruleOf("r", { destinations: [host] }, deny)] }).holdConnect, true);
    const allowing = mediation({ rules: [ruleOf("r", { paths: ["/tmp/**"] }, { kind: "allow" })] });
    assert.equal(allowing.holdOpen, "none");
  });

  it("is connects when network rules say more than ports", () => {
    const rule = (host: string, first = 80, last = 80) =>
      ({ transport: "tcp", host, ports: [{ first, last }] }) as const;
    assert.equal(mediation({ network: { allow: [rule("192.0.2.1")] } }).mediateConnect, true);
    assert.equal(mediation({ network: { allow: [rule("")], deny: [rule("192.0.2.1")] } }).mediateConnect, true);
    assert.equal(mediation({ network: { allow: [rule("", 1, 9000)] } }).mediateConnect, true, "too many ports to name");
    assert.equal(mediation({ network: { allow: [rule("", 1, 65535)] } }).mediateConnect, false);
    assert.equal(
      mediation({ network: { deny: [rule("192.0.2.1")] } }).mediateConnect,
      false,
      "nothing is allowed anyway",
    );
  });

  it("cannot be what is unknown, what no version can hold yet, or nothing", () => {
    const trigger = (parts: Parameters<typeof triggerOf>[0]) =>
      refusedField({ holds: { triggers: [triggerOf(parts)] } });
    assert.equal(trigger({ syscalls: ["execve", "exceve"] }), "INVALID_FIELD spec.holds.triggers[0].syscalls[1]");
    assert.equal(trigger({ syscalls: ["unlink"] }), "INVALID_FIELD spec.holds.triggers[0].syscalls[0]");
    assert.equal(trigger({ syscalls: ["toString"] }), "INVALID_FIELD spec.holds.triggers[0].syscalls[0]");
    assert.equal(trigger({ categories: ["file", "memory"] }), "INVALID_FIELD spec.holds.triggers[0].categories[1]");
    assert.equal(trigger({}), "INVALID_FIELD spec.holds.triggers[0]");
    assert.equal(
      refusedField({ rules: [ruleOf("r", { syscalls: ["read"] }, deny)] }),
      "INVALID_FIELD spec.rules[0].match.syscalls[0]",
    );
    assert.throws(() => mediation({ holds: { triggers: [triggerOf({ syscalls: ["unlink"] })] } }), /execve.*openat/);
  });

  it("is refused where arguments cannot be held as still as required", () => {
    const required = (syscall: string, requiredIntegrity: "registers" | "copied" | "frozen" | "racy") =>
      refusedField({ holds: { triggers: [triggerOf({ syscalls: [syscall], requiredIntegrity })] } });
    assert.equal(required("execve", "racy"), undefined);
    assert.equal(required("execve", "copied"), "PROTECTION_UNAVAILABLE spec.holds.triggers[0].required_integrity");
    assert.equal(required("execve", "frozen"), undefined);
    assert.equal(required("openat", "copied"), undefined);
    assert.equal(required("openat", "frozen"), undefined, "a copy is at least as good");
    assert.equal(required("connect", "registers"), "PROTECTION_UNAVAILABLE spec.holds.triggers[0].required_integrity");
    assert.equal(required("kill", "registers"), undefined);
  });
});
