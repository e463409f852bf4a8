import assert from "node:assert/strict";
import { canonicalAddress, serviceAddress } from "../../src/cli/address.js";
import { formatDurationMs, parseDurationMs } from "../../src/cli/duration.js";
import { explainRefusal, type Refusal, UsageError } from "../../src/cli/failure.js";
import { parseBinding, parseDestination, parsePorts } from "../../src/cli/network-rule.js";
import { clipped, printable, quoted } from "../../src/cli/printable.js";
import { parseSignal, signalName } from "../../src/cli/signals.js";
import { formatTable, styleFor } from "../../src/cli/style.js";

describe("durations on the command line", () => {
  it("reads units, sums of them, and a bare number as seconds", () => {
    assert.equal(parseDurationMs("500ms"), 500);
    assert.equal(parseDurationMs("10s"), 10_000);
    assert.equal(parseDurationMs("1.5m"), 90_000);
    assert.equal(parseDurationMs("1h30m"), 5_400_000);
    assert.equal(parseDurationMs("2"), 2_000);
    assert.equal(parseDurationMs("0.0001s"), 1);
  });

  it("refuses what is not a duration and says how to write one", () => {
    for (const text of ["", "fast", "-1s", "10 s", "5y", "1s2"]) {
      assert.throws(
        () => parseDurationMs(text),
        (error) => error instanceof UsageError && /write 500ms/.test(error.message),
      );
    }
  });

  it("shows the two largest units", () => {
    assert.equal(formatDurationMs(299_400), "4m59s");
    assert.equal(formatDurationMs(850), "850ms");
    assert.equal(formatDurationMs(12_999), "12s");
    assert.equal(formatDurationMs(7_200_000), "2h");
    assert.equal(formatDurationMs(90_000_000), "1d1h");
  });
});

describe("destinations on the command line", () => {
  it("reads transports, addresses, blocks, ports and socket paths", () => {
    assert.deepEqual(parseDestination("127.0.0.1:8080"), {
      transport: undefined,
      host: "127.0.0.1",
      ports: [{ first: 8080, last: 8080 }],
    });
    assert.deepEqual(parseDestination("tcp://[::1]:80-90,443"), {
      transport: "tcp",
      host: "::1",
      ports: [
        { first: 80, last: 90 },
        { first: 443, last: 443 },
      ],
    });
    assert.deepEqual(parseDestination("10.0.0.0/8"), { transport: undefined, host: "10.0.0.0/8", ports: [] });
    assert.deepEqual(parseDestination("udp://[2001:db8::]/32:53"), {
      transport: "udp",
      host: "2001:db8::/32",
      ports: [{ first: 53, last: 53 }],
    });
    assert.deepEqual(parseDestination("*:443"), { transport: undefined, host: "", ports: [{ first: 443, last: 443 }] });
    assert.deepEqual(parseDestination("*"), { transport: undefined, host: "", ports: [] });
    assert.deepEqual(parseDestination("::1"), { transport: undefined, host: "::1", ports: [] });
    assert.deepEqual(parseDestination("unix:///run/app.sock"), { transport: "unix", host: "/run/app.sock", ports: [] });
    assert.deepEqual(parseDestination("unix://@name"), { transport: "unix", host: "@name", ports: [] });
    assert.deepEqual(parseDestination(":8080"), {
      transport: undefined,
      host: "",
      ports: [{ first: 8080, last: 8080 }],
    });
    assert.deepEqual(parseDestination("10.0.0.0/8:*"), { transport: undefined, host: "10.0.0.0/8", ports: [] });
    assert.deepEqual(parseDestination("icmp://[::1]"), { transport: "icmp", host: "::1", ports: [] });
    assert.deepEqual(parseDestination("icmp://*"), { transport: "icmp", host: "", ports: [] });
    for (const host of ["api.example.com", "*.example.com", "localhost", "xn--bcher-kva.example", "_x.example."]) {
      assert.deepEqual(parseDestination(`${host}:443`).host, host);
    }
  });

  it("reads what may be bound, of TCP unless it says otherwise", () => {
    const range = (first: number, last = first) => ({ first, last });
    assert.deepEqual(parseBinding("8080,9000-9005"), {
      transport: "tcp",
      address: "",
      ports: [range(8080), range(9000, 9005)],
    });
    assert.deepEqual(parseBinding("*"), { transport: "tcp", address: "", ports: [] });
    assert.deepEqual(parseBinding("udp://5353"), { transport: "udp", address: "", ports: [range(5353)] });
    assert.deepEqual(parseBinding("127.0.0.1:80"), { transport: "tcp", address: "127.0.0.1", ports: [range(80)] });
    assert.deepEqual(parseBinding("tcp://[::1]:*"), { transport: "tcp", address: "::1", ports: [] });
    for (const text of ["", "0", "80-", "localhost:80", "127.0.0.1", "unix:///x", "80,*", "*.example.com:80"]) {
      assert.throws(() => parseBinding(text), UsageError, text);
    }
  });

  it("refuses a destination that would mean something else than it seems to", () => {
    const wrong = ["", "tcp://", "sctp://1.2.3.4", "10.0.0.0/33", "host/8", "::1:zz", "[::1", "[1.2.3.4]:80", "a b:1"];
    const misread = [
      "127.1",
      "010.0.0.1",
      "0x7f.0.0.1",
      "1.2.3.4.5",
      "fe80::1%eth0",
      "*.*.example.com",
      "a*.example.com",
    ];
    const ports = [":", "h:", "h:0", "h:70000", "h:80,*", "h:80-70", "icmp://h:1", "unix://relative", "unix://@"];
    for (const text of [...wrong, ...misread, ...ports]) {
      assert.throws(
        () => parseDestination(text),
        (error) => error instanceof UsageError && /write |leave out|is above the last/.test(error.message),
        text,
      );
    }
    assert.throws(() => parsePorts("90-80"), /first port is above the last/);
    assert.throws(() => parsePorts("70000"), UsageError);
  });
});

