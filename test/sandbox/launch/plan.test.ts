import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import ipaddr from "ipaddr.js";
import { SandboxError } from "../../../src/base/errors.js";
import { FS, NET, READ_TREE, SCOPE, WRITE_TREE } from "../../../src/engine/landlock/rights.js";
import { AUDIT_ARCH } from "../../../src/engine/syscalls/table.js";
import {
  MESSAGE,
  MESSAGE_TYPE,
  PATH_RULE,
  PLAN,
  PLAN_FLAG,
  PLAN_MAGIC,
  PORT_RULE,
  RLIMIT,
  RULESET,
} from "../../../src/native/abi.js";
import { processHandlers } from "../../../src/sandbox/handlers/processes.js";
import type { HostFeatures } from "../../../src/sandbox/host.js";
import { type CompiledLaunch, createPlanCompiler, planHeader } from "../../../src/sandbox/launch/plan.js";
import type { BindRule, NetworkRule, ProcessSpec } from "../../../src/sandbox/model.js";
import { BASELINE_RULE } from "../../../src/sandbox/policy/engine-policy.js";
import { compileNetworkRules } from "../../../src/sandbox/policy/network.js";
import { isConstantAllow } from "../../support/evaluate.js";
import { ANY_CALL, CAPABLE_HOST, processOf, type SpecParts, specOf, triggerOf } from "../../support/specs.js";

function compile(
  parts: SpecParts = {},
  host: Partial<HostFeatures> = {},
  process: Partial<ProcessSpec> = {},
): CompiledLaunch {
  const compiler = createPlanCompiler({ ...CAPABLE_HOST, ...host });
  return compiler.compileLaunch(specOf(parts), processOf(["/bin/echo", "hi"], process), { nursery: false });
}

function refusal(parts: SpecParts, host: Partial<HostFeatures> = {}): SandboxError {
  try {
    compile(parts, host);
  } catch (error) {
    assert.ok(error instanceof SandboxError, String(error));
    return error;
  }
  assert.fail("nothing was refused");
}

/** Reads a span of a plan as the warden does. */
function span(
  plan: Buffer,
  name: "argv" | "envp" | "search" | "cwd" | "rlimits" | "outer" | "inner" | "filter",
): Buffer {
  const offset = plan.readUInt32LE(PLAN.at[name]);
  const length = plan.readUInt32LE(PLAN.at[name] + 4);
  assert.equal(offset % 8, 0, `${name} is aligned`);
  assert.ok(offset >= PLAN.bytes && offset + length <= plan.length, `${name} is inside`);
  return plan.subarray(offset, offset + length);
}

interface ReadRuleset {
  readonly fs: number;
  readonly net: number;
  readonly scoped: number;
  readonly paths: ReadonlyMap<string, { readonly access: number; readonly optional: boolean }>;
  readonly ports: readonly { readonly access: number; readonly port: number }[];
}

function readRuleset(bytes: Buffer): ReadRuleset {
  const word = (at: number) => Number(bytes.readBigUInt64LE(at));
  const paths = new Map<string, { access: number; optional: boolean }>();
  let at: number = RULESET.bytes;
  for (let left = bytes.readUInt32LE(RULESET.at.path_count); left > 0; left -= 1) {
    const length = bytes.readUInt32LE(at + PATH_RULE.at.length);
    const start = at + PATH_RULE.bytes;
    const path = bytes.toString("utf8", start, start + length);
    const before = paths.get(path)?.access ?? 0;
    paths.set(path, {
      access: before | word(at + PATH_RULE.at.access),
      optional: bytes.readUInt32LE(at + PATH_RULE.at.flags) === 1,
    });
    at = start + Math.ceil(length / 8) * 8;
  }
  const ports: { access: number; port: number }[] = [];
  for (let left = bytes.readUInt32LE(RULESET.at.port_count); left > 0; left -= 1) {
    ports.push({ access: word(at + PORT_RULE.at.access), port: word(at + PORT_RULE.at.port) });
    at += PORT_RULE.bytes;
  }
  assert.equal(at, bytes.length, "the ruleset ends with its last rule");
  return {
    fs: word(RULESET.at.handled_fs),
    net: word(RULESET.at.handled_net),
    scoped: word(RULESET.at.scoped),
    paths,
    ports,
  };
}

