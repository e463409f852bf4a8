import assert from "node:assert/strict";
import { constants } from "node:os";
import { buildFilter, type FilterPolicy, HOLDABLE, INJECTABLE } from "../../../src/engine/bpf/filter.js";
import { ACTION } from "../../../src/engine/bpf/tree.js";
import {
  type Arch,
  AUDIT_ARCH,
  syscallName,
  syscallNumber,
  syscallRows,
  syscallSiblings,
  syscallTreatment,
} from "../../../src/engine/syscalls/table.js";
import { decodeProgram, evaluate, isConstantAllow } from "../../support/evaluate.js";

const { EACCES, EAFNOSUPPORT, EBUSY, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, EPROTONOSUPPORT } = constants.errno;
const ARCHES: readonly Arch[] = ["x86_64", "aarch64"];

const TIGHT: FilterPolicy = {
  arch: "x86_64",
  tcp: false,
  udp: false,
  icmp: false,
  unix: false,
  listen: "refuse",
  sends: "allow",
  metadata: "refuse",
  watch: "refuse",
  paths: false,
  processes: "nobody",
  checkpointable: false,
  memoryFiles: false,
  holdOpen: "none",
  notified: new Set(),
};
const OPEN: FilterPolicy = {
  ...TIGHT,
  tcp: true,
  udp: true,
  unix: true,
  listen: "allow",
  metadata: "allow",
  watch: "allow",
  memoryFiles: true,
};

type Outcome = "allow" | "notify" | "kill" | number;

/** Runs one call by name; numbers are errnos. */
function runner(policy: FilterPolicy) {
  const program = decodeProgram(buildFilter(policy).program);
  return (name: string, ...args: (number | bigint)[]): Outcome => {
    const nr = syscallNumber(policy.arch, name);
    assert.ok(nr !== undefined, `${policy.arch} has no ${name}`);
    return outcome(evaluate(program, { arch: AUDIT_ARCH[policy.arch], nr, args: args.map(BigInt) }));
  };
}

function outcome(action: number): Outcome {
  if (action === ACTION.allow) return "allow";
  if (action === ACTION.notify) return "notify";
  if (action === ACTION.killProcess) return "kill";
  assert.equal(action & 0xffff0000, 0x00050000, `action ${action.toString(16)}`);
  return action & 0xffff;
}

/** Arguments worth trying in every place: flags, counts, pointers, negative numbers. */
const VALUES = [
  0n,
  1n,
  2n,
  3n,
  10n,
  35n,
  0o102n,
  0o10000000n,
  0x5412n,
  0x20000000n,
  0x10000000n,
  0x7fff_0000_1000n,
  0xffffffffn,
  (1n << 64n) - 1n,
];

function everyCall(policy: FilterPolicy, visit: (nr: number, outcome: Outcome, args: readonly bigint[]) => void): void {
  const program = decodeProgram(buildFilter(policy).program);
  for (let nr = 0; nr <= 600; nr += 1) {
    for (const first of VALUES) {
      for (const second of VALUES) {
        const args = [first, second, first, second, 0n, 0n];
        visit(nr, outcome(evaluate(program, { arch: AUDIT_ARCH[policy.arch], nr, args })), args);
      }
    }
  }
}