describe("signals on the command line", () => {
  it("reads names with and without SIG, and numbers", () => {
    assert.equal(parseSignal("TERM"), 15);
    assert.equal(parseSignal("sigkill"), 9);
    assert.equal(parseSignal("64"), 64);
    assert.throws(() => parseSignal("0"), UsageError);
    assert.throws(() => parseSignal("NOPE"), UsageError);
    assert.equal(signalName(9), "SIGKILL");
    assert.equal(signalName(40), "signal 40");
  });
});

describe("text that a sandboxed program chose", () => {
  it("cannot move the cursor, reorder the line, or forge a question", () => {
    assert.equal(printable("plain é 漢"), "plain é 漢");
    assert.equal(printable("\u001b[2J\r\nallow?"), "\\x1b[2J\\x0d\\nallow?");
    assert.equal(printable("a\u202eb\u200bc"), "a\\u{202e}b\\u{200b}c");
    assert.equal(printable("a\\x1bb"), "a\\\\x1bb");
    assert.equal(printable(Uint8Array.of(0x2f, 0xff, 0x61, 0x0a)), "/\\xffa\\x0a");
  });

  it("is quoted where a shell would need it and cut with a count", () => {
    assert.equal(quoted("/usr/bin/env"), "/usr/bin/env");
    assert.equal(quoted("it's"), "'it'\\''s'");
    assert.equal(quoted(""), "''");
    assert.equal(clipped("abcdef", 4), "abcd… (2 more)");
    assert.equal(clipped("abcd", 4), "abcd");
  });
});

