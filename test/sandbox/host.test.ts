import assert from "node:assert/strict";
import { type HostProbe, probeHost } from "../../src/sandbox/host.js";

const CLONE_NEWUSER = 0x10000000;

const EVERYTHING: HostProbe = {
  landlockAbi: () => 7,
  filterFlags: () => 1,
  namespaces: () => 0,
  mounts: () => 0,
  capability: () => 1,
  pidfdGetfd: () => 0,
  readMemory: () => 0,
  trace: () => 0,
  maxOpenFiles: () => 1024,
  listsChildren: () => true,
};

function feature(probe: HostProbe, name: string) {
  const found = probeHost(probe).list.find((entry) => entry.name === name);
  assert.ok(found, name);
  return found;
}

describe("what a host offers", () => {
  it("needs no remedy where it has everything", () => {
    const { features, list } = probeHost(EVERYTHING);
    assert.ok(list.every(({ available, remedy }) => available && remedy === ""));
    assert.equal(features.landlockAbi, 7);
    assert.ok(features.waitKillable && features.pidNamespaces && features.userNamespaces && features.canDropBounding);
  });

  it("says which Landlock is needed, or why there is none", () => {
    const abi4 = { ...EVERYTHING, landlockAbi: () => 4 };
    assert.equal(feature(abi4, "landlock_net").available, true);
    assert.equal(feature(abi4, "landlock_scope").available, false);
    assert.match(feature(abi4, "landlock_scope").remedy, /6\.12/);
    assert.match(feature({ ...EVERYTHING, landlockAbi: () => -95 }, "landlock_fs").remedy, /lsm=/);
    assert.match(feature({ ...EVERYTHING, landlockAbi: () => -38 }, "landlock_fs").remedy, /CONFIG_SECURITY_LANDLOCK/);
    assert.equal(probeHost({ ...EVERYTHING, landlockAbi: () => -38 }).features.landlockAbi, 0);
  });

  it("tells a listener from one that signals cannot disturb", () => {
    const old = { ...EVERYTHING, filterFlags: (flags: number) => ((flags & (1 << 5)) === 0 ? 1 : 0) };
    assert.equal(feature(old, "seccomp_notify").available, true);
    assert.equal(feature(old, "wait_killable").available, false);
    const none = { ...EVERYTHING, filterFlags: () => 0 };
    assert.equal(probeHost(none).features.listener, false);
    assert.equal(probeHost(none).features.waitKillable, false);
  });

  it("gives an ordinary user PID namespaces inside user namespaces", () => {
    const user = {
      ...EVERYTHING,
      namespaces: (flags: number) => ((flags & CLONE_NEWUSER) === 0 ? -1 : 0),
      capability: () => 0,
    };
    const { features } = probeHost(user);
    assert.deepEqual([features.pidNamespaces, features.userNamespaces, features.canDropBounding], [false, true, false]);
    assert.match(feature(user, "pid_namespace").detail, /errno 1/);
  });
});