describe("the filter of a sandbox", () => {
  for (const arch of ARCHES) {
    it(`follows the table of ${arch} for every number and argument, and allows nothing besides`, function () {
      this.timeout(60_000);
      everyCall({ ...OPEN, arch }, (nr, result) => {
        const name = syscallName(arch, nr);
        const treatment = name === undefined ? undefined : syscallTreatment(name);
        if (treatment === undefined) assert.equal(result, ENOSYS, `${nr}`);
        else if (treatment.kind === "allow") assert.equal(result, "allow", name);
        else if (treatment.kind === "errno") assert.equal(result, treatment.errno, name);
        else assert.ok(result === "allow" || typeof result === "number", name);
      });
    });

    it(`answers the hot calls of ${arch} from the kernel's cache`, () => {
      for (const policy of [TIGHT, OPEN, { ...OPEN, holdOpen: "writes" as const, notified: new Set(["execve"]) }]) {
        const { program } = buildFilter({ ...policy, arch });
        for (const name of [
          "read",
          "write",
          "close",
          "newfstatat",
          "mmap",
          "futex",
          "epoll_pwait",
          "recvfrom",
          "wait4",
        ]) {
          assert.ok(isConstantAllow(program, AUDIT_ARCH[arch], syscallNumber(arch, name) ?? -1), name);
        }
      }
      const { program } = buildFilter({ ...OPEN, arch });
      for (const { name, number, treatment } of syscallRows(arch)) {
        if (treatment.kind === "allow") assert.ok(isConstantAllow(program, AUDIT_ARCH[arch], number), name);
      }
    });

    it(`kills other architectures' calls on ${arch}`, () => {
      const { program } = buildFilter({ ...OPEN, arch });
      for (const foreign of [0x40000003, 0x40000028, AUDIT_ARCH[arch === "x86_64" ? "aarch64" : "x86_64"]]) {
        assert.equal(evaluate(program, { arch: foreign, nr: 1 }), ACTION.killProcess);
      }
    });
  }

  it("kills x32 calls, for which the number alone says it", () => {
    const { program } = buildFilter(OPEN);
    for (let nr = 0; nr <= 600; nr += 1) {
      assert.equal(evaluate(program, { arch: AUDIT_ARCH.x86_64, nr: 0x40000000 + nr }), ACTION.killProcess);
    }
  });

  it("refuses what reaches other processes, the kernel and the host", () => {
    const run = runner(OPEN);
    for (const name of [
      "ptrace",
      "process_vm_readv",
      "pidfd_getfd",
      "bpf",
      "perf_event_open",
      "keyctl",
      "mount",
      "setns",
    ]) {
      assert.equal(run(name), EPERM, name);
    }
    for (const name of [
      "userfaultfd",
      "open_by_handle_at",
      "memfd_secret",
      "clock_settime",
      "shmget",
      "mq_open",
      "syslog",
    ]) {
      assert.equal(run(name), EPERM, name);
    }
    for (const name of ["clone3", "io_uring_setup", "io_uring_enter"]) assert.equal(run(name), ENOSYS, name);
    for (const name of ["getpid", "kill", "wait4", "pidfd_open"]) assert.equal(run(name), "allow", name);
  });

  it("lets a process make threads and children, but no namespace", () => {
    const run = runner(TIGHT);
    assert.equal(run("clone", 0x3d0f00), "allow"); // pthread_create
    assert.equal(run("clone", 17), "allow"); // fork
    assert.equal(run("clone", 0x8000 | 17), "allow"); // CLONE_PARENT
    for (const bit of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]) {
      assert.equal(run("clone", bit | 17), EPERM, bit.toString(16));
      assert.equal(run("clone", (1n << 40n) | BigInt(bit)), EPERM, "the high word does not hide it");
      assert.equal(run("unshare", bit), EPERM);
    }
    assert.equal(run("unshare", 0x600), "allow");
    assert.equal(run("unshare", 0x80), EPERM); // CLONE_NEWTIME
  });

  it("makes only the sockets that the policy speaks of", () => {
    const none = runner(TIGHT);
    const all = runner(OPEN);
    const flags = 0o2004000;
    for (const family of [2, 10]) {
      assert.equal(none("socket", family, 1, 0), EACCES);
      assert.equal(all("socket", family, 1 | flags, 6), "allow");
      assert.equal(all("socket", family, 1, 262), EPROTONOSUPPORT); // MPTCP
      assert.equal(all("socket", family, 1, 132), EPROTONOSUPPORT); // SCTP
      assert.equal(all("socket", family, 2 | flags, 17), "allow");
      assert.equal(all("socket", family, 2, 136), EPROTONOSUPPORT); // UDP-Lite
      assert.equal(runner({ ...TIGHT, tcp: true })("socket", family, 2, 0), EACCES);
      assert.equal(all("socket", family, 3, 255), EPERM); // raw
      assert.equal(all("socket", family, 5, 132), EPERM); // seqpacket
      assert.equal(all("socket", family, 1 | 0x40000000, 0), EPERM); // an unknown flag
    }
    assert.equal(none("socket", 1, 1, 0), EACCES);
    assert.equal(all("socket", 1, 1 | flags, 0), "allow");
    for (const family of [0, 16, 17, 38, 40, 44]) assert.equal(all("socket", family, 3, 0), EAFNOSUPPORT, `${family}`);
    assert.equal(all("socket", (1n << 32n) | 2n, 1, 0), "allow", "the kernel reads the low word only");
  });

  it("pairs Unix sockets without a policy for them, but no datagram ones that could be sent elsewhere", () => {
    assert.equal(runner(TIGHT)("socketpair", 1, 1 | 0o2000000, 0), "allow");
    assert.equal(runner(TIGHT)("socketpair", 1, 5, 0), "allow");
    assert.equal(runner(TIGHT)("socketpair", 1, 2, 0), EACCES);
    assert.equal(runner(OPEN)("socketpair", 1, 2, 0), "allow");
    assert.equal(runner(OPEN)("socketpair", 2, 1, 0), EAFNOSUPPORT);
  });

  it("refuses the connect that hides in a send, and lets sends pass", () => {
    const run = runner(OPEN);
    const fastOpen = 0x20000000;
    for (const [name, arg] of [
      ["sendto", 3],
      ["sendmsg", 2],
      ["sendmmsg", 3],
    ] as const) {
      const args = [3, 0, 0, 0];
      assert.equal(run(name, ...args), "allow", name);
      args[arg] = fastOpen | 0x4000;
      assert.equal(run(name, ...args), EOPNOTSUPP, name);
    }
  });

  it("notifies of a send that names an address, and of one whose registers cannot say so, where that is judged", () => {
    const run = runner({ ...OPEN, sends: "engine" });
    assert.equal(run("sendto", 3, 0x1000, 1, 0, 0, 0), "allow", "it goes to the peer");
    assert.equal(run("sendto", 3, 0x1000, 1, 0, 0x1000, 16), "notify");
    assert.equal(run("sendto", 3, 0x1000, 1, 0, 1n << 32n, 16), "notify", "a pointer whose low word is zero");
    assert.equal(run("sendto", 3, 0x1000, 1, 0x20000000, 0x1000, 16), EOPNOTSUPP);
    assert.equal(run("sendmsg", 3, 0x1000, 0), "notify");
    assert.equal(run("sendmmsg", 3, 0x1000, 1, 0), "notify");
    assert.equal(run("sendmmsg", 3, 0x1000, 1, 0x20000000), EOPNOTSUPP);
  });

  it("lets no socket be given a source route or another protocol", () => {
    for (const policy of [TIGHT, OPEN]) {
      const run = runner(policy);
      for (const [level, option] of [
        [0, 4], // IP_OPTIONS
        [41, 57], // IPV6_RTHDR
        [41, 5], // as in RFC 2292
        [41, 6],
        [41, 32], // IPV6_FLOWLABEL_MGR
        [6, 31], // TCP_ULP, which makes SMC of TCP
      ] as const) {
        assert.equal(run("setsockopt", 3, level, option), EPERM, `${level} ${option}`);
      }
      for (const [level, option] of [
        [1, 2],
        [0, 1],
        [41, 26],
        [6, 1],
        [17, 103],
      ] as const) {
        assert.equal(run("setsockopt", 3, level, option), "allow", `${level} ${option}`);
      }
    }
  });

  it("makes sockets for echoes where a policy has them", () => {
    const run = runner({ ...TIGHT, icmp: true });
    assert.equal(run("socket", 2, 2, 1), "allow");
    assert.equal(run("socket", 10, 2 | 0o2000000, 58), "allow");
    assert.equal(run("socket", 2, 2, 17), EPROTONOSUPPORT);
    assert.equal(run("socket", 2, 2, 0), EPROTONOSUPPORT);
    assert.equal(run("socket", 2, 3, 1), EPERM);
    assert.equal(runner(OPEN)("socket", 2, 2, 1), EPROTONOSUPPORT);
  });

  it("refuses to listen where nothing may be bound", () => {
    assert.equal(runner(TIGHT)("listen", 3, 5), EACCES);
    assert.equal(runner(OPEN)("listen", 3, 5), "allow");
  });

  it("refuses terminal injection and interface requests by the low word, and lets terminals be used", () => {
    const run = runner(OPEN);
    for (const request of [0x5412, 0x541c, 0x5423, 0x8912, 0x8b01, 0x89e0]) {
      assert.equal(run("ioctl", 0, request), EPERM, request.toString(16));
      assert.equal(run("ioctl", 0, (0x5n << 32n) | BigInt(request)), EPERM, request.toString(16));
    }
    for (const request of [0x40086602, 0x401c5820]) {
      assert.equal(runner({ ...OPEN, metadata: "engine" })("ioctl", 0, request), EPERM);
      assert.equal(run("ioctl", 0, request), "allow");
    }
    for (const request of [0x5401, 0x5413, 0x540e, 0x541b, 0x5421, 0x8905, 0x80045430]) {
      assert.equal(run("ioctl", 0, request), "allow", request.toString(16));
    }
  });

  it("keeps a program readable and its privileges where they are", () => {
    const run = runner(OPEN);
    assert.equal(run("prctl", 4, 0), EPERM); // PR_SET_DUMPABLE
    assert.equal(run("prctl", 4, 1), "allow");
    for (const option of [24, 28, 35, 62, 0x59616d61]) assert.equal(run("prctl", option, 1), EPERM, `${option}`);
    for (const option of [31, 43, 57, 67, 72, 1000]) assert.equal(run("prctl", option, 1), EINVAL, `${option}`);
    for (const option of [1, 3, 15, 16, 22, 23, 38, 40, 47, 0x53564d41]) {
      assert.equal(run("prctl", option, 1), "allow", `${option}`);
    }
    assert.equal(run("personality", 0xffffffff), "allow");
    assert.equal(run("personality", 0), "allow");
    assert.equal(run("personality", 0x0040000), EPERM);
  });

  it("lets a program filter itself, but not listen", () => {
    const run = runner(OPEN);
    assert.equal(run("seccomp", 1, 0, 0x1000), "allow");
    assert.equal(run("seccomp", 1, 1 << 3, 0x1000), EBUSY);
    assert.equal(run("seccomp", 2, 0, 0x1000), "allow");
  });

  it("changes priorities, affinity and limits of the caller alone", () => {
    const run = runner(OPEN);
    assert.equal(run("prlimit64", 0, 7, 0x1000, 0), "allow");
    assert.equal(run("prlimit64", 4242, 7, 0, 0x1000), "allow");
    assert.equal(run("prlimit64", 4242, 7, 0x1000, 0), EPERM);
    assert.equal(run("prlimit64", 4242, 7, 1n << 40n, 0), EPERM, "a pointer whose low word is zero");
    for (const name of ["sched_setaffinity", "sched_setscheduler", "sched_setattr", "sched_setparam"]) {
      assert.equal(run(name, 0), "allow", name);
      assert.equal(run(name, 4242), EPERM, name);
    }
    assert.equal(run("setpriority", 0, 0, 5), "allow");
    assert.equal(run("setpriority", 2, 0, 5), EPERM); // every process of the user
    assert.equal(run("setpriority", 0, 4242, 5), EPERM);
    assert.equal(run("ioprio_set", 1, 0), "allow");
    assert.equal(run("ioprio_set", 3, 0), EPERM);
    assert.equal(run("ioprio_set", 0, 0), EPERM);
  });

  it("makes no device files, no leases and no large pipes", () => {
    const run = runner(OPEN);
    for (const mode of [0o644, 0o100644, 0o010600, 0o140600]) assert.equal(run("mknodat", 3, 0, mode), "allow");
    for (const mode of [0o020666, 0o060660, 0o040755]) {
      assert.equal(run("mknodat", 3, 0, mode), EPERM);
      assert.equal(run("mknod", 0, mode), EPERM);
    }
    assert.equal(run("fcntl", 3, 1024), EACCES);
    assert.equal(run("fcntl", 3, 1026), EACCES);
    assert.equal(run("fcntl", 3, 1031, 65536), "allow");
    assert.equal(run("fcntl", 3, 1031, 65537), EPERM);
    assert.equal(run("fcntl", 3, 2, 1), "allow");
  });

  it("leaves modes, owners and attributes alone where nothing is writable", () => {
    for (const name of [
      "chmod",
      "fchmodat2",
      "fchown",
      "utimensat",
      "setxattr",
      "setxattrat",
      "file_setattr",
      "utime",
    ]) {
      assert.equal(runner(TIGHT)(name), EPERM, name);
      assert.equal(runner(OPEN)(name), "allow", name);
    }
  });
});

