import assert from "node:assert/strict";
import ipaddr from "ipaddr.js";
import type { NetworkRule, SocketAddress, Transport } from "../../../src/sandbox/model.js";
import {
  compileNetworkRules,
  connectPorts,
  formatBlock,
  listPorts,
  parseBlock,
} from "../../../src/sandbox/policy/network.js";

function rule(host: string, ports: readonly number[] = [], transport?: Transport): NetworkRule {
  return { transport, host, ports: ports.map((port) => ({ first: port, last: port })) };
}

function to(host: string, port = 80): SocketAddress {
  return { kind: "ip", ip: Uint8Array.from(ipaddr.parse(host).toByteArray()), port };
}

function reaches(rules: readonly NetworkRule[], address: SocketAddress, transport: Transport = "tcp"): boolean {
  return compileNetworkRules(rules)(transport, address);
}

describe("network rules", () => {
  it("match by block and port", () => {
    const rules = [rule("10.1.0.0/16", [80, 443]), rule("2001:db8::/33"), rule("192.0.2.7")];
    assert.ok(reaches(rules, to("10.1.255.255", 443)));
    assert.ok(!reaches(rules, to("10.2.0.0", 443)));
    assert.ok(!reaches(rules, to("10.1.0.1", 444)));
    assert.ok(reaches(rules, to("2001:db8:7fff::1", 9)));
    assert.ok(!reaches(rules, to("2001:db8:8000::1", 9)));
    assert.ok(reaches(rules, to("192.0.2.7", 1)));
    assert.ok(!reaches(rules, to("192.0.2.6", 1)));
    assert.ok(!reaches([], to("192.0.2.7")));
  });

  it("see one IPv4 address in all its forms", () => {
    for (const host of ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"]) {
      assert.ok(reaches([rule("10.1.2.0/24")], to(host)), host);
      assert.ok(reaches([rule(host)], to("::ffff:a01:203")), host);
      assert.ok(!reaches([rule("10.1.3.0/24")], to(host)), host);
    }
    assert.ok(reaches([rule("::ffff:10.0.0.0/104")], to("10.9.9.9")));
    assert.ok(!reaches([rule("::ffff:10.0.0.0/104")], to("11.9.9.9")));
  });

  it("see loopback in the unspecified address, which is where the kernel connects it to", () => {
    assert.ok(reaches([rule("127.0.0.0/8")], to("0.0.0.0")));
    assert.ok(reaches([rule("127.0.0.1")], to("::ffff:0.0.0.0")));
    assert.ok(reaches([rule("::1")], to("::")));
    assert.ok(!reaches([rule("0.0.0.0")], to("127.0.0.1")));
  });

  it("without a transport speak of TCP and UDP, and with one of that alone", () => {
    assert.ok(reaches([rule("")], to("192.0.2.1"), "udp"));
    assert.ok(!reaches([rule("", [], "tcp")], to("192.0.2.1"), "udp"));
    assert.ok(!reaches([rule("")], { kind: "unix", path: Buffer.from("/run/x") }, "unix"));
    assert.ok(reaches([rule("*", [], "unix")], { kind: "unix", path: Buffer.from("/run/x") }, "unix"));
    assert.ok(!reaches([rule("*", [], "unix")], to("192.0.2.1")));
    assert.ok(!reaches([rule("")], { kind: "unspecified" }));
  });

  it("never match where only a prefix of zero bits would", () => {
    assert.ok(reaches([rule("0.0.0.0/0")], to("203.0.113.9")));
    assert.ok(!reaches([rule("0.0.0.0/0")], to("2001:db8::1")));
    assert.ok(reaches([rule("::/0")], to("2001:db8::1")));
    assert.ok(!reaches([rule("::/0")], to("203.0.113.9")));
  });

  it("take addresses and blocks, and nothing that people read in two ways", () => {
    for (const host of ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0/0"])
      assert.ok(parseBlock(host), host);
    for (const host of ["010.0.0.1", "0x7f.0.0.1", "127.1", "10", "10.0.0.0/33", "::/129", "::1/-1", "10.0.0.0/8/8"]) {
      assert.equal(parseBlock(host), undefined, host);
    }
    for (const host of ["example.org", "", "fe80::1%eth0", "10.0.0.0/", "10.0.0.0/08", "1.2.3.4 ", "[::1]"]) {
      assert.equal(parseBlock(host), undefined, host);
    }
  });

  it("are shown in one form", () => {
    const shown = (host: string) => {
      const block = parseBlock(host);
      return block === undefined ? undefined : formatBlock(block);
    };
    assert.equal(shown("10.1.2.3/8"), "10.0.0.0/8");
    assert.equal(shown("::ffff:10.1.2.3"), "10.1.2.3");
    assert.equal(shown("2001:DB8:0:0::1"), "2001:db8::1");
  });

  it("name their ports one by one, unless there are too many", () => {
    assert.deepEqual(listPorts([{ first: 80, last: 82 }, { first: 81, last: 83 }]), [80, 81, 82, 83]); // biome-ignore format: pairs
    assert.equal(listPorts([{ first: 1, last: 65535 }]), "all");
    assert.equal(listPorts([{ first: 1024, last: 9999 }]), "many");
    assert.equal(connectPorts([rule("", [80]), rule("")]), "all");
    assert.deepEqual(connectPorts([rule("", [80]), rule("", [443])]), [80, 443]);
    assert.deepEqual(connectPorts([]), []);
  });
});