function layers(compiled: CompiledLaunch): { outer: ReadRuleset; inner: ReadRuleset } {
  const outer = readRuleset(compiled.plan.outer);
  return { outer, inner: compiled.plan.inner.length === 0 ? outer : readRuleset(compiled.plan.inner) };
}

function tcp(host: string, ...ports: readonly number[]): NetworkRule {
  return { transport: "tcp", host, ports: ports.map((port) => ({ first: port, last: port })) };
}

function bind(first: number, last: number): BindRule {
  return { transport: "tcp", address: "", ports: [{ first, last }] };
}

const WRITES = triggerOf({ categories: ["file"], match: { ...ANY_CALL, writesOnly: true } });
const CONNECTS = triggerOf({ syscalls: ["connect"] });
const EXECS = triggerOf({ syscalls: ["execve"] });

/** What a plan is notified of, but for the calls that name a process, of which every plan is. */
function notifiedBy({ summary }: Pick<CompiledLaunch, "summary">): readonly string[] {
  return summary.notifiedSyscalls.filter((name) => processHandlers[name] === undefined);
}

describe("an encoded plan", () => {
  const compiler = createPlanCompiler(CAPABLE_HOST);

  it("is what native/abi.h describes", () => {
    const process = processOf(["sh", "-c", "é"], {
      env: new Map([["A", "b"]]),
      cwd: "/tmp",
      terminal: { columns: 80, rows: 24 },
    });
    const compiled = compiler.compileLaunch(specOf(), process, { nursery: true });
    const plan = compiler.encodePlan(compiled, 7n, 7n);
    assert.equal(plan.readUInt32LE(MESSAGE.at.type), MESSAGE_TYPE.launch);
    assert.equal(plan.readUInt32LE(MESSAGE.at.size), plan.length);
    assert.equal(plan.length % 8, 0);
    assert.equal(plan.readBigUInt64LE(MESSAGE.at.launch_id), 7n);
    assert.equal(plan.readBigUInt64LE(PLAN.at.sandbox_id), 7n);
    assert.equal(plan.readUInt32LE(PLAN.at.magic), PLAN_MAGIC);
    assert.equal(plan.readUInt32LE(PLAN.at.flags), PLAN_FLAG.terminal | PLAN_FLAG.nursery);
    assert.equal(plan.readUInt32LE(PLAN.at.filter_flags), (1 << 3) | (1 << 5));
    assert.equal(span(plan, "argv").toString(), "sh\0-c\0é\0");
    assert.equal(span(plan, "cwd").toString(), "/tmp");
    assert.equal(span(plan, "inner").length, 0);
    assert.ok(span(plan, "filter").equals(compiled.plan.filter));
    assert.ok(isConstantAllow(span(plan, "filter"), AUDIT_ARCH.x86_64, 0));
  });

  it("has a small environment of its own, completed by the spec's, or exactly the spec's", () => {
    const environment = (parts: Partial<ProcessSpec>) => {
      const compiled = compiler.compileLaunch(specOf(), processOf(["a"], parts), { nursery: false });
      return { env: compiled.plan.envp.toString().split("\0").slice(0, -1), search: compiled.plan.search.toString() };
    };
    const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert.deepEqual(environment({}), { env: [`PATH=${path}`, "HOME=/", "LANG=C.UTF-8"], search: path });
    assert.deepEqual(environment({ env: new Map([["PATH", "/x"], ["B", "c=d"]]) }), {
      env: ["PATH=/x", "HOME=/", "LANG=C.UTF-8", "B=c=d"],
      search: "/x",
    }); // biome-ignore format: pairs
    assert.deepEqual(environment({ clearEnv: true }), { env: [], search: path });
    assert.deepEqual(environment({ clearEnv: true, env: new Map([["A", ""]]) }).env, ["A="]);
    assert.ok(environment({ terminal: { columns: 80, rows: 24 } }).env.some((entry) => entry.startsWith("TERM=")));
  });

  it("limits core files always, and descriptors and processor time as asked", () => {
    const limits = (parts: SpecParts) => {
      const bytes = compile(parts).plan.rlimits;
      const found = new Map<number, readonly [bigint, bigint]>();
      for (let at = 0; at < bytes.length; at += RLIMIT.bytes) {
        found.set(bytes.readUInt32LE(at), [
          bytes.readBigUInt64LE(at + RLIMIT.at.soft),
          bytes.readBigUInt64LE(at + RLIMIT.at.hard),
        ]);
      }
      return found;
    };
    const none = limits({});
    assert.deepEqual(none.get(4), [0n, 0n]);
    assert.deepEqual(none.get(7), [1024n, 4096n]);
    assert.equal(none.get(0), undefined);
    const some = limits({ limits: { openFiles: 64, cpuTimeMs: 1500 } });
    assert.deepEqual(some.get(7), [64n, 64n]);
    assert.deepEqual(some.get(0), [4n, 4n], "above what is watched, which should be first");
    assert.deepEqual(
      limits({ limits: { openFiles: 1_000_000 } }).get(7),
      [4096n, 4096n],
      "no more than the service has",
    );
  });

  it("lets the kernel refuse processes in a user namespace where it does not exempt the user, and watches elsewhere", () => {
    const flags = PLAN_FLAG.init | PLAN_FLAG.newUserNamespace;
    const user = compile({ limits: { processes: 5 } }, { uid: 1000, mountNamespaces: false }).plan;
    assert.equal(user.flags & flags, flags);
    assert.deepEqual(user.watched, { memoryBytes: 0n, cpuTimeMs: 0, maxTasks: 6, tasksKept: true, cpuMillis: 0 });
    for (const host of [{ uid: 0 }, { uid: 1000, userNamespaces: false }]) {
      const { plan, summary } = compile({ limits: { processes: 5 } }, host);
      assert.equal(plan.flags & flags, PLAN_FLAG.init);
      assert.equal(plan.watched.tasksKept, false);
      assert.match(summary.mechanisms.get("spec.limits.processes") ?? "", /watched/);
    }
    assert.equal(compile().plan.flags & PLAN_FLAG.init, 0, "nothing is watched without a limit");
  });

  it("for one more process says only what that process is", () => {
    const plan = compiler.encodeExec(processOf(["ls", "-l"], { cwd: "/srv" }), 9n, 7n);
    assert.equal(plan.readUInt32LE(MESSAGE.at.type), MESSAGE_TYPE.exec);
    assert.equal(plan.readBigUInt64LE(MESSAGE.at.launch_id), 9n);
    assert.equal(plan.readBigUInt64LE(PLAN.at.sandbox_id), 7n);
    assert.equal(span(plan, "argv").toString(), "ls\0-l\0");
    assert.equal(span(plan, "cwd").toString(), "/srv");
    assert.equal(span(plan, "filter").length, 0);
    assert.throws(() => compiler.encodeExec(processOf([]), 9n, 7n), SandboxError);
  });

  it("can be sent as a header alone, the rest in a file", () => {
    const plan = compiler.encodePlan(compile(), 3n, 3n);
    const header = planHeader(plan);
    assert.equal(header.length, PLAN.bytes);
    assert.equal(header.readUInt32LE(MESSAGE.at.size), PLAN.bytes);
    assert.equal(header.readUInt32LE(PLAN.at.flags) & PLAN_FLAG.memfd, PLAN_FLAG.memfd);
    assert.equal(plan.readUInt32LE(PLAN.at.flags) & PLAN_FLAG.memfd, 0, "the plan itself is left alone");
  });

  it("is the same for the same spec", () => {
    const parts: SpecParts = { network: { allow: [tcp("10.0.0.0/8", 80)] }, holds: { triggers: [WRITES, EXECS] } };
    assert.deepEqual(compile(parts), compile(parts));
  });
});