describe("the filter of a sandbox that holds calls", () => {
  const O_PATH = 0o10000000;

  it("notifies opens for writing only, with every way to ask for one", () => {
    const run = runner({ ...OPEN, holdOpen: "writes" });
    for (const flags of [0o1, 0o2, 0o3, 0o100, 0o1000, 0o101, 0o20200002]) {
      assert.equal(run("openat", -100n, 0, flags), "notify", flags.toString(8));
      assert.equal(run("open", 0, flags), "notify", flags.toString(8));
      assert.equal(run("open", 0, BigInt(flags) | (1n << 40n)), "notify");
    }
    for (const flags of [0, 0o2000000, 0o200000, O_PATH, O_PATH | 0o2]) {
      assert.equal(run("openat", -100n, 0, flags), "allow", flags.toString(8));
      assert.equal(run("open", 0, flags), "allow", flags.toString(8));
    }
    assert.equal(run("creat"), "notify");
    assert.equal(run("openat2"), ENOSYS);
    assert.equal(runner(OPEN)("openat2"), "allow");
  });

  it("notifies every open that gives access when all are held", () => {
    const run = runner({ ...OPEN, holdOpen: "all" });
    assert.equal(run("openat", -100n, 0, 0), "notify");
    assert.equal(run("openat", -100n, 0, 0o1), "notify");
    assert.equal(run("openat", -100n, 0, O_PATH), "allow");
    assert.equal(run("openat2"), ENOSYS);
  });

  it("notifies named calls, but still refuses what it would refuse", () => {
    const notified = new Set(["connect", "execve", "execveat", "socket", "clone", "fork", "vfork"]);
    const run = runner({ ...OPEN, notified });
    for (const name of ["connect", "execve", "execveat", "fork", "vfork"]) assert.equal(run(name), "notify", name);
    assert.equal(run("socket", 2, 1, 6), "notify");
    assert.equal(run("socket", 17, 3, 0), EAFNOSUPPORT);
    assert.equal(run("clone", 17), "notify");
    assert.equal(run("clone", 0x10000000), EPERM);
    assert.equal(run("getpid"), "allow");
  });

  it("says which calls it can notify", () => {
    assert.deepEqual(buildFilter(TIGHT).notified, []);
    const { notified } = buildFilter({ ...TIGHT, holdOpen: "writes", notified: new Set(["connect"]) });
    assert.deepEqual(notified, ["open", "connect", "creat", "openat"]);
  });

  it("never allows a sibling of a call that it notifies whole", function () {
    this.timeout(30_000);
    for (const name of HOLDABLE) {
      const siblings = syscallSiblings(name);
      const opens = siblings.includes("open");
      const policy: FilterPolicy = opens ? { ...OPEN, holdOpen: "all" } : { ...OPEN, notified: new Set(siblings) };
      const run = runner(policy);
      for (const sibling of siblings) {
        for (const value of VALUES.filter((flags) => (flags & 0o10000000n) === 0n || !opens)) {
          assert.notEqual(run(sibling, value, value, value, value), "allow", `${sibling} beside ${name}`);
        }
      }
    }
  });

  it("leaves to the engine what a restore must inject, in checkpointable sandboxes only", () => {
    const run = runner({ ...TIGHT, checkpointable: true });
    const PR_SET_MM = 35;
    assert.equal(run("clone3"), "notify");
    assert.equal(run("userfaultfd"), "notify");
    assert.equal(run("prctl", PR_SET_MM), "notify");
    assert.equal(run("prctl", 15), "allow");
    assert.equal(runner(TIGHT)("prctl", PR_SET_MM), EPERM);
    assert.equal(run("io_uring_setup"), ENOSYS);
    const { notified } = buildFilter({ ...TIGHT, checkpointable: true });
    assert.deepEqual([...notified].sort(), INJECTABLE.map(({ syscall }) => syscall).sort());
    // checkpoint and restore inject these; none may be refused by the filter itself.
    const injected = `mmap munmap mremap openat close rt_sigaction sigaltstack getitimer setitimer clone set_tid_address
      set_robust_list rseq wait4 chdir umask capset epoll_ctl setsid setpgid rt_sigqueueinfo rt_tgsigqueueinfo close_range
      restart_syscall timer_create timer_settime timer_delete`.split(/\s+/);
    for (const name of injected) assert.equal(run(name), "allow", name);
  });

  it("allows, or notifies for its own exec, what the launch itself does under it", () => {
    const run = runner({ ...TIGHT, holdOpen: "all", notified: new Set(["execve", "execveat", "connect"]) });
    const steps =
      `write read sendmsg recvmsg close_range dup2 dup3 fcntl clone futex clock_gettime exit_group setsid wait4
      rt_sigprocmask`.split(/\s+/);
    for (const name of steps) assert.equal(run(name), "allow", name);
    assert.equal(run("execve"), "notify");
    assert.equal(run("prctl", 1, 9), "allow"); // PR_SET_PDEATHSIG
  });
});
