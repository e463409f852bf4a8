import assert from "node:assert/strict";
import {
  FILE_RIGHTS,
  FS,
  handledRights,
  NET,
  READ_TREE,
  SCOPE,
  WRITE_TREE,
} from "../../../src/engine/landlock/rights.js";

describe("Landlock's rights", () => {
  it("grow with the ABI as landlock(7) says", () => {
    const first13 = 0x1fff;
    const fs = [0, first13, first13 | FS.refer, 0x7fff, 0x7fff, 0xffff, 0xffff, 0xffff];
    fs.forEach((mask, abi) => {
      assert.equal(handledRights(abi).fs, mask, `ABI ${abi}`);
    });
    assert.equal(handledRights(3).net, 0);
    assert.equal(handledRights(4).net, NET.bindTcp | NET.connectTcp);
    assert.equal(handledRights(5).scoped, 0);
    assert.equal(handledRights(6).scoped, SCOPE.abstractUnixSocket | SCOPE.signal);
  });

  it("let a readable tree be read and run, and a writable one be anything but a source of devices", () => {
    assert.equal(READ_TREE & (FS.writeFile | FS.truncate | FS.makeReg | FS.removeFile | FS.ioctlDev), 0);
    assert.equal(READ_TREE & WRITE_TREE, READ_TREE);
    assert.equal(WRITE_TREE & (FS.makeChar | FS.makeBlock), 0);
    assert.equal(WRITE_TREE | FS.makeChar | FS.makeBlock, handledRights(7).fs);
    assert.equal(FILE_RIGHTS, 0xc007);
  });
});
