import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { CallCategory, StdinMode, Transport } from "../../src/client/client.js";
import { allow, connectDecider } from "../support/decider.js";
import { guestPath } from "../support/guests.js";
import { act, refused, run, type Spec, skip, spawn, startTestService, type TestService } from "../support/service.js";

/** Ways to keep a program from what is denied, by what is left off, and what then happens on the way to it. */
const WAYS = [
  { by: "mounts", disabled: [], served: true },
  { by: "the kernel and the engine", disabled: ["mount_namespace"], served: true },
  { by: "the kernel alone", disabled: ["mount_namespace", "seccomp_notify"], served: false },
] as const;

const MECHANISMS = {
  mounts: "mounts over them",
  "the kernel and the engine": "landlock, with the engine for the directories that lead there",
  "the kernel alone": "landlock, without the directories that lead there",
};

/** What a kernel says of something that is not to be had: by Landlock, by its mode, by its mount. */
const REFUSED = /^(EACCES|EROFS|EBUSY|EXDEV)$/;

for (const { by, disabled, served } of WAYS)
  describe(`denied trees, by ${by}`, () => {
    let service: TestService;
    /**
     * A granted tree with a denied directory and a denied file deep in it, and beside each something that is not:
     * `way/secret/` and `way/beside/`, `way/.env` and `way/.rc`.
     */
    let tree: string;
    let serial = 0;

    before(async function () {
      service = await startTestService();
      const { protections } = await service.client.server.getServerInfo({});
      if (by === "mounts" && protections.mount_namespace !== true) skip(this, "this host has no mount namespaces");
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
    const denying = (...names: string[]): Spec => ({
      filesystem: { writable: [tree], denied: names.map(at) },
      protections: { disabled: [...disabled] },
    });
    const spec = (): Spec => denying("way/secret", "way/.env");
    const actIn = async (policy: Spec, ...args: string[]): Promise<string> =>
      (await act(service.client, policy, ...args)).replace(REFUSED, "refused");
    const inside = (...args: string[]): Promise<string> => actIn(spec(), ...args);

    /** The same act on what is denied and on what lies beside it. */
    const both = async (args: (name: string) => string[]): Promise<readonly [string, string]> => [
      await inside(...args("secret")),
      await inside(...args("beside")),
    ];
    const refusedBeside = ["refused", "ok"];

    it("say what keeps a program from them", async () => {
      const request = {
        requestId: `denied-${++serial}`,
        validateOnly: true,
        spec: spec(),
        process: { argv: ["/bin/true"] },
      };
      const { sandbox } = await service.client.sandbox.spawn(request);
      assert.equal(sandbox?.plan?.mechanisms["spec.filesystem.denied[1]"], MECHANISMS[by]);
    });

    it("are neither read, written, listed nor made larger, and what lies beside them is", async () => {
      assert.deepEqual(await both((name) => ["open-read", at(`way/${name}/file`)]), refusedBeside);
      assert.deepEqual(await both((name) => ["open-read", at(`way/${name}/inner/file`)]), refusedBeside);
      // Its flags are in memory: where opens are looked at, programs are to use the older calls.
      const newer = by === "the kernel and the engine" ? ["ENOSYS", "ENOSYS"] : refusedBeside;
      assert.deepEqual(await both((name) => ["openat2", at(`way/${name}/file`)]), newer);
      assert.deepEqual(await both((name) => ["open-write", at(`way/${name}/file`)]), refusedBeside);
      assert.deepEqual(await both((name) => ["list", at(`way/${name}`)]), refusedBeside);
      assert.deepEqual(await both((name) => ["creat", at(`way/${name}/new`)]), refusedBeside);
      assert.deepEqual(await both((name) => ["mkdir", at(`way/${name}/directory`)]), refusedBeside);
      assert.deepEqual(await both((name) => ["truncate", at(`way/${name}/inner/file`)]), refusedBeside);
      assert.equal(await inside("open-read", at("way/.env")), "refused");
      assert.equal(await inside("open-write", at("way/.env")), "refused");
      assert.equal(await inside("truncate", at("way/.env")), "refused");
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
      assert.equal(await inside("open-read", at("other/to-denied")), "refused");
      assert.equal(await inside("open-read", at("other/to-beside")), "ok");
      assert.equal(await inside("read-inside", at("way"), ".env"), "refused");
      assert.equal(await inside("read-inside", at("way"), ".rc"), "ok");
    });

    it("are not moved, removed or linked to where they could be reached", async () => {
      for (const name of ["way/secret/file", "way/.env"]) {
        assert.equal(await inside("link", at(name), at("other/link")), "refused");
        assert.equal(await inside("rename", at(name), at("other/moved")), "refused");
        assert.equal(await inside("unlink", at(name)), "refused");
        assert.equal(await inside("rename", at("other/file"), at(name)), "refused");
      }
      // Mounts move along with the directory above them, and nothing under them is seen.
      for (const name of by === "mounts" ? ["way/secret"] : ["way/secret", "way"]) {
        assert.equal(await inside("rename", at(name), at("other/moved")), "refused");
        assert.equal(await inside("rename", at(name), at("elsewhere")), "refused");
        assert.equal(await inside("swap", at(name), at("other")), "refused");
        assert.equal(await inside("swap", at("other"), at(name)), "refused");
      }
      assert.equal(await inside("rename", tree, `${tree}.moved`), "refused");
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
      assert.equal(await inside("execveat-fd", at("way/secret/run")), "refused");
      const start = (name: string) => run(service.client, { spec: spec(), process: { argv: [at(`way/${name}/run`)] } });
      await refused(start("secret"), {
        code: "FAILED_PRECONDITION",
        reason: "EXEC_FAILED",
        field: "process.argv[0]",
      });
      assert.equal((await start("beside")).exit.result.value, 0);
    });

    it("may have names that are no text, and so may what lies beside them", async () => {
      const hex = (name: string): string => Buffer.from(at(name)).toString("hex");
      const odd = Buffer.concat([Buffer.from(at("way/")), Buffer.from([0xff, 0xfe])]);
      writeFileSync(odd, "content");
      chmodSync(odd, 0o666);
      assert.equal(await inside("read-bytes", odd.toString("hex")), "ok");
      assert.equal(await inside("read-bytes", hex("way/secret/file")), "refused");
      // Another spelling of the same path.
      assert.equal(await inside("open-read", `${tree}//way/./secret/../secret//file`), "refused");
    });

    it("stay denied while a directory beside them is moved about", async () => {
      const race = await inside(
        "race-move",
        at("other"),
        at("way/beside/moved"),
        at("way/secret/file"),
        at("other/to-denied"),
        at("way/beside/moved/to-denied"),
        "500",
      );
      assert.equal(race, `opened none moved ${served ? "some" : "none"}`);
      const led = await inside(
        "race-move",
        at("way"),
        at("other/way"),
        at("way/secret/file"),
        at("other/way/.env"),
        "500",
      );
      assert.equal(led, `opened none moved ${by === "mounts" ? "some" : "none"}`);
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
      assert.equal(await actIn(wider, "open-read", at("other/link")), "refused");
      assert.equal(await actIn(wider, "open-read", at("other/file")), "ok");
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
        assert.equal(await inside("open-read", at("other/mount/secret/file")), "refused");
        assert.equal(await inside("open-read", at("other/mount/.env")), "refused");
        assert.equal(await inside("open-read", at("other/mount/beside/file")), "ok");
      });
      await mounted("way/secret/inner", async () => {
        assert.equal(await inside("open-read", at("other/mount/file")), "refused");
        assert.equal(await inside("open-read", at("other/file")), "ok");
      });
      // A rule is an inode's: the mount must not give what its source does not.
      await mounted("way", async () => {
        execFileSync("mount", ["-t", "tmpfs", "none", at("other/mount/secret")]);
        try {
          assert.equal(await inside("open-read", at("way/secret/file")), "refused");
          assert.equal(await inside("open-read", at("other/mount/.env")), "refused");
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
      assert.equal(await actIn(held, "open-read", at("way/beside/file")), "ok");
      assert.equal(await actIn(held, "open-read", at("way/secret/file")), "refused");
      assert.equal(await actIn(held, "open-write", at("way/.env")), "refused");
      assert.ok(decider.calls.length >= 1);
    });

    it("leave the directories that lead there as they were granted, where the engine helps", async () => {
      const results = async (...acts: (readonly string[])[]) => {
        const found: string[] = [];
        for (const args of acts) found.push(await inside(...args));
        return found;
      };
      const acts = [
        ["list", tree],
        ["list", at("way")],
        ["creat", at("way/new")],
        ["open-write", at("way/new")],
        ["open-read", at("way/new")],
        ["truncate", at("way/new")],
        ["rename", at("way/new"), at("moved")],
        ["link", at("moved"), at("way/linked")],
        ["unlink", at("moved")],
        ["symlink", "/usr/bin", at("way/programs")],
        ["list", at("way/programs")],
        ["symlink", "way/.rc", at("link")],
        ["open-read", at("link")],
        ["mkdir", at("way/made")],
        ["creat", at("way/made/file")],
        ["open-read", at("way/made/file")],
        ["read-inside", at("way/made"), "file"],
        ["rename", at("way/made/file"), at("way/beside/from-made")],
        ["rename", at("way/beside/from-made"), at("way/made/file")],
        ["unlink", at("way/made/file")],
        ["rmdir", at("way/made")],
        ["mkfifo", at("way/fifo")],
        ["rename", at("other"), at("other2")],
        ["open-read", at("other2/file")],
        ["rename", at("other2"), at("other")],
        ["swap", at("near"), at("way/linked")],
      ];
      const found = await results(...acts);
      if (served) {
        assert.deepEqual(
          found.map((result, index) => `${acts[index]?.join(" ")}: ${result}`),
          acts.map((args) => `${args.join(" ")}: ok`),
        );
      } else {
        const changing = found.filter((_, index) => !/^(open-read|read-inside|list)$/.test(acts[index]?.[0] ?? ""));
        assert.ok(
          changing.every((result) => /^(refused|ENOENT)$/.test(result)),
          String(changing),
        );
      }
    });

    it("stay denied when somebody else puts a new file in their place", async function () {
      if (by === "mounts") skip(this, "a mount goes with the file that it covers");
      await using sandbox = await spawn(service.client, {
        spec: spec(),
        process: { argv: ["/bin/sh"], stdin: StdinMode.PIPE },
      });
      await sandbox.write(`cat ${at("way/.rc")}; echo; echo started\n`);
      await sandbox.until(/content\nstarted/);
      for (const name of ["way/.env", "way/.rc"]) {
        put("new");
        renameSync(at("new"), at(name));
      }
      await sandbox.write(`cat ${at("way/.env")} || echo refused; cat ${at("way/.rc")} && echo read; echo over\n`);
      assert.match(await sandbox.until(/over/), served ? /refused\ncontentread\nover/ : /refused\nover/);
    });

    it("are what a racing thread never gets, whatever it makes of the path meanwhile", async () => {
      put("way/.enw");
      const { stdout } = await run(service.client, {
        spec: spec(),
        process: { argv: [guestPath("mediated"), "race-open", at("way/.enw"), at("way/.env"), "3000"] },
      });
      assert.match(stdout, /^first \d+ second 0 refused \d+$/m);
      assert.equal(readFileSync(at("way/.env"), "utf8"), "content");
    });

    it("may be what the service itself cannot look into", async () => {
      mkdirSync(at("way/locked"), { mode: 0 });
      const wider = denying("way/locked", "way/.env");
      assert.equal(await actIn(wider, "list", at("way/locked")), "refused");
      assert.equal(await actIn(wider, "rename", at("way/locked"), at("other/unlocked")), "refused");
      assert.equal(await actIn(wider, "open-read", at("way/secret/file")), "ok", "nobody denied it this time");
    });

    it("hold no socket that can be reached", async function () {
      if (!served) skip(this, "without a listener no policy allows Unix sockets by their paths");
      const servers = ["way/secret/socket", "way/beside/socket"].map((name) => createServer().listen(at(name)));
      try {
        await Promise.all(servers.map((server) => once(server, "listening")));
        for (const name of ["secret", "beside"]) chmodSync(at(`way/${name}/socket`), 0o777);
        const spoken: Spec = { ...spec(), network: { allow: [{ transport: Transport.UNIX }] } };
        const reach = (name: string) => actIn(spoken, "connect-unix", at(name));
        assert.equal(await reach("way/beside/socket"), "ok");
        assert.equal((await reach("way/secret/socket")).replace("ECONNREFUSED", "refused"), "refused");
      } finally {
        await Promise.all(servers.map((server) => once(server.close(), "close")));
      }
    });

    it("let a build work in the directory that holds what is denied", async function () {
      if (!served) skip(this, "it needs the engine");
      const script = `cd ${at("way")} && mkdir -p out/deep && for i in 1 2 3; do echo $i > out/deep/$i; done &&
      tar -cf out.tar out && rm -r out && tar -xf out.tar && mv out/deep done && ln -s done/1 first && cat first &&
      ls -a && sed -i s/1/one/ done/1 && cat done/1 && chmod 600 done/1 &&
        mkfifo pipe && { echo through >pipe & cat pipe; } && (umask 027; : >masked; stat -c %a masked) &&
        (set -C; true 2>/dev/null >masked || echo kept) && cat .env`;
      const { stdout, stderr } = await run(service.client, {
        spec: spec(),
        process: { argv: ["/bin/sh", "-c", script] },
      });
      assert.equal(
        stdout,
        "1\n.\n..\n.env\n.rc\nbeside\ndone\nfirst\nout\nout.tar\nsecret\none\nthrough\n640\nkept\n",
        stderr,
      );
      assert.match(stderr, /^cat: .env: Permission denied\n$/);
    });

    it("are taken out of the baseline and of the program's own installation", async () => {
      const without: Spec = { filesystem: { denied: ["/etc/passwd"] } };
      assert.equal(await actIn(without, "open-read", "/etc/passwd"), "refused");
      assert.equal(await actIn(without, "open-read", "/etc/group"), "ok");
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