describe("the Landlock layers of a plan", () => {
  it("grant the listed trees and nothing besides when there is no baseline", () => {
    const { outer, inner } = layers(
      compile({ filesystem: { baseline: "none", readable: ["/srv/a"], writable: ["/srv/b"] } }),
    );
    assert.deepEqual(
      [...outer.paths],
      [
        ["/srv/a", { access: READ_TREE, optional: false }],
        ["/srv/b", { access: WRITE_TREE, optional: false }],
      ],
    );
    assert.equal(outer.fs, 0xffff);
    assert.equal(outer.scoped, SCOPE.abstractUnixSocket | SCOPE.signal);
    assert.deepEqual([outer.net, outer.ports], [NET.bindTcp | NET.connectTcp, []]);
    assert.equal(inner, outer);
  });

  it("give a verdict its ceiling in the outer one only", () => {
    const { outer, inner } = layers(
      compile({
        filesystem: { readable: ["/srv/a"], grantableReadable: ["/srv/g"], grantableWritable: ["/srv/w"] },
        holds: { triggers: [triggerOf({ syscalls: ["openat"] })] },
      }),
    );
    assert.equal(outer.paths.get("/srv/g")?.access, READ_TREE);
    assert.equal(outer.paths.get("/srv/w")?.access, WRITE_TREE);
    for (const path of ["/srv/g", "/srv/w"]) assert.equal(inner.paths.get(path), undefined);
    for (const path of ["/srv/a", "/usr"]) assert.deepEqual(inner.paths.get(path), outer.paths.get(path));
    assert.equal(outer.paths.get("/usr")?.optional, true);
    assert.equal(inner.fs, outer.fs);
  });

  it("name the ports of rules without hosts to the kernel", () => {
    const compiled = compile({ network: { allow: [tcp("", 80, 443)], bind: [bind(8080, 8081)] } });
    const { outer, inner } = layers(compiled);
    assert.deepEqual(outer.ports, [
      { access: NET.connectTcp, port: 80 },
      { access: NET.connectTcp, port: 443 },
      { access: NET.bindTcp, port: 8080 },
      { access: NET.bindTcp, port: 8081 },
    ]);
    assert.equal(inner, outer);
    assert.deepEqual(notifiedBy(compiled), ["listen", WATCH]);
    assert.equal(compiled.summary.mechanisms.get("spec.network.allow[0]"), "landlock");
    assert.equal(compiled.summary.mechanisms.get("spec.network.bind[0]"), "landlock; listening by the engine");
  });

  it("leave connects alone where every port is allowed, and still refuse to bind", () => {
    const { outer } = layers(compile({ network: { allow: [tcp("")] } }));
    assert.deepEqual([outer.net, outer.ports], [NET.bindTcp, []]);
    const bindable = layers(compile({ network: { allow: [tcp("", 80)], bind: [bind(1, 65535)] } })).outer;
    assert.deepEqual([bindable.net, bindable.ports], [NET.connectTcp, [{ access: NET.connectTcp, port: 80 }]]);
  });

  it("let no connect of the program's own through where the engine judges, so that a forgotten one fails", () => {
    const compiled = compile({
      network: { allow: [tcp("10.0.0.0/8", 80)], grantable: [tcp("", 443)] },
      holds: { triggers: [CONNECTS] },
    });
    const { outer, inner } = layers(compiled);
    assert.deepEqual([inner.net, inner.ports], [NET.bindTcp | NET.connectTcp, []]);
    assert.deepEqual(outer.ports, [
      { access: NET.connectTcp, port: 80 },
      { access: NET.connectTcp, port: 443 },
    ]);
    assert.deepEqual(notifiedBy(compiled), ["connect", WATCH]);
    assert.equal(compiled.engine.mediateConnect, true);
    const any = layers(compile({ network: { allow: [tcp("10.0.0.0/8")] } }));
    assert.equal(any.outer.net, NET.bindTcp, "any port: left to the engine");
    assert.deepEqual([any.inner.net, any.inner.ports], [NET.bindTcp | NET.connectTcp, []]);
  });
});

