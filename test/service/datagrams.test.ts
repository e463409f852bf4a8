import assert from "node:assert/strict";
import { execFileSync, spawn as startProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { Transport } from "../../src/client/client.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { endProcess, type Receiver, receive, sendOutside } from "../support/receivers.js";
import { run, type Spec, startTestService, type TestService } from "../support/service.js";

type Rules = NonNullable<NonNullable<Spec["network"]>["allow"]>;

const NAMING = ["sendto", "sendmsg", "sendmmsg"];
/** The others connect first. */
const WAYS = [...NAMING, "send", "peer-sendmsg", "peer-sendmmsg"];
const refusalOf = (way: string): string => (NAMING.includes(way) ? "EACCES" : "ECONNREFUSED");

describe("datagrams", () => {
  const guest = guestPath("datagrams");
  const LOCAL = "127.0.0.1";
  let service: TestService;

  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  async function inside(spec: Spec, ...args: readonly string[]): Promise<string> {
    const { stdout, exit } = await run(service.client, { spec, process: { argv: [guest, ...args] } });
    return stdout === "" ? `${exit.result.case} ${exit.result.value}` : stdout.trim();
  }
  /** A race that is won when nobody judges it: runs until something gets to the receiver. */
  async function winOutside(target: Receiver, other: Receiver | undefined, ...args: readonly string[]): Promise<void> {
    for (let reached = 0; reached === 0; ) {
      sendOutside(...args);
      reached = (await target.received()).length;
      await other?.received();
    }
  }

  const udp = (port: string, host = LOCAL): Spec => ({
    network: { allow: [{ transport: Transport.UDP, host, ports: [{ first: Number(port) }] }] },
  });

  describe("of UDP under rules on destinations", () => {
    it("reach what is allowed and nothing else, in every way to name it", async () => {
      await using open = await receive(LOCAL);
      await using closed = await receive(LOCAL);
      for (const way of WAYS) {
        assert.equal(await inside(udp(open.port), "send", LOCAL, open.port, way, way), "ok", way);
        assert.equal(await inside(udp(open.port), "send", LOCAL, closed.port, way, way), refusalOf(way), way);
      }
      assert.deepEqual(await open.received(), WAYS);
      assert.deepEqual(await closed.received(), []);
    });

    it("are judged by the host they reach, in every form of its address", async () => {
      await using open = await receive("::");
      const spec: Spec = { network: { allow: [{ transport: Transport.UDP }], deny: [{ host: "127.0.0.2" }] } };
      for (const way of ["sendto", "sendmsg", "sendmmsg", "send"]) {
        for (const host of ["127.0.0.2", "::ffff:127.0.0.2"])
          assert.equal(await inside(spec, "send", host, open.port, way, way), refusalOf(way), `${way} ${host}`);
        assert.equal(await inside(spec, "send", "127.0.0.3", open.port, way, way), "ok", way);
        assert.equal(await inside(spec, "send", "::ffff:127.0.0.3", open.port, way, way), "ok", way);
        assert.equal(await inside(spec, "send", "0.0.0.0", open.port, way, way), "ok", way);
      }
      // IPv4's sockets take an address without a family for one of theirs, and IPv6's take one of IPv4.
      assert.equal(await inside(spec, "send", "127.0.0.2", open.port, "unspec", "x"), "EACCES");
      assert.equal(await inside(spec, "send", "127.0.0.2", open.port, "sendto", "x", "10"), "EACCES");
      assert.equal(await inside(spec, "send", "127.0.0.3", open.port, "unspec", "unspec"), "ok");
      assert.equal(await inside(spec, "send", "127.0.0.3", open.port, "sendto", "family", "10"), "ok");
      assert.equal(await inside(spec, "send", "::1", open.port, "unspec", "x"), "EDESTADDRREQ");
      const got = await open.received();
      assert.equal(got.length, 14, got.join());
    });

    it("cannot be turned elsewhere once their socket is connected", async () => {
      await using open = await receive(LOCAL);
      await using closed = await receive(LOCAL);
      assert.equal(await inside(udp(open.port), "turn", LOCAL, open.port, LOCAL, closed.port, "x"), "EACCES");
      assert.equal(await inside(udp(open.port), "turn", LOCAL, open.port, LOCAL, open.port, "x"), "ok");
      assert.deepEqual([await open.received(), await closed.received()], [["x"], []]);
    });

    it("go out in one call up to the first that is refused, with the length of each", async () => {
      await using open = await receive(LOCAL);
      await using closed = await receive(LOCAL);
      assert.equal(await inside(udp(open.port), "many", LOCAL, open.port, "10"), "10 sent, 10 lengths");
      assert.equal(await inside(udp(open.port), "many", LOCAL, open.port, "10", closed.port), "9 sent, 9 lengths");
      assert.equal(await inside(udp(open.port), "many", LOCAL, open.port, "1", closed.port), "EACCES");
      const expected = Array.from({ length: 10 }, (_, index) => `message ${index}`);
      assert.deepEqual(await open.received(), [...expected, ...expected.slice(0, 9)]);
      assert.deepEqual(await closed.received(), []);
    });

    it("are as large as the kernel lets them be", async () => {
      await using open = await receive(LOCAL);
      for (const way of ["sendto", "sendmsg", "sendmmsg"]) {
        assert.equal(await inside(udp(open.port), "size", LOCAL, open.port, "65507", way), "ok", way);
        assert.equal(await inside(udp(open.port), "size", LOCAL, open.port, "65508", way), "EMSGSIZE", way);
        assert.equal(await inside(udp(open.port), "size", LOCAL, open.port, "70000", way), "EMSGSIZE", way);
        assert.equal(await inside(udp(open.port), "size", LOCAL, open.port, "0", way), "ok", way);
      }
      assert.equal((await open.received()).length, 6);
    });

    it("win no race by an address that changes while it is judged", async () => {
      await using open = await receive(LOCAL);
      await using closed = await receive(LOCAL);
      for (const way of ["sendto", "sendmsg", "sendmmsg"]) {
        const args = ["race-address", LOCAL, open.port, closed.port, way, "200", "x"];
        const sent = Number(await inside(udp(open.port), ...args));
        assert.equal((await open.received()).length, sent, way);
        assert.deepEqual(await closed.received(), [], way);
        await winOutside(closed, open, ...args);
      }
    });

    it("win no race by a descriptor that changes while it is judged", async () => {
      await using open = await receive(LOCAL);
      await using closed = await receive(LOCAL);
      for (const way of ["sendmsg", "sendmmsg"]) {
        const args = ["race-descriptor", LOCAL, closed.port, way, "200", "x"];
        await inside(udp(open.port), ...args);
        assert.deepEqual(await closed.received(), [], way);
        await winOutside(closed, undefined, ...args);
      }
    });
  });

  describe("of UDP under a rule that allows all", () => {
    it("are left to the kernel", async () => {
      await using open = await receive(LOCAL);
      const spec: Spec = { network: { allow: [{ transport: Transport.UDP }] } };
      for (const way of WAYS) assert.equal(await inside(spec, "send", LOCAL, open.port, way, way), "ok");
      assert.deepEqual(await open.received(), WAYS);
    });
  });

  describe("where messages are judged", () => {
    const spec = udp("9");

    it("leave streams and passed descriptors as they are", async () => {
      assert.equal(await inside(spec, "pass"), "ok");
      for (const count of ["1", "8", "252"]) assert.equal(await inside(spec, "pass-many", count), count);
      assert.equal(await inside(spec, "pass-many", "253"), "ETOOMANYREFS");
      const counted = (await inside(spec, "stream", "1000000")).split("\n").sort();
      assert.deepEqual(counted, ["received 1000000", "sent 1000000"]);
    });

    it("raise a signal where the peer of a stream has gone", async () => {
      assert.equal(await inside(spec, "broken"), sendOutside("broken"));
      assert.equal(sendOutside("broken"), "EPIPE\nsignal 13\nEPIPE");
    });
  });

  describe("of ICMP", () => {
    it("ask whom they may for an echo", async () => {
      const spec = (host: string): Spec => ({ network: { allow: [{ transport: Transport.ICMP, host }] } });
      // The host may let no group make such sockets; the answer of the kernel then shows that the filter let it pass.
      const native = sendOutside("echo", LOCAL);
      assert.equal(await inside(spec(LOCAL), "echo", LOCAL), native);
      assert.equal(await inside(spec("127.0.0.2"), "echo", LOCAL), native === "ok" ? "EACCES" : native);
      assert.equal(await inside(udp("9"), "echo", LOCAL), "EPROTONOSUPPORT");
    });
  });

  describe("of Unix sockets", () => {
    const at = (name: string): string => join(service.directory, "sockets", name);
    const unix = (...hosts: string[]): Spec => ({
      filesystem: { readable: [guestDirectory] },
      network: { allow: hosts.map((host) => ({ transport: Transport.UNIX, host })) as Rules },
    });

    beforeEach(() => mkdirSync(join(service.directory, "sockets"), { recursive: true }));
    afterEach(() => rmSync(join(service.directory, "sockets"), { recursive: true, force: true }));

    it("reach what a rule names, by its place or the tree that it lies in, and nothing else", async () => {
      mkdirSync(at("tree"));
      await using open = await receive(at("tree/open"));
      await using closed = await receive(at("closed"));
      for (const way of WAYS) {
        for (const rule of [at("tree/open"), at("tree"), "", "*"])
          assert.equal(await inside(unix(rule), "send", at("tree/open"), "0", way, way), "ok", `${way} ${rule}`);
        for (const rule of [at("tree/open"), at("tree"), at("clo"), at("tree/open/closed")])
          assert.equal(await inside(unix(rule), "send", at("closed"), "0", way, way), refusalOf(way), `${way} ${rule}`);
      }
      assert.equal((await open.received()).length, WAYS.length * 4);
      assert.deepEqual(await closed.received(), []);
    });

    it("are judged by where a name leads, not by how it is spelled", async () => {
      mkdirSync(at("tree"));
      await using closed = await receive(at("closed"));
      symlinkSync(at("closed"), at("tree/link"));
      symlinkSync(at(""), at("tree/up"));
      const spec = unix(at("tree"));
      for (const name of ["tree/link", "tree/up/closed", "tree/../closed", "tree/./../closed"]) {
        assert.equal(await inside(spec, "send", at(name), "0", "sendto", "x"), "EACCES", name);
        assert.equal(await inside(spec, "send", at(name), "0", "send", "x"), "ECONNREFUSED", name);
      }
      // A rule's own links are followed, and a relative name starts at the caller's directory.
      assert.equal(await inside(unix(at("tree/link")), "send", at("closed"), "0", "sendto", "by link"), "ok");
      const { stdout } = await run(service.client, {
        spec: unix(at("closed")),
        process: { argv: [guest, "send", "./closed", "0", "sendmsg", "relative"], cwd: at("") },
      });
      assert.equal(stdout.trim(), "ok");
      assert.deepEqual(await closed.received(), ["by link", "relative"]);
    });

    it("refuse what is denied, also by another name", async () => {
      await using open = await receive(at("open"));
      await using closed = await receive(at("closed"));
      execFileSync("ln", [at("closed"), at("hard")]);
      const spec: Spec = {
        network: {
          allow: [{ transport: Transport.UNIX, host: at("") }],
          deny: [{ transport: Transport.UNIX, host: at("closed") }],
        },
      };
      assert.equal(await inside(spec, "send", at("open"), "0", "sendto", "x"), "ok");
      for (const name of ["closed", "hard"])
        for (const way of WAYS)
          assert.equal(await inside(spec, "send", at(name), "0", way, "x"), refusalOf(way), `${name} ${way}`);
      assert.deepEqual([await open.received(), await closed.received()], [["x"], []]);
    });

    it("win no race by a name or a descriptor that changes while it is judged", async () => {
      await using open = await receive(at("a"));
      await using closed = await receive(at("b"));
      for (const way of ["sendto", "sendmsg", "sendmmsg"]) {
        const paths = ["race-path", at("a"), at("b"), way, "200", "x"];
        const sent = Number(await inside(unix(at("a")), ...paths));
        assert.equal((await open.received()).length, sent, way);
        await inside(unix(at("a")), "race-descriptor", at("b"), "0", way, "200", "x");
        assert.deepEqual(await closed.received(), [], way);
        await winOutside(closed, open, ...paths);
      }
    });

    it("carry descriptors to what a rule names", async () => {
      await using open = await receive(at("open"));
      assert.equal(await inside(unix(at("open")), "pass-to", at("open")), "ok");
      assert.deepEqual(await open.received(), ["passed (fd)"]);
    });

    it("wait for room as long as the caller does, and no longer", async () => {
      const child = startProcess(guest, ["hold", at("full")], { stdio: ["ignore", "pipe", "inherit"] });
      await once(child.stdout, "data");
      const spec = unix(at("full"));
      assert.equal(await inside(spec, "full", at("full")), "EAGAIN\nsignal 14\nEINTR");
      await endProcess(child);
    });

    it("are bound where the program may write, and reached where a rule says so", async () => {
      mkdirSync(at("work"));
      execFileSync("chmod", ["777", at("work")]);
      const spec: Spec = {
        filesystem: { writable: [at("work")] },
        network: { allow: [{ transport: Transport.UNIX, host: at("work") }] },
      };
      assert.equal(await inside(spec, "own-local", at("work/own")), "ok");
      assert.match(await inside(spec, "own-local", at("own")), /^(EACCES|EROFS)$/);
      assert.equal(await inside({ filesystem: { writable: [at("work")] } }, "own-local", at("work/two")), "EACCES");
    });

    it("have abstract names within the sandbox alone", async () => {
      const name = `@sandgate-${process.pid}`;
      const child = startProcess(guest, ["receive", name, "0"], { stdio: ["ignore", "pipe", "inherit"] });
      await once(child.stdout, "data");
      for (const spec of [unix(""), unix(name), unix(at("x"))]) {
        assert.equal(await inside(spec, "send", name, "0", "sendto", "x"), "EPERM");
        assert.equal(await inside(spec, "send", name, "0", "send", "x"), "EPERM");
        assert.equal(await inside(spec, "own-local", `${name}-own`), "ok");
      }
      assert.equal(sendOutside("send", name, "0", "sendto", "x"), "ok");
      await endProcess(child);
    });

    it("never reach the service, by whatever rule and name", async () => {
      const socket = service.address.replace(/^unix:/, "");
      execFileSync("ln", [socket, at("alias")]);
      const server = createServer((client) => client.end("hello")).listen(at("other"));
      await once(server, "listening");
      for (const rule of ["", "/", socket, at("")]) {
        for (const name of [socket, at("alias")])
          assert.equal(await inside(unix(rule), "send", name, "0", "send", "x"), "ECONNREFUSED", `${rule} ${name}`);
      }
      server.close();
    });

    it("are none where the name is something else, or too long", async () => {
      writeFileSync(at("file"), "");
      assert.equal(await inside(unix(at("")), "send", at("file"), "0", "sendto", "x"), "ECONNREFUSED");
      assert.equal(await inside(unix(at("x")), "send", at("file"), "0", "sendto", "x"), "EACCES");
      assert.equal(await inside(unix(at("")), "send", at("none"), "0", "sendto", "x"), "ENOENT");
    });
  });
});
