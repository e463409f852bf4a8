import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Transport } from "../../src/client/client.js";
import { serveDns, type TestDns } from "../support/dns.js";
import { guestDirectory } from "../support/guests.js";
import { listen } from "../support/listeners.js";
import { act, type Process, refused, requestId, run, type Spec, skip, spawn, startTestService, type TestService } from "../support/service.js"; // biome-ignore format: one list

const allow = (host: string, port = 0, denied: readonly string[] = []): Spec => ({
  filesystem: { readable: [guestDirectory] },
  network: {
    allow: [{ transport: Transport.TCP, host, ports: port === 0 ? [] : [{ first: port }] }],
    deny: denied.map((each) => ({ host: each })),
  },
});
const shell: Process = { argv: ["/bin/sh"], stdin: 2 };

describe("host names in network rules", () => {
  let service: TestService;
  let dns: TestDns;
  let directory: string;
  let hostsFile: string;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "sandgate-names-"));
    hostsFile = join(directory, "hosts");
    dns = await serveDns(new Map([["public.test", { addresses: ["192.0.2.55"] }], ["broken.test", { code: 2 }]])); // biome-ignore format: pairs
    service = await startTestService({ names: { hostsFile, servers: [dns.server] } });
  });
  beforeEach(() => writeFileSync(hostsFile, "127.0.0.2 api.test\n127.0.0.5 other.test\n"));
  after(async () => {
    await service[Symbol.asyncDispose]();
    await dns[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  it("let the addresses be reached that the service resolved, and no others", async () => {
    await using open = await listen("0.0.0.0");
    const connect = (host: string, port = open.port) =>
      act(service.client, allow("API.test.", open.port), "connect", host, `${port}`);
    assert.equal(await connect("127.0.0.2"), "ok");
    assert.equal(await connect("::ffff:127.0.0.2"), "ok");
    assert.equal(await connect("127.0.0.5"), "ECONNREFUSED");
    assert.equal(await connect("127.0.0.1"), "ECONNREFUSED");
    await using other = await listen("127.0.0.2");
    assert.equal(await connect("127.0.0.2", other.port), "ECONNREFUSED");
    assert.deepEqual([open.accepted(), other.accepted()], [2, 0]);
  });

  it("are overruled by what is denied", async () => {
    await using open = await listen("0.0.0.0");
    const spec = allow("api.test");
    const denied = allow("api.test", 0, ["127.0.0.2"]);
    assert.equal(await act(service.client, denied, "connect", "127.0.0.2", `${open.port}`), "ECONNREFUSED");
    assert.equal(await act(service.client, spec, "connect", "127.0.0.2", `${open.port}`), "ok");
  });

  it("are seen by the program in its own hosts file, without a name server", async function () {
    if (!(await canShow())) skip(this, "no mount namespace can be made here");
    const { stdout } = await run(service.client, {
      spec: allow("api.test"),
      process: {
        argv: ["/bin/sh", "-c", "getent hosts api.test; getent hosts other.test; cat /etc/hosts; echo x > /etc/hosts"],
      },
    });
    assert.match(stdout, /^127\.0\.0\.2 +api\.test\n127\.0\.0\.1 localhost/);
    assert.doesNotMatch(stdout, /other\.test/);
    const named = await run(service.client, {
      spec: allow("public.test"),
      process: { argv: ["/bin/cat", "/etc/hosts"] },
    });
    assert.match(named.stdout, /^192\.0\.2\.55 public\.test$/m);
  });

  it("follow what they stand for while the program runs", async function () {
    if (!(await canShow())) skip(this, "no mount namespace can be made here");
    this.timeout(30_000);
    await using open = await listen("0.0.0.0");
    await using sandbox = await spawn(service.client, { spec: allow("api.test", open.port), process: shell });
    writeFileSync(hostsFile, "127.0.0.7 api.test\n");
    await sandbox.write("until grep -q '127.0.0.7 api.test' /etc/hosts; do sleep 0.1; done; echo changed\n");
    await sandbox.until(/changed/);
    for (const [host, answer] of [
      ["127.0.0.7", "ok"],
      ["127.0.0.2", "ok"],
      ["127.0.0.5", "ECONNREFUSED"],
    ] as const) {
      // biome-ignore format: pairs
      const connect = await sandbox.exec({ argv: [`${guestDirectory}/act`, "connect", host, `${open.port}`] });
      await connect.exit();
      assert.equal(connect.stdout.trim(), answer, host);
    }
  });

  it("refuse the spawn with the name and the cause where they have no address", async () => {
    const asked = (host: string) =>
      service.client.sandbox.spawn({ requestId: requestId(), spec: allow(host), process: { argv: ["/bin/true"] } });
    await refused(asked("gone.test"), {
      code: "FAILED_PRECONDITION",
      reason: "NAME_UNRESOLVED",
      field: "spec.network.allow[0].host",
      metadata: { name: "gone.test" },
    });
    await refused(asked("broken.test"), { code: "UNAVAILABLE", reason: "NAME_UNRESOLVED" });
    await refused(asked("*.api.test"), {
      code: "UNIMPLEMENTED",
      reason: "NOT_IMPLEMENTED",
      field: "spec.network.allow[0].host",
    });
    const { sandboxes } = await service.client.sandbox.listSandboxes({});
    assert.deepEqual(
      sandboxes.filter(({ spec }) => spec?.network?.allow[0]?.host === "gone.test"),
      [],
    );
  });

  /** Whether this host lets mounts be made for a sandbox. */
  async function canShow(): Promise<boolean> {
    const { host } = service.service;
    return host.list.some(({ name, available }) => name === "mount_namespace" && available);
  }
});
