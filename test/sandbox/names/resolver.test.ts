import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNameResolver, NameMissing, type Resolution } from "../../../src/sandbox/names/resolver.js";
import { type DnsRecord, serveDns } from "../../support/dns.js";

const shown = ({ addresses, ttlMs }: Resolution) => [addresses.map((ip) => Array.from(ip).join(".")), ttlMs];

describe("the resolver of names in network rules", () => {
  let directory: string;
  let hostsFile: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "sandgate-names-"));
    hostsFile = join(directory, "hosts");
    writeFileSync(hostsFile, "# none\n127.0.0.9 own.test  Other.test # here\n::1 own.test\nnonsense own.test\n");
  });
  after(() => rmSync(directory, { recursive: true }));

  it("takes what the hosts file says before any name server is asked", async () => {
    await using dns = await serveDns(new Map([["own.test", { addresses: ["192.0.2.1"] }]]));
    const resolver = createNameResolver({ hostsFile, servers: [dns.server] });
    assert.deepEqual((await resolver.resolve("own.test")).addresses.length, 2);
    assert.deepEqual(shown(await resolver.resolve("other.test")), [["127.0.0.9"], 5000]);
    assert.deepEqual(dns.asked, []);
  });

  it("takes all addresses of the name servers, and the shortest time to live", async () => {
    const records = new Map<string, DnsRecord>([["api.test", { addresses: ["192.0.2.1", "192.0.2.2"], ttl: 17 }]]);
    await using dns = await serveDns(records);
    const resolver = createNameResolver({ hostsFile, servers: [dns.server] });
    assert.deepEqual(shown(await resolver.resolve("api.test")), [["192.0.2.1", "192.0.2.2"], 17_000]);
  });

  it("takes no address of this machine or its link, which the owner of a name could give it", async () => {
    const records = new Map<string, DnsRecord>([
      ["mixed.test", { addresses: ["127.0.0.1", "192.0.2.3", "169.254.169.254", "0.0.0.0", "224.0.0.1"] }],
      ["local.test", { addresses: ["127.0.0.1"] }],
    ]);
    await using dns = await serveDns(records);
    const resolver = createNameResolver({ hostsFile, servers: [dns.server] });
    assert.deepEqual(shown(await resolver.resolve("mixed.test")), [["192.0.2.3"], 60_000]);
    await assert.rejects(resolver.resolve("local.test"), /only addresses of this machine/);
  });

  it("tells a name that is not there from servers that do not answer", async () => {
    await using dns = await serveDns(new Map<string, DnsRecord>([["broken.test", { code: 2 }], ["empty.test", {}]])); // biome-ignore format: pairs
    const resolver = createNameResolver({ hostsFile, servers: [dns.server] });
    await assert.rejects(resolver.resolve("gone.test"), (error) => error instanceof NameMissing && /ENOTFOUND/.test(error.message)); // biome-ignore format: one thing
    await assert.rejects(resolver.resolve("empty.test"), NameMissing);
    await assert.rejects(resolver.resolve("broken.test"), (error) => !(error instanceof NameMissing));
  });
});
