import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Transport } from "../../src/client/client.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { listen, listenInVain } from "../support/listeners.js";
import { act, requestId, run, type Spec, startTestService, type TestService } from "../support/service.js";

describe("network rules", () => {
  let service: TestService;

  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  const connect = (spec: Spec, host: string, port: number): Promise<string> =>
    act(service.client, spec, "connect", host, `${port}`);

  describe("that allow and deny", () => {
    it("let everything be reached but what is denied, in every form of its address", async () => {
      await using open = await listen("0.0.0.0");
      const spec: Spec = { network: { allow: [{ transport: Transport.TCP }], deny: [{ host: "127.0.0.2" }] } };
      assert.equal(await connect(spec, "127.0.0.1", open.port), "ok");
      assert.equal(await connect(spec, "127.0.0.3", open.port), "ok");
      assert.equal(await connect(spec, "::ffff:127.0.0.3", open.port), "ok");
      for (const form of ["127.0.0.2", "::ffff:127.0.0.2"]) {
        assert.equal(await connect(spec, form, open.port), "ECONNREFUSED", form);
      }
      const denied = await act(service.client, spec, "exchange", "127.0.0.2", `${open.port}`, "x");
      assert.equal(denied, "ECONNREFUSED");
      assert.equal(open.accepted(), 3);
    });

    it("see loopback in the unspecified address, which is where the kernel connects it to", async () => {
      await using open = await listen("0.0.0.0");
      const but: Spec = { network: { allow: [{ transport: Transport.TCP }], deny: [{ host: "127.0.0.0/8" }] } };
      const only: Spec = { network: { allow: [{ transport: Transport.TCP, host: "127.0.0.1" }] } };
      for (const form of ["0.0.0.0", "::ffff:0.0.0.0"]) {
        assert.equal(await connect(but, form, open.port), "ECONNREFUSED", form);
        assert.equal(await connect(only, form, open.port), "ok", form);
      }
      assert.equal(open.accepted(), 2);
    });

    it("let a denied rule win whatever their order, and its port alone", async () => {
      await using open = await listen();
      await using other = await listen();
      const port = (first: number) => ({ ports: [{ first }] });
      const spec: Spec = {
        network: {
          deny: [{ host: "127.0.0.1", ...port(other.port) }],
          allow: [{ transport: Transport.TCP, host: "127.0.0.0/8" }],
        },
      };
      assert.equal(await connect(spec, "127.0.0.1", open.port), "ok");
      assert.equal(await connect(spec, "127.0.0.1", other.port), "ECONNREFUSED");
      assert.equal(other.accepted(), 0);
    });

    it("open nothing by denying alone, and say so", async () => {
      await using open = await listen();
      const spec: Spec = { network: { deny: [{ host: "192.0.2.1" }] } };
      assert.equal(await connect(spec, "127.0.0.1", open.port), "EACCES");
      assert.equal(open.accepted(), 0);
      const { warnings } = await service.client.sandbox.spawn({
        requestId: requestId(),
        spec,
        process: { argv: ["/bin/true"] },
      });
      assert.match(warnings.map(({ message }) => message).join(), /spec\.network\.deny: denies what nothing allows/);
    });
  });

  describe("that make the service look at each connect", () => {
    const guest = guestPath("connects");
    const loopback: Spec = {
      filesystem: { readable: [guestDirectory] },
      network: { allow: [{ transport: Transport.TCP, host: "127.0.0.1" }] },
    };
    const inside = async (...args: (string | number)[]): Promise<string> => {
      const { stdout } = await run(service.client, { spec: loopback, process: { argv: [guest, ...args.map(String)] } });
      return stdout.trim();
    };
    /** The same without a sandbox. */
    const outside = async (...args: (string | number)[]): Promise<string> =>
      (await promisify(execFile)(guest, args.map(String))).stdout.trim();

    it("answer as the kernel does: in progress, already, connected, too long, of a wrong shape", async () => {
      await using open = await listen();
      await using full = await listenInVain();
      const states = await inside("states", open.port, full.port);
      assert.match(states, /^(EINPROGRESS ok|ok EISCONN) EISCONN EINPROGRESS EALREADY$/);
      assert.equal(await inside("timeout", full.port), "EINPROGRESS EALREADY");
      assert.equal(await outside("timeout", full.port), "EINPROGRESS EALREADY");
      assert.equal(await inside("again", open.port, open.port), "ok EISCONN ok ok");
      assert.equal(await inside("shapes", open.port), await outside("shapes", open.port));
    });

    it("are interrupted by a signal, and go on where its action says so", async () => {
      await using full = await listenInVain();
      assert.equal(await inside("alarm", full.port), "EINTR");
      assert.equal(await outside("alarm", full.port), "EINTR");
      assert.equal(await inside("restart", full.port), "restarted");
      assert.equal(await outside("restart", full.port), "restarted");
    });

    it("judge what a socket is connected to again", async () => {
      await using open = await listen();
      await using closed = await listen();
      const one: Spec = {
        filesystem: { readable: [guestDirectory] },
        network: { allow: [{ transport: Transport.TCP, host: "127.0.0.1", ports: [{ first: open.port }] }] },
      };
      const argv = [guest, "again", `${open.port}`, `${closed.port}`];
      assert.equal(
        (await run(service.client, { spec: one, process: { argv } })).stdout.trim(),
        "ok EISCONN ok ECONNREFUSED",
      );
      assert.equal(closed.accepted(), 0);
    });

    it("are not fooled by a thread that changes the address' family or exchanges the socket", async () => {
      await using open = await listen("0.0.0.0");
      const unconfined = await outside("race-family", open.port, "200000", "once");
      assert.doesNotMatch(unconfined, /reached 0 /, "where nobody looks it is reached");
      assert.match(await inside("race-family", open.port, "500"), /^reached 0 refused [1-9]/);
      assert.equal(await inside("race-socket", open.port, "500"), "wrong 0");
    }).timeout(60_000);
  });

  describe("of what may be bound", () => {
    const guest = guestPath("connects");
    const inside = async (network: NonNullable<Spec["network"]>, ...args: string[]): Promise<string> => {
      const spec: Spec = { filesystem: { readable: [guestDirectory] }, network };
      return (await run(service.client, { spec, process: { argv: [guest, ...args] } })).stdout.trim();
    };
    /** A port that was free a moment ago. */
    const freePort = async (): Promise<number> => {
      await using server = await listen();
      return server.port;
    };

    it("let a port be listened on by one address alone", async () => {
      const port = await freePort();
      const only = { bind: [{ address: "127.0.0.1", ports: [{ first: port }] }] };
      assert.equal(await inside(only, "bind", "127.0.0.1", `${port}`), "ok");
      assert.equal(await inside(only, "bind", "::ffff:127.0.0.1", `${port}`), "ok");
      for (const host of ["127.0.0.2", "0.0.0.0", "::", "::1"]) {
        assert.equal(await inside(only, "bind", host, `${port}`), "EACCES", host);
      }
      assert.equal(await inside(only, "bind", "127.0.0.1", `${port + 1}`), "EACCES");
      const any = { bind: [{ ports: [{ first: port }] }] };
      for (const host of ["127.0.0.2", "0.0.0.0", "::1"])
        assert.equal(await inside(any, "bind", host, `${port}`), "ok");
    });

    it("let many ports be bound, more than the kernel is told one by one", async () => {
      const port = await freePort();
      const many = { bind: [{ ports: [{ first: 20_000, last: 60_999 }] }] };
      assert.equal(await inside(many, "bind", "127.0.0.1", `${port}`), "ok");
      assert.equal(await inside(many, "bind", "127.0.0.1", "19999"), "EACCES");
    });

    it("judge UDP ports, and let the kernel choose one as a send would", async () => {
      const port = await freePort();
      const udp = { transport: Transport.UDP };
      const client = { allow: [udp] };
      const server = { allow: [udp], bind: [{ ...udp, ports: [{ first: port }] }] };
      assert.equal(await inside(client, "bind", "udp://0.0.0.0", "0"), "ok");
      assert.equal(await inside(client, "bind", "udp://127.0.0.1", `${port}`), "EACCES");
      assert.equal(await inside(server, "bind", "udp://127.0.0.1", `${port}`), "ok");
      assert.equal(await inside(server, "bind", "udp://127.0.0.1", `${port + 1}`), "EACCES");
      assert.equal(await inside(server, "bind", "127.0.0.1", `${port}`), "EACCES", "of TCP there is none");
    });

    it("judge odd addresses as the kernel reads them, and no socket listens that was not bound", async () => {
      const port = await freePort();
      const one = { bind: [{ address: "127.0.0.1", ports: [{ first: port }] }] };
      const refused = "EACCES EAFNOSUPPORT EACCES";
      assert.equal(await inside(one, "bind-odd", `${port}`), `EINVAL EINVAL EINVAL ok ok EINVAL ${refused}`);
      const any = { bind: [{ ports: [{ first: port }] }] };
      const answers = "EINVAL EINVAL EINVAL ok ok EINVAL ok EAFNOSUPPORT EACCES";
      assert.equal(await inside(any, "bind-odd", `${port}`), answers);
    });

    it("let none listen on a port that a dissolved connect left behind", async () => {
      await using open = await listen();
      const port = await freePort();
      const network = { allow: [{ transport: Transport.TCP }], bind: [{ ports: [{ first: port }] }] };
      assert.equal(await inside(network, "listen-again", `${open.port}`, "200"), "listening 0");
    });
  });
});
