import assert from "node:assert/strict";
import { chmodSync, linkSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestDirectory, guestPath } from "../support/guests.js";
import {
  act,
  type Process,
  run,
  type Spec,
  skip,
  spawn,
  startTestService,
  type TestService,
} from "../support/service.js";

const shell: Process = { argv: ["/bin/sh"], stdin: 2 };

describe("the sandbox's own mounts", () => {
  let service: TestService;
  /** A directory with `read` and `write`, each with a file `file` that belongs to this user. */
  let files: string;
  let hasNamespaces: boolean;

  before(async () => {
    service = await startTestService();
    files = join(service.directory, "files");
    for (const name of ["read", "write", "write/below"]) {
      mkdirSync(join(files, name), { recursive: true });
      writeFileSync(join(files, name, "file"), "content");
      chmodSync(join(files, name, "file"), 0o666);
    }
    symlinkSync(join(files, "read/file"), join(files, "write/link"));
    symlinkSync(join(files, "write"), join(files, "read/alias"));
    linkSync(join(files, "read/file"), join(files, "write/hard"));
    const { protections } = await service.client.server.getServerInfo({});
    hasNamespaces = protections.mount_namespace === true;
  });
  after(() => service[Symbol.asyncDispose]());

  const at = (path: string): string => join(files, path);
  const spec = (more: Spec = {}): Spec => ({
    filesystem: { readable: [guestDirectory, at("read")], writable: [at("write")] },
    ...more,
  });
  const inside = (...args: string[]): Promise<string> => act(service.client, spec(), ...args);
  /** Result of each call, by its name. */
  const results = (text: string): Map<string, string> =>
    new Map(text.split("\n").map((line) => line.split(" ") as [string, string]));

  describe("for metadata", () => {
    before(function () {
      if (!hasNamespaces) skip(this, "this host has no mount namespaces");
    });

    it("let modes, owners, times and attributes be changed below writable trees alone", async () => {
      const written = results(await inside("attributes", at("write/file")));
      const read = results(await inside("attributes", at("read/file")));
      assert.ok(written.size >= 20 && read.size >= 20);
      for (const [call, result] of written) {
        // What this file system or kernel lacks it lacks here too.
        if (["EOPNOTSUPP", "ENOTTY", "ENOSYS"].includes(result)) continue;
        assert.equal(result, "ok", call);
        assert.match(read.get(call) ?? "", /^(EROFS|EPERM)$/, call);
      }
      for (const call of ["chmod", "fchmod", "fchmodat2", "fchown", "utimensat"]) {
        assert.equal(written.get(call), "ok", call);
        assert.equal(read.get(call), "EROFS", call);
      }
    });

    it("judge what a link, a dot-dot or another name of a tree leads to", async () => {
      const chmod = async (path: string) => results(await inside("attributes", path)).get("chmod");
      assert.equal(await chmod(at("write/link")), "EROFS");
      assert.equal(await chmod(at("write/below/../../read/file")), "EROFS");
      assert.equal(await chmod(at("read/alias/file")), "ok");
      assert.equal(await chmod(at("write/below/file")), "ok");
    });

    it("leave alone what is denied below a writable tree", async () => {
      const denying: Spec = {
        filesystem: { readable: [guestDirectory], writable: [at("write")], denied: [at("write/below")] },
      };
      assert.equal(await act(service.client, denying, "change", "chmod", at("write/below/file")), "EACCES");
      assert.equal(await act(service.client, denying, "change", "chmod", at("write/below")), "EROFS");
      assert.equal(await act(service.client, denying, "change", "chmod", at("write/file")), "ok");
      assert.equal(await act(service.client, denying, "open-read", at("write/below/file")), "EACCES");
    });

    it("leave devices, pipes and what is standard output writable", async () => {
      assert.equal(await inside("open-write", "/dev/null"), "ok");
      const script = "mkfifo fifo && { echo through >fifo & cat fifo; } && echo seen >&2";
      const ran = await run(service.client, {
        spec: spec(),
        process: { argv: ["/bin/sh", "-c", script], cwd: at("write/below") },
      });
      assert.deepEqual([ran.stdout, ran.stderr], ["through\n", "seen\n"]);
    });

    it("are what a program cannot change or leave", async () => {
      for (const [call, result] of results(await inside("mounts", at("read")))) assert.equal(result, "EPERM", call);
      assert.equal(results(await inside("attributes", at("read/file"))).get("chmod"), "EROFS");
    });

    it("are none where nothing is writable, or everything", async () => {
      const mechanism = async (filesystem: Spec["filesystem"]) => {
        await using sandbox = await spawn(service.client, { spec: { filesystem }, process: shell });
        const { plan } = await sandbox.get();
        return [
          plan?.mechanisms["modes, owners, times and attributes of files"],
          plan?.stages.some(({ stage }) => stage === "mounts"),
        ];
      };
      assert.deepEqual(await mechanism({}), ["seccomp, refused", false]);
      assert.deepEqual(await mechanism({ writable: ["/"] }), [undefined, false]);
      assert.deepEqual(await mechanism({ writable: [at("write")] }), ["read-only mounts", true]);
      assert.equal(await act(service.client, { filesystem: { readable: [guestDirectory, at("read")] } }, "attributes", at("read/file")).then((text) => results(text).get("chmod")), "EPERM"); // biome-ignore format: one question
    });

    it("show the same to processes that are started later, and reach the host with what is written", async () => {
      await using sandbox = await spawn(service.client, { spec: spec(), process: shell });
      const later = await sandbox.exec({ argv: [guestPath("act"), "attributes", at("read/file")] });
      await later.exit();
      assert.equal(results(later.stdout).get("chmod"), "EROFS");
      await sandbox.write(`echo new >${at("write/new")} && chmod 600 ${at("write/new")} && echo done\n`);
      await sandbox.until(/done/);
      assert.equal(readFileSync(at("write/new"), "utf8"), "new\n");
      assert.equal(statSync(at("write/new")).mode & 0o777, 0o600);
    });

    it("stay inside: nothing that the host mounts or has mounted changes", async () => {
      const before = readFileSync("/proc/self/mountinfo", "utf8");
      await using sandbox = await spawn(service.client, { spec: spec(), process: shell });
      assert.notEqual(readFileSync(`/proc/${sandbox.pid}/mountinfo`, "utf8"), before);
      assert.equal(readFileSync("/proc/self/mountinfo", "utf8"), before);
      // Private: without a peer group, or a master.
      assert.doesNotMatch(readFileSync(`/proc/${sandbox.pid}/mountinfo`, "utf8"), / (shared|master):/);
    });
  });

  it("are left out on request, and then say so", async () => {
    await using sandbox = await spawn(service.client, {
      spec: spec({ protections: { disabled: ["mount_namespace"] } }),
      process: shell,
    });
    const { plan } = await sandbox.get();
    assert.equal(
      plan?.stages.some(({ stage }) => stage === "mounts"),
      false,
    );
    assert.equal(readFileSync(`/proc/${sandbox.pid}/mountinfo`, "utf8"), readFileSync("/proc/self/mountinfo", "utf8"));
  });
});
