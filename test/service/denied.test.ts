import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { CallCategory } from "../../src/client/client.js";
import { allow, connectDecider } from "../support/decider.js";
import { act, refused, run, type Spec, skip, startTestService, type TestService } from "../support/service.js";

describe("denied trees", () => {
  let service: TestService;
  /**
   * A granted tree with a denied directory and a denied file deep in it, and beside each something that is not:
   * `way/secret/` and `way/beside/`, `way/.env` and `way/.rc`.
   */
  let tree: string;
  let serial = 0;

  before(async () => {
    service = await startTestService();
  });
  after(() => service[Symbol.asyncDispose]());
  beforeEach(() => {
    tree = join(service.directory, `tree${++serial}`);
    for (const name of ["", "way", "way/secret", "way/secret/inner", "way/beside", "way/beside/inner", "other"]) {
      mkdirSync(join(tree, name));
      chmodSync(join(tree, name), 0o777);
    }
    for (const name of ["way/secret/file", "way/secret/inner/file", "way/beside/file", "way/beside/inner/file"])
      put(name);
    for (const name of ["way/.env", "way/.rc", "other/file", "near"]) put(name);
    symlinkSync("../way/secret/file", at("other/to-denied"));
    symlinkSync("../way/beside/file", at("other/to-beside"));
  });

  const at = (name: string): string => join(tree, name);
  const put = (name: string): void => {
    writeFileSync(at(name), "content");
    chmodSync(at(name), 0o666);
  };
  const denying = (...names: string[]): Spec => ({ filesystem: { writable: [tree], denied: names.map(at) } });
  const spec = (): Spec => denying("way/secret", "way/.env");
  /** What a read-only mount refuses before Landlock is asked is refused all the same. */
  const inside = async (...args: string[]): Promise<string> =>
    (await act(service.client, spec(), ...args)).replace("EROFS", "EACCES");

  /** The same act on what is denied and on what lies beside it. */
  const both = async (args: (name: string) => string[]): Promise<readonly [string, string]> => [
    await inside(...args("secret")),
    await inside(...args("beside")),
  ];
  const refusedBeside = ["EACCES", "ok"];

  it("are neither read, written, listed nor made larger, and what lies beside them is", async () => {
    assert.deepEqual(await both((name) => ["open-read", at(`way/${name}/file`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["open-read", at(`way/${name}/inner/file`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["openat2", at(`way/${name}/file`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["open-write", at(`way/${name}/file`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["list", at(`way/${name}`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["creat", at(`way/${name}/new`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["mkdir", at(`way/${name}/directory`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["truncate", at(`way/${name}/inner/file`)]), refusedBeside);
    assert.equal(await inside("open-read", at("way/.env")), "EACCES");
    assert.equal(await inside("open-write", at("way/.env")), "EACCES");
    assert.equal(await inside("truncate", at("way/.env")), "EACCES");
    assert.equal(await inside("open-read", at("way/.rc")), "ok");
    assert.equal(await inside("open-write", at("way/.rc")), "ok");
    assert.equal(await inside("truncate", at("way/.rc")), "ok");
    assert.equal(await inside("open-read", at("near")), "ok");
    assert.equal(readFileSync(at("way/.env"), "utf8"), "content");
  });

  it("are refused by every other way to them", async () => {
    assert.deepEqual(await both((name) => ["read-at", at(`way/${name}`), "file"]), refusedBeside);
    assert.deepEqual(await both((name) => ["read-reopened", at(`way/${name}/file`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["read-by-root", at(`way/${name}/file`)]), refusedBeside);
    assert.deepEqual(await both((name) => ["read-inside", at(`way/${name}`), "file"]), refusedBeside);
    assert.deepEqual(
      await both((name) => ["read-inside", at(`way/${name}/inner`), `../../../way/${name}/file`]),
      refusedBeside,
    );
    assert.equal(await inside("open-read", at("other/to-denied")), "EACCES");
    assert.equal(await inside("open-read", at("other/to-beside")), "ok");
    assert.equal(await inside("read-inside", at("way"), ".env"), "EACCES");
    assert.equal(await inside("read-inside", at("way"), ".rc"), "ok");
  });

  it("are not moved, removed or linked to where they could be reached", async () => {
    for (const name of ["way/secret/file", "way/.env"]) {
      assert.match(await inside("link", at(name), at("other/link")), /^(EXDEV|EACCES|EPERM)$/);
      assert.match(await inside("rename", at(name), at("other/moved")), /^(EXDEV|EACCES)$/);
      assert.equal(await inside("unlink", at(name)), "EACCES");
      assert.match(await inside("rename", at("other/file"), at(name)), /^(EXDEV|EACCES)$/);
    }
    for (const name of ["way/secret", "way"])
      assert.match(await inside("rename", at(name), at("other/moved")), /^(EXDEV|EACCES)$/);
    assert.match(await inside("rename", tree, `${tree}.moved`), /^(EXDEV|EACCES)$/);
    assert.equal(existsSync(at("other/link")) || existsSync(at("other/moved")), false);
    assert.equal(await inside("rename", at("way/beside/file"), at("other/moved")), "ok");
    assert.equal(await inside("link", at("way/beside/inner/file"), at("other/link")), "ok");
  });

  it("are not executed", async () => {
    for (const name of ["secret", "beside"]) {
      copyFileSync("/bin/true", at(`way/${name}/run`));
      chmodSync(at(`way/${name}/run`), 0o755);
    }
    assert.deepEqual(await both((name) => ["vfork-exec", at(`way/${name}/run`)]), refusedBeside);
    assert.equal(await inside("execveat-fd", at("way/secret/run")), "EACCES");
    const start = (name: string) => run(service.client, { spec: spec(), process: { argv: [at(`way/${name}/run`)] } });
    await refused(start("secret"), {
      code: "FAILED_PRECONDITION",
      reason: "EXEC_FAILED",
      field: "process.argv[0]",
      metadata: { errno: "EACCES" },
    });
    assert.equal((await start("beside")).exit.result.value, 0);
  });

  it("may have names that are no text, and so may what lies beside them", async () => {
    const hex = (name: string): string => Buffer.from(at(name)).toString("hex");
    const odd = Buffer.concat([Buffer.from(at("way/")), Buffer.from([0xff, 0xfe])]);
    writeFileSync(odd, "content");
    chmodSync(odd, 0o666);
    assert.equal(await inside("read-bytes", odd.toString("hex")), "ok");
    assert.equal(await inside("read-bytes", hex("way/secret/file")), "EACCES");
    // Another spelling of the same path.
    assert.equal(await inside("open-read", `${tree}//way/./secret/../secret//file`), "EACCES");
  });

  it("stay denied while a directory beside them is moved about", async () => {
    const race = await inside(
      "race-move",
      at("other"),
      at("way/beside/moved"),
      at("way/secret/file"),
      at("other/to-denied"),
      at("way/beside/moved/to-denied"),
      "2000",
    );
    assert.equal(race, "opened none moved none", "a directory that leads to what is denied gives nothing away");
    const within = await inside(
      "race-move",
      at("way/beside/inner"),
      at("other/inner"),
      at("way/secret/file"),
      at("other/to-denied"),
      "2000",
    );
    assert.equal(within, "opened none moved some");
  });

  it("refuse the spawn when a file in them has a link elsewhere, and are denied with it when that is denied too", async () => {
    linkSync(at("way/secret/inner/file"), at("other/link"));
    await refused(run(service.client, { spec: spec(), process: { argv: ["/bin/true"] } }), {
      code: "FAILED_PRECONDITION",
      reason: "LAUNCH_FAILED",
      field: "spec.filesystem.denied",
      metadata: { errno: "EMLINK", argument: at("way/secret/inner/file") },
    });
    const wider = denying("way/secret", "way/.env", "other/link");
    assert.equal(await act(service.client, wider, "open-read", at("other/link")), "EACCES");
    assert.equal(await act(service.client, wider, "open-read", at("other/file")), "ok");
    rmSync(at("other/link"));
    linkSync(at("way/secret/inner/file"), at("way/secret/twice"));
    assert.equal(await inside("open-read", at("way/beside/file")), "ok", "a link within does no harm");
  });

  it("are denied where a mount shows them as well", async function () {
    if (process.geteuid?.() !== 0) skip(this, "mounting needs root");
    const mounted = async (source: string, check: () => Promise<void>): Promise<void> => {
      mkdirSync(at("other/mount"), { recursive: true });
      execFileSync("mount", ["--bind", at(source), at("other/mount")]);
      try {
        await check();
      } finally {
        execFileSync("umount", [at("other/mount")]);
      }
    };
    await mounted("way", async () => {
      assert.equal(await inside("open-read", at("other/mount/secret/file")), "EACCES");
      assert.equal(await inside("open-read", at("other/mount/.env")), "EACCES");
      assert.equal(await inside("open-read", at("other/mount/beside/file")), "ok");
    });
    await mounted("way/secret/inner", async () => {
      assert.equal(await inside("open-read", at("other/mount/file")), "EACCES");
      assert.equal(await inside("open-read", at("other/file")), "ok");
    });
    // A rule is an inode's: the mount must not give what its source does not.
    await mounted("way", async () => {
      execFileSync("mount", ["-t", "tmpfs", "none", at("other/mount/secret")]);
      try {
        assert.equal(await inside("open-read", at("way/secret/file")), "EACCES");
        assert.equal(await inside("open-read", at("other/mount/.env")), "EACCES");
        assert.equal(await inside("creat", at("other/mount/secret/new")), "ok");
      } finally {
        execFileSync("umount", [at("other/mount/secret")]);
      }
    });
  });

  it("count for what a verdict grants, too", async () => {
    await using decider = await connectDecider(service.client, { judge: () => allow });
    const held: Spec = {
      filesystem: { grantableWritable: [tree], denied: [at("way/secret"), at("way/.env")] },
      holds: { triggers: [{ categories: [CallCategory.FILE] }] },
    };
    assert.equal(await act(service.client, held, "open-read", at("way/beside/file")), "ok");
    assert.equal(await act(service.client, held, "open-read", at("way/secret/file")), "EACCES");
    assert.equal(await act(service.client, held, "open-write", at("way/.env")), "EACCES");
    assert.ok(decider.calls.length >= 1);
  });

  it("are taken out of the baseline and of the program's own installation", async () => {
    const without: Spec = { filesystem: { denied: ["/etc/passwd"] } };
    assert.equal(await act(service.client, without, "open-read", "/etc/passwd"), "EACCES");
    assert.equal(await act(service.client, without, "open-read", "/etc/group"), "ok");
    assert.equal(await act(service.client, {}, "open-read", "/etc/passwd"), "ok");
  });

  it("refuse what contradicts them, and what is not there", async () => {
    const spawn = (filesystem: Spec["filesystem"]) =>
      service.client.sandbox.spawn({
        requestId: `denied-${++serial}`,
        spec: { filesystem: filesystem ?? {} },
        process: { argv: ["/bin/true"] },
      });
    const contradicts = (field: string) =>
      ({ code: "INVALID_ARGUMENT", reason: "POLICY_CONTRADICTION", field }) as const;
    await refused(
      spawn({ readable: ["/usr", at("way/secret")], denied: [tree] }),
      contradicts("spec.filesystem.readable[1]"),
    );
    await refused(spawn({ writable: [tree], denied: [tree] }), contradicts("spec.filesystem.writable[0]"));
    await refused(spawn({ denied: ["/usr", at("nothing")] }), {
      code: "FAILED_PRECONDITION",
      reason: "LAUNCH_FAILED",
      field: "spec.filesystem.denied[1]",
    });
  });
});