describe("the address of the service", () => {
  it("comes from the option, then SANDGATE_ADDRESS, then the usual socket", () => {
    assert.equal(serviceAddress("unix:/a.sock", { SANDGATE_ADDRESS: "unix:/b.sock" }), "unix:/a.sock");
    assert.equal(serviceAddress(undefined, { SANDGATE_ADDRESS: "/b.sock" }), "unix:/b.sock");
    assert.equal(serviceAddress(undefined, { XDG_RUNTIME_DIR: "/run/user/7" }), "unix:/run/user/7/sandgate.sock");
    assert.equal(serviceAddress(undefined, {}), "unix:/run/sandgate/sandgate.sock");
  });

  it("is checked before anything is connected", () => {
    assert.equal(canonicalAddress("tcp:127.0.0.1:7070"), "127.0.0.1:7070");
    assert.equal(canonicalAddress("unix:///run/s.sock"), "unix:/run/s.sock");
    assert.equal(canonicalAddress("[::1]:7070"), "[::1]:7070");
    assert.throws(() => canonicalAddress("unix:run/s.sock"), /must be absolute/);
    assert.throws(() => canonicalAddress("localhost"), /HOST:PORT/);
    assert.throws(() => canonicalAddress(`unix:/${"x".repeat(110)}`), /107 bytes/);
  });
});

describe("a refusal on the command line", () => {
  const refusal = (change: Partial<Refusal>): Refusal => ({
    code: "FAILED_PRECONDITION",
    message: "the launch failed",
    reason: "",
    field: "",
    metadata: {},
    ...change,
  });

  it("names stage, system call and errno, and a remedy, in one line", () => {
    const { line, exitStatus } = explainRefusal(
      refusal({
        message: "cannot execute\n/opt/tool/run",
        reason: "EXEC_FAILED",
        metadata: { stage: "exec", syscall: "execve", errno: "13", argument: "/opt/tool/run" },
      }),
      "unix:/s",
    );
    assert.equal(
      line,
      "cannot execute; /opt/tool/run (stage exec, execve, EACCES); make it executable, or let the sandbox read it with --read /opt/tool",
    );
    assert.equal(exitStatus, 126);
  });

  it("ends with 127 for a program that is missing and 125 for everything of its own", () => {
    assert.equal(explainRefusal(refusal({ reason: "EXEC_FAILED", metadata: { errno: "ENOENT" } }), "").exitStatus, 127);
    assert.equal(explainRefusal(refusal({ reason: "INVALID_FIELD", code: "INVALID_ARGUMENT" }), "").exitStatus, 125);
  });

  it("says it in terms of options where the service spoke of request fields", () => {
    const { line } = explainRefusal(
      refusal({
        message:
          "the program was not started: faccessat tool failed with ENOENT at stage program (set PATH in process.env)",
        reason: "EXEC_FAILED",
        metadata: {
          stage: "program",
          syscall: "faccessat",
          errno: "ENOENT",
          argument: "tool",
          remedy: "set PATH in process.env",
        },
      }),
      "",
    );
    assert.equal(
      line,
      "the program was not started: faccessat tool failed with ENOENT at stage program; " +
        "no directory of the sandbox's PATH has it: give its full path, or set --env PATH=…",
    );
  });

  it("says how to start a service when nothing answers", () => {
    const message = "No connection established. Last error: Error: connect ENOENT /s. Resolution note: ";
    assert.equal(
      explainRefusal(refusal({ code: "UNAVAILABLE", message }), "unix:/s").line,
      'nothing answers at unix:/s: connect ENOENT /s; start "sandgate serve", or name another with --address or SANDGATE_ADDRESS',
    );
  });
});

describe("tables and colours", () => {
  it("pads columns and leaves no trailing space", () => {
    assert.equal(
      formatTable(
        ["ID", "STATE"],
        [
          ["longer", "x"],
          ["a", ""],
        ],
      ),
      "ID      STATE\nlonger  x\na\n",
    );
  });

  it("colours only a terminal, and none with NO_COLOR", () => {
    assert.equal(styleFor({ isTTY: true }, {}).red("x"), "\u001b[31mx\u001b[39m");
    assert.equal(styleFor({ isTTY: true }, { NO_COLOR: "1" }).red("x"), "x");
    assert.equal(styleFor({ isTTY: false }, {}).red("x"), "x");
  });
});
