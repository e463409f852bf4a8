import assert from "node:assert/strict";
import { Transport } from "../../src/client/client.js";
import { listen } from "../support/listeners.js";
import { act, requestId, type Spec, startTestService, type TestService } from "../support/service.js";

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
});
