import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  ArgumentIntegrity,
  CallCategory,
  GrantScope,
  type HeldCall,
  NetworkOperation,
  Transport,
} from "../../src/client/client.js";
import { type Action, allow, connectDecider, deny } from "../support/decider.js";
import { guestDirectory, guestPath } from "../support/guests.js";
import { receive } from "../support/receivers.js";
import { type Holds, run, type Spec, spawn, startTestService, type TestService } from "../support/service.js";

const LOCAL = "127.0.0.1";
const ENETUNREACH = 101;

describe("held messages", () => {
  const guest = guestPath("datagrams");
  let service: TestService;

  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());

  const judging = (judge: (call: HeldCall) => Action, more: Parameters<typeof connectDecider>[1] = {}) =>
    connectDecider(service.client, { judge, ...more });
  async function inside(spec: Spec, ...args: readonly string[]): Promise<string> {
    const { stdout } = await run(service.client, { spec, process: { argv: [guest, ...args] } });
    return stdout.trim();
  }
  const messagesHeld: Holds = { triggers: [{ syscalls: ["sendmsg"] }] };
  const grantable = (...ports: string[]): Spec => ({
    filesystem: { readable: [guestDirectory] },
    network: {
      grantable: [{ transport: Transport.UDP, host: LOCAL, ports: ports.map((port) => ({ first: Number(port) })) }],
    },
    holds: messagesHeld,
  });
  function networkOf(call: HeldCall | undefined) {
    assert.ok(call?.detail.case === "network");
    return call.detail.value;
  }

  it("reach where they are allowed to, whatever call sends them, and fail with the errno when not", async () => {
    await using open = await receive(LOCAL);
    await using closed = await receive(LOCAL);
    await using decider = await judging((call) =>
      networkOf(call).address?.port === Number(open.port) ? allow : deny(ENETUNREACH),
    );
    const ways = ["sendto", "sendmsg", "sendmmsg"];
    const spec = grantable(open.port, closed.port);
    for (const way of ways) {
      assert.equal(await inside(spec, "send", LOCAL, open.port, way, way), "ok");
      assert.equal(await inside(spec, "send", LOCAL, closed.port, way, way), "ENETUNREACH");
    }
    assert.deepEqual([await open.received(), await closed.received()], [ways, []]);
    const [call] = decider.calls;
    const { operation, transport, address, size } = networkOf(call);
    assert.deepEqual([operation, transport, size], [NetworkOperation.SEND, Transport.UDP, 6n]);
    assert.deepEqual(address?.address, { case: "ip", value: Buffer.of(127, 0, 0, 1) });
    assert.equal(call?.integrity, ArgumentIntegrity.COPIED);
    assert.deepEqual(
      decider.calls.map(({ syscall }) => syscall),
      ways.flatMap((way) => [way, way]),
    );
  });

  it("beyond the ceiling are refused although they were allowed", async () => {
    await using open = await receive(LOCAL);
    await using closed = await receive(LOCAL);
    await using _decider = await judging(() => allow);
    assert.equal(await inside(grantable(open.port), "send", LOCAL, open.port, "sendmsg", "x"), "ok");
    assert.equal(await inside(grantable(open.port), "send", LOCAL, closed.port, "sendmsg", "x"), "EACCES");
    assert.deepEqual([await open.received(), await closed.received()], [["x"], []]);
  });

  it("of one call are one question for each destination that differs from the last", async () => {
    await using open = await receive(LOCAL);
    await using closed = await receive(LOCAL);
    await using decider = await judging((call) =>
      networkOf(call).address?.port === Number(open.port) ? allow : deny(ENETUNREACH),
    );
    const spec = grantable(open.port, closed.port);
    assert.equal(await inside(spec, "many", LOCAL, open.port, "20", closed.port), "19 sent, 19 lengths");
    assert.equal(decider.calls.length, 2);
    assert.equal((await open.received()).length, 19);
    assert.deepEqual(await closed.received(), []);
  });

  it("are remembered like any call", async () => {
    await using open = await receive(LOCAL);
    const remember = { scope: GrantScope.SANDBOX, applies: { case: "sameCall", value: {} } } as const;
    await using decider = await judging(() => allow, { remember });
    const { stdout } = await run(service.client, {
      spec: grantable(open.port),
      process: { argv: ["/bin/sh", "-c", `for n in 1 2 3; do ${guest} send ${LOCAL} ${open.port} sendmsg same; done`] },
    });
    assert.equal(stdout, "ok\n".repeat(3));
    assert.equal(decider.calls.length, 1);
    assert.deepEqual(await open.received(), ["same", "same", "same"]);
  });

  it("to a connected socket's peer are no question: the connect was", async () => {
    await using open = await receive(LOCAL);
    await using decider = await judging(() => allow);
    const spec: Spec = { ...grantable(open.port), holds: { triggers: [{ categories: [CallCategory.NETWORK] }] } };
    for (const way of ["send", "peer-sendmsg"])
      assert.equal(await inside(spec, "send", LOCAL, open.port, way, way), "ok");
    assert.deepEqual(
      decider.calls.map(({ syscall }) => syscall),
      ["connect", "connect"],
    );
    assert.deepEqual(await open.received(), ["send", "peer-sendmsg"]);
  });

  it("to Unix sockets name the place where the socket lies", async () => {
    const directory = join(service.directory, "verdicts");
    mkdirSync(directory);
    await using open = await receive(join(directory, "open"));
    await using closed = await receive(join(directory, "closed"));
    const pathOf = (call: HeldCall) => Buffer.from(networkOf(call).address?.address.value ?? []).toString();
    await using decider = await judging((call) => (pathOf(call).endsWith("/open") ? allow : deny(ENETUNREACH)));
    const spec: Spec = {
      filesystem: { readable: [guestDirectory] },
      network: { grantable: [{ transport: Transport.UNIX, host: directory }] },
      holds: { triggers: [{ categories: [CallCategory.NETWORK] }] },
    };
    for (const way of ["sendto", "sendmsg", "send"]) {
      assert.equal(await inside(spec, "send", `${directory}/../verdicts/open`, "0", way, way), "ok");
      assert.equal(await inside(spec, "send", `${directory}/./closed`, "0", way, way), "ENETUNREACH");
    }
    assert.deepEqual([await open.received(), await closed.received()], [["sendto", "sendmsg", "send"], []]);
    assert.deepEqual(decider.calls.slice(0, 2).map(pathOf), [join(directory, "open"), join(directory, "closed")]);
  });

  it("leave nothing behind where their callers end before the verdict", async () => {
    const count = 300;
    await using open = await receive(join(service.directory, "abandoned"));
    await using decider = await connectDecider(service.client);
    const spec: Spec = {
      filesystem: { readable: [guestDirectory] },
      network: { grantable: [{ transport: Transport.UNIX, host: service.directory }] },
      holds: messagesHeld,
    };
    const argv = [guest, "abandon", join(service.directory, "abandoned"), `${count}`];
    await using sandbox = await spawn(service.client, { spec, process: { argv, stdin: 2 } });
    // Together more than the keeper can hold places of.
    for (const total of [count, 2 * count]) {
      await sandbox.write("n");
      await decider.until(`${total} calls`, () => decider.calls.length === total);
      await sandbox.write("k");
      await decider.until("their end", () => decider.withdrawn.size === total);
    }
    await sandbox.write("s");
    await decider.answer(await decider.call(2 * count), allow);
    assert.equal(await sandbox.until(/\n/), "ok\n");
    assert.deepEqual(await open.received(), ["last one"]);
  });
});