/** What Landlock does not judge, and so the engine does where files are writable. */
const METADATA = /ch(mod|own)|utime|xattr/;
const WATCH = "inotify_add_watch";

describe("the engine's part of a plan", () => {
  it("judges what Landlock does not, where there is anything to judge and to judge it with", () => {
    const notified = (...args: Parameters<typeof compile>) => notifiedBy(compile(...args));
    const writing = { filesystem: { writable: ["/srv"] } };
    const unmounted = { mountNamespaces: false, userMountNamespaces: false };
    assert.equal(notified(writing, unmounted).filter((name) => METADATA.test(name)).length, 18);
    assert.deepEqual(notified(writing), [WATCH], "mounts keep metadata elsewhere as it is");
    assert.deepEqual(notified({}), [WATCH]);
    const protections = { disabled: ["landlock_fs", "landlock_refer", "landlock_truncate", "landlock_ioctl"] };
    assert.deepEqual(notified({ ...writing, protections }), []);
  });

  it("is empty for a static policy", () => {
    const { engine, summary } = compile({ filesystem: { writable: ["/srv"] }, network: { allow: [tcp("", 80)] } });
    assert.deepEqual(
      notifiedBy({ summary }).filter((name) => !METADATA.test(name)),
      [WATCH],
    );
    assert.deepEqual(
      [engine.holdExec, engine.holdConnect, engine.mediateConnect, engine.holdOpen],
      [false, false, false, "none"],
    );
    assert.deepEqual([engine.rules, engine.readableTrees, engine.writableTrees], [[], [], []]);
    assert.equal(engine.injectable.size, 0);
  });

  it("knows what the program itself may open, and that /dev/null needs no question", () => {
    const { engine, summary } = compile({
      filesystem: { readable: ["/"], writable: ["/tmp"], grantableWritable: ["/home"] },
      holds: { triggers: [WRITES, EXECS] },
    });
    assert.deepEqual(
      notifiedBy({ summary }).filter((name) => !METADATA.test(name)),
      ["open", "execve", "creat", WATCH, "openat", "execveat"],
    );
    assert.ok(engine.readableTrees.includes("/"));
    assert.ok(engine.writableTrees.includes("/tmp") || engine.writableTrees.some((path) => path.endsWith("/tmp")));
    assert.ok(engine.writableTrees.includes("/dev/null"));
    assert.ok(!engine.writableTrees.includes("/home"));
    const last = engine.rules[engine.rules.length - 1];
    assert.deepEqual([last?.name, last?.action.kind], [BASELINE_RULE, "allow"]);
    assert.ok(last?.match.paths.includes("/dev/null"));
  });

  it("has hosts in one form", () => {
    const { engine } = compile({
      network: { allow: [tcp("::ffff:10.1.2.3", 80), tcp("*", 443)], deny: [tcp("10.9.9.9/8")] },
    });
    assert.deepEqual(
      engine.network.allow.map(({ host }) => host),
      ["10.1.2.3", ""],
    );
    assert.deepEqual(
      engine.network.deny.map(({ host }) => host),
      ["10.0.0.0/8"],
    );
  });

  it("keeps every policy from the service's own port, and looks at no connect for it where none could get there", () => {
    const compiler = createPlanCompiler(CAPABLE_HOST, { ports: () => [7000], sockets: () => [] });
    const engineOf = (...allow: NetworkRule[]) =>
      compiler.compileLaunch(specOf({ network: { allow } }), processOf(["a"]), { nursery: false }).engine;
    const open = engineOf(tcp(""));
    assert.equal(open.mediateConnect, true);
    const isDenied = compileNetworkRules(open.network.deny);
    const local = (ip: number[], port: number) => isDenied("tcp", { kind: "ip", ip: Uint8Array.from(ip), port });
    assert.ok(local([127, 0, 0, 1], 7000) && local([127, 9, 9, 9], 7000) && local([0, 0, 0, 0], 7000));
    assert.ok(local([...Array(15).fill(0), 1], 7000) && local(Array(16).fill(0), 7000));
    assert.ok(!local([127, 0, 0, 1], 7001) && !local([192, 0, 2, 1], 7000));
    const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
    for (const { address } of addresses) {
      const ip = ipaddr.parse(address.replace(/%.*/, "")).toByteArray();
      assert.ok(local(ip, 7000) && !local(ip, 7001), address);
    }
    assert.equal(engineOf(tcp("", 80)).mediateConnect, false);
    assert.equal(engineOf().mediateConnect, false);
  });

  it("answers what a restore injects in checkpointable sandboxes, and only there", () => {
    const { engine, summary, plan } = compile({ checkpointable: true });
    assert.deepEqual([...engine.injectable], [[435, 38], [157, 1], [323, 1]]); // biome-ignore format: pairs
    assert.deepEqual(notifiedBy({ summary }), ["prctl", WATCH, "userfaultfd", "clone3"]);
    assert.equal(plan.flags & PLAN_FLAG.newPidNamespace, PLAN_FLAG.newPidNamespace);
    assert.equal(structuredClone(engine).injectable.get(435), 38);
  });
});

describe("what a host or this version cannot enforce", () => {
  it("refuses the spawn by the protection's name, and says so when it may degrade", () => {
    const error = refusal({}, { landlockAbi: 5 });
    assert.deepEqual(
      [error.code, error.reason, error.metadata.protection],
      ["failed_precondition", "PROTECTION_UNAVAILABLE", "landlock_scope"],
    );
    assert.match(error.message, /ABI 5.*ABI 6/);
    const degraded = compile({ protections: { mayDegrade: ["landlock_scope"] } }, { landlockAbi: 5 });
    assert.equal(degraded.protections.get("landlock_scope"), "degraded");
    assert.equal(degraded.protections.get("landlock_fs"), "active");
    assert.deepEqual(
      degraded.warnings.map(({ metadata }) => metadata.protection),
      ["landlock_scope"],
    );
    assert.equal(layers(degraded).outer.scoped, 0);
  });

  it("leaves off what is disabled, and asks for no Landlock at all when all of it is", () => {
    const some = compile({ protections: { disabled: ["landlock_ioctl", "wait_killable"] } });
    assert.equal(layers(some).outer.fs & FS.ioctlDev, 0);
    assert.equal(some.plan.filterFlags, 1 << 3);
    assert.equal(some.protections.get("landlock_ioctl"), "disabled");
    assert.deepEqual(some.warnings, []);
    const all = ["landlock_fs", "landlock_net", "landlock_scope"];
    const none = compile({ network: { allow: [tcp("", 80)] }, protections: { disabled: all } });
    assert.equal(none.plan.flags & PLAN_FLAG.noLandlock, PLAN_FLAG.noLandlock);
    assert.equal(some.plan.flags & PLAN_FLAG.noLandlock, 0);
  });

  it("needs port rules only where sockets can be made, and lets the engine judge without them", () => {
    assert.equal(
      compile({ protections: { mayDegrade: ["landlock_scope", "landlock_ioctl"] } }, { landlockAbi: 3 }).warnings
        .length,
      2,
    );
    const network = { allow: [tcp("", 80)] };
    const mayDegrade = ["landlock_scope", "landlock_ioctl", "landlock_net"];
    assert.equal(
      refusal({ network, protections: { mayDegrade: mayDegrade.slice(0, 2) } }, { landlockAbi: 3 }).metadata.protection,
      "landlock_net",
    );
    const judged = compile({ network, protections: { mayDegrade } }, { landlockAbi: 3 });
    assert.equal(judged.engine.mediateConnect, true);
    assert.deepEqual(notifiedBy(judged), ["connect", "bind", WATCH]);
  });

  it("let no bind of the program's own through where the engine judges by address or many ports", () => {
    const byAddress = compile({ network: { bind: [{ ...bind(8080, 8080), address: "127.0.0.1" }] } });
    const { outer, inner } = layers(byAddress);
    assert.deepEqual(outer.ports, [{ access: NET.bindTcp, port: 8080 }]);
    assert.deepEqual([inner.net, inner.ports], [NET.bindTcp | NET.connectTcp, []]);
    assert.deepEqual(notifiedBy(byAddress), ["bind", "listen", WATCH]);
    const many = layers(compile({ network: { bind: [bind(1024, 9999)] } }));
    assert.deepEqual([many.outer.net & NET.bindTcp, many.inner.net & NET.bindTcp], [0, NET.bindTcp]);
    const all = compile({ network: { allow: [tcp("", 80)], bind: [bind(1, 65535)] } });
    assert.deepEqual(notifiedBy(all), [WATCH], "nothing is left to judge");
  });

  it("does not judge connects where the socket cannot be taken", () => {
    const network = { allow: [tcp("10.0.0.1", 80)] };
    assert.equal(refusal({ network }, { pidfdGetfd: false }).metadata.protection, "pidfd_getfd");
    assert.equal(
      refusal({ network, protections: { mayDegrade: ["pidfd_getfd"] } }, { pidfdGetfd: false }).field,
      "spec.network",
    );
    assert.equal(compile({ network: { allow: [tcp("", 80)] } }, { pidfdGetfd: false }).engine.mediateConnect, false);
  });

  it("judges no execve that it could not compare, unless its arguments may be racy", () => {
    const holds = { triggers: [EXECS] };
    assert.equal(compile({ holds }).engine.verifyExec, true);
    assert.equal(refusal({ holds }, { trace: false }).metadata.protection, "exec_verify");
    const hasty = { holds, protections: { mayDegrade: ["wait_killable"] } };
    assert.equal(refusal(hasty, { waitKillable: false }).metadata.protection, "exec_verify");
    assert.equal(refusal({ holds, protections: { disabled: ["wait_killable"] } }).field, "spec.protections");
    assert.equal(compile({}, { trace: false }).engine.verifyExec, false, "what judges none needs none");
    const protections = { mayDegrade: ["exec_verify"] };
    const racy = compile({ holds, protections }, { trace: false });
    assert.deepEqual([racy.engine.verifyExec, racy.protections.get("exec_verify")], [false, "degraded"]);
    assert.match(racy.summary.mechanisms.get("starting programs") ?? "", /racy/);
    const frozen = { triggers: [{ ...EXECS, requiredIntegrity: "frozen" as const }] };
    assert.equal(compile({ holds: frozen }).engine.verifyExec, true);
    assert.equal(
      refusal({ holds: frozen, protections }, { trace: false }).field,
      "spec.holds.triggers[0].required_integrity",
    );
  });

  it("holds nothing without a listener", () => {
    const parts: SpecParts = { protections: { mayDegrade: ["seccomp_notify"] } };
    assert.equal(compile(parts, { listener: false }).plan.filterFlags, 0);
    assert.equal(refusal({ ...parts, holds: { triggers: [EXECS] } }, { listener: false }).field, "spec.holds.triggers");
    assert.equal(refusal({}, { listener: false }).metadata.protection, "seccomp_notify");
  });

  it("makes PID namespaces by way of a user namespace where the service is not root", () => {
    const flags = (host: Partial<HostFeatures>) => compile({ checkpointable: true }, host).plan.flags;
    assert.equal(flags({ pidNamespaces: false }), PLAN_FLAG.newPidNamespace | PLAN_FLAG.newUserNamespace);
    const neither = { pidNamespaces: false, userNamespaces: false };
    assert.equal(refusal({ checkpointable: true }, neither).metadata.protection, "pid_namespace");
    const parts = { checkpointable: true, protections: { mayDegrade: ["pid_namespace"] } };
    assert.equal(compile(parts, neither).plan.flags & PLAN_FLAG.newPidNamespace, 0);
    assert.equal(compile({}, neither).protections.has("pid_namespace"), false, "it is not needed otherwise");
  });

  it("refuses a view of its own where no mounts can be made, and never leaves it out", () => {
    const none = { mountNamespaces: false, userMountNamespaces: false };
    const views = {
      root: { root: "/srv" },
      mappings: { mappings: [{ inside: "/a", host: "/b", readOnly: true }] },
      private_tmp: { privateTmp: { sizeBytes: 0n } },
      private_proc: { privateProc: true },
    };
    for (const [name, filesystem] of Object.entries(views)) {
      assert.equal(refusal({ filesystem }, none).metadata.protection, "mount_namespace", name);
      const mayDegrade = { protections: { mayDegrade: ["mount_namespace", "pid_namespace"] } };
      assert.equal(refusal({ filesystem, ...mayDegrade }, none).field, `spec.filesystem.${name}`);
      const disabled = { protections: { disabled: ["mount_namespace"] } };
      assert.equal(refusal({ filesystem, ...disabled }).field, `spec.filesystem.${name}`);
    }
    const noPids = { pidNamespaces: false, userNamespaces: false };
    assert.equal(refusal({ filesystem: views.private_proc }, noPids).metadata.protection, "pid_namespace");
  });

  it("makes mounts inside a user namespace where the service may not make them itself", () => {
    const flags = (parts: SpecParts, host: Partial<HostFeatures> = {}) => compile(parts, host).plan.flags;
    const own = PLAN_FLAG.newMountNamespace;
    const both = own | PLAN_FLAG.newUserNamespace;
    const writing = { filesystem: { writable: ["/srv"] } };
    assert.equal(flags(writing) & both, own);
    assert.equal(flags(writing, { mountNamespaces: false }) & both, both);
    assert.equal(flags({}) & both, 0, "where nothing may be written there is nothing to mount");
    assert.equal(flags({ filesystem: { writable: ["/"] } }) & both, 0);
    const asking = { filesystem: { writable: ["/srv"], grantableWritable: ["/home"] }, holds: { triggers: [WRITES] } };
    assert.equal(flags(asking) & both, 0, "a verdict may open what the program's own calls must not change");
    assert.equal(compile(writing, { mountNamespaces: false, userMountNamespaces: false }).protections.get("mount_namespace"), "degraded"); // biome-ignore format: one question
  });

  it("changes ids where the service may, else shows its own as these", () => {
    const runAs = { uid: 1000, gid: 100 };
    const ids = (host: Partial<HostFeatures>) => {
      const { flags, uid, gid } = compile({ runAs }, host).plan;
      return [flags & (PLAN_FLAG.setIds | PLAN_FLAG.newUserNamespace), uid, gid];
    };
    assert.deepEqual(ids({}), [PLAN_FLAG.setIds, 1000, 100]);
    const user = { canSetIds: false, uid: 65534, gid: 65534 };
    assert.deepEqual(ids(user), [PLAN_FLAG.setIds | PLAN_FLAG.newUserNamespace, 1000, 100]);
    assert.deepEqual(ids({ ...user, uid: 1000, gid: 100 }), [0, 0, 0], "they are its own");
    assert.equal(refusal({ runAs }, { ...user, userNamespaces: false }).metadata.protection, "user_namespace");
    const filesystem = { writable: ["/srv"] };
    assert.equal(refusal({ runAs, filesystem }, { mountNamespaces: false }).field, "spec.run_as");
  });

  it("leaves the bounding set to no_new_privs where it cannot be dropped", () => {
    const { plan, protections, warnings } = compile({}, { canDropBounding: false });
    assert.equal(plan.flags & PLAN_FLAG.noBounding, PLAN_FLAG.noBounding);
    assert.equal(protections.get("bounding_set"), "degraded");
    assert.deepEqual(warnings, []);
    assert.equal(compile().protections.get("bounding_set"), "active");
  });

  it("refuses limits that need control groups, unless they may be missing", () => {
    const host = { listsChildren: false };
    assert.equal(refusal({ limits: { memoryBytes: 1n } }, host).metadata.protection, "memory_limit");
    assert.equal(refusal({ limits: { processes: 5 } }, host).metadata.protection, "process_limit");
    assert.equal(refusal({ limits: { cpuMillis: 500 } }, host).metadata.protection, "cpu_limit");
    const degraded = compile({ limits: { processes: 5 }, protections: { mayDegrade: ["process_limit"] } }, host);
    assert.equal(degraded.protections.get("process_limit"), "degraded");
  });

  describe("with sockets whose messages name destinations", () => {
    const rule = (parts: Partial<NetworkRule>): NetworkRule => ({
      transport: undefined,
      host: "",
      ports: [],
      ...parts,
    });
    const notified = (network: NonNullable<SpecParts["network"]>, holds: SpecParts["holds"] = {}): string =>
      compile({ network, holds })
        .summary.notifiedSyscalls.filter((name) => /^(connect|send)/.test(name))
        .join(" ");
    const all = "connect sendto sendmsg sendmmsg";

    it("looks at messages where rules tell destinations apart, and only there", () => {
      assert.equal(notified({ allow: [rule({})] }), "");
      assert.equal(notified({ allow: [rule({ transport: "udp" })] }), "");
      assert.equal(notified({ allow: [rule({ transport: "tcp", host: "10.0.0.1" })] }), "connect");
      assert.equal(notified({ allow: [rule({ transport: "udp", host: "10.0.0.1" })] }), all);
      assert.equal(notified({ allow: [rule({ transport: "udp", ports: [{ first: 53, last: 53 }] })] }), all);
      assert.equal(notified({ allow: [rule({ transport: "udp" })], deny: [rule({ host: "10.0.0.1" })] }), all);
      assert.equal(notified({ allow: [rule({ transport: "icmp" })] }), "");
      assert.equal(notified({ allow: [rule({ transport: "icmp", host: "10.0.0.1" })] }), all);
      assert.equal(notified({ allow: [rule({ transport: "unix", host: "/run/app.sock" })] }), all);
    });

    it("looks at connects of Unix sockets, since the service's own are never reached", () => {
      assert.equal(notified({ allow: [rule({ transport: "unix" })] }), "connect");
    });

    it("looks at messages that are to be held, where any can name a destination", () => {
      const holds = { triggers: [triggerOf({ syscalls: ["sendmsg"] })] };
      assert.equal(notified({ allow: [rule({ transport: "udp" })] }, holds), all);
      assert.equal(notified({ allow: [rule({ transport: "tcp" })] }, holds), "");
    });

    it("makes no socket for what is denied as a whole", () => {
      assert.equal(
        notified({ allow: [rule({ transport: "unix" })], deny: [rule({ transport: "unix", host: "*" })] }),
        "",
      );
    });

    it("says that abstract names stay within the sandbox", () => {
      const { warnings } = compile({ network: { allow: [rule({ transport: "unix", host: "@name" })] } });
      assert.deepEqual(
        warnings.map(({ field }) => field),
        ["spec.network.allow[0].host"],
      );
    });
  });
});
