import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createConnection, createServer as createNetServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { connect, type SandgateClient } from "../../src/client/client.js";
import { AuthMethod, CallerRole } from "../../src/gen/sandgate/v1/server_pb.js";
import { createChannels } from "../../src/native/channel.js";
import { loadLibrary } from "../../src/native/library.js";
import type { PeerCredentials } from "../../src/service/auth.js";
import { createServer, type Server } from "../../src/service/server.js";
import { bindServerService } from "../../src/service/server-service.js";

const run = promisify(execFile);
const uid = process.geteuid?.() ?? 0;
const self = { pid: process.pid, uid, gid: process.getegid?.() ?? 0 };

function create(peerCredentials: (fd: number) => PeerCredentials = () => self): Server {
  const facts = bindServerService({
    version: "1.2.3",
    epoch: "epoch",
    kernelRelease: "6.0",
    landlockAbi: 6,
    features: ["decide"],
    protections: new Map([["landlock_fs", true]]),
    holdableSyscalls: ["execve"],
    host: [{ name: "cgroup", available: false, detail: "not delegated", remedy: "delegate one" }],
    limits: {
      maxMessageBytes: 1,
      maxHoldMs: 1500,
      maxSandboxes: 2,
      maxWindow: 3,
      requestIdRetentionMs: 4,
      journalEvents: 5,
    },
  });
  return createServer({ services: [facts], report: (_id, error) => assert.fail(String(error)), peerCredentials });
}

/** Makes a stale socket: one whose process is gone without having removed it. */
function leaveSocket(path: string): void {
  const script = `require("node:net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", script, path]);
  assert.ok(statSync(path).isSocket());
}

/** Lets every user reach what is below, as far as its own mode permits. */
function letOthersPass(directory: string): void {
  for (const path of [tmpdir(), directory]) chmodSync(path, (statSync(path).mode & 0o7777) | 0o055);
}

describe("server", () => {
  let directory: string;
  let path: string;
  const opened: { close(): void }[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "sandgate-"));
    path = join(directory, "run", "socket");
  });
  afterEach(() => {
    for (const client of opened.splice(0)) client.close();
    rmSync(directory, { recursive: true });
  });

  function open(address: string, token?: string): SandgateClient {
    const client = connect(address, token === undefined ? {} : { token });
    opened.push(client);
    return client;
  }

  it("makes its socket for its owner alone, in a directory of its own, and removes it when it drains", async () => {
    const server = create();
    const address = await server.listenUnix(path);
    assert.equal(address, `unix:${path}`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(join(directory, "run")).mode & 0o777, 0o700);
    const info = await open(address).server.getServerInfo({});
    assert.equal(info.version, "1.2.3");
    assert.deepEqual(info.limits?.maxHold, { $typeName: "google.protobuf.Duration", seconds: 1n, nanos: 500_000_000 });
    assert.deepEqual([info.caller?.identity, info.caller?.method], [`uid:${uid}`, AuthMethod.PEER_CREDENTIALS]);
    assert.ok(info.caller?.roles.includes(CallerRole.OPERATOR));
    await server.drain(1000);
    assert.equal(existsSync(path), false);
    await assert.rejects(server.listenUnix(path), { reason: "DRAINING" });
  });

  it("removes a stale socket, but neither one that answers nor something else of that name", async () => {
    mkdirSync(join(directory, "run"), { mode: 0o700 });
    leaveSocket(path);
    const server = create();
    const address = await server.listenUnix(path);
    assert.equal((await open(address).server.getServerInfo({})).version, "1.2.3");

    await assert.rejects(create().listenUnix(path), /a service is answering there/);
    assert.equal((await open(address).server.getServerInfo({})).version, "1.2.3");
    await server.drain(0);

    writeFileSync(path, "precious");
    await assert.rejects(create().listenUnix(path), /no socket/);
    assert.equal(statSync(path).size, 8);
  });

  it("refuses a directory in which others could put another socket", async () => {
    mkdirSync(join(directory, "run"));
    chmodSync(join(directory, "run"), 0o777);
    await assert.rejects(create().listenUnix(path), /can be changed by others/);
    chmodSync(join(directory, "run"), 0o1777);
    const server = create();
    await server.listenUnix(path);
    await server.drain(0);
  });

  it("closes a connection whose peer is another user, and serves the same peer once it is admitted", async () => {
    const stranger = { pid: 1, uid: uid + 12345, gid: 1 };
    const server = create(() => stranger);
    const refused = open(await server.listenUnix(path));
    await assert.rejects(refused.server.getServerInfo({}, { timeoutMs: 5000 }), { code: "UNAVAILABLE" });
    const other = join(directory, "run", "other");
    const admitted = open(await server.listenUnix(other, { uids: [stranger.uid] }));
    assert.equal((await admitted.server.getServerInfo({})).caller?.identity, `uid:${stranger.uid}`);
    await server.drain(0);
  });

  it("keeps another user of the machine out with the socket's mode alone", async function () {
    if (uid !== 0) this.skip(); // Only root can become another user.
    letOthersPass(directory);
    const server = create();
    await server.listenUnix(path);
    chmodSync(join(directory, "run"), 0o755);
    const script = `require("node:net").connect(process.argv[1]).on("connect", () => process.exit(0)).on("error", (e) => { console.log(e.code); process.exit(3); })`;
    const attempt = (user: number) =>
      run(process.execPath, ["-e", script, path], { uid: user, gid: user, cwd: "/" }).then(
        () => "connected",
        ({ stdout }: { stdout: string }) => stdout.trim(),
      );
    assert.equal(await attempt(65534), "EACCES");
    chmodSync(path, 0o666);
    assert.equal(await attempt(65534), "connected", "nothing but the socket's mode kept it out");
    chmodSync(path, 0o600);
    assert.equal(await attempt(0), "connected");
    await server.drain(0);
  });

  it("lets in another user that was named, and no third one", async function () {
    if (uid !== 0) this.skip(); // Only root can become another user.
    letOthersPass(directory);
    const channels = createChannels(loadLibrary());
    const server = create((fd) => channels.peer(fd));
    await server.listenUnix(path, { uids: [65534] });
    const script = `require("node:net").connect(process.argv[1]).once("data", () => { console.log("served"); process.exit(); }).on("close", () => console.log("closed")).on("error", (e) => console.log(e.code))`;
    const attempt = (user: number) =>
      run(process.execPath, ["-e", script, path], { uid: user, gid: user, cwd: "/" }).then(({ stdout }) =>
        stdout.trim(),
      );
    assert.equal(await attempt(65534), "served");
    assert.equal(await attempt(65533), "closed");
    await server.drain(0);
  });

  it("asks for its token on TCP and accepts loopback alone", async () => {
    const server = create();
    const authentication = { kind: "token", name: "test", token: "s3cret" } as const;
    const address = await server.listenTcp({ host: "127.0.0.1", port: 0, authentication });
    assert.match(address, /^127\.0\.0\.1:\d+$/);
    await assert.rejects(open(address).server.getServerInfo({}), { code: "UNAUTHENTICATED" });
    await assert.rejects(open(address, "s3cre").server.getServerInfo({}), { code: "UNAUTHENTICATED" });
    const { caller } = await open(address, "s3cret").server.getServerInfo({});
    assert.deepEqual([caller?.identity, caller?.method], ["token:test", AuthMethod.TOKEN]);

    await assert.rejects(server.listenTcp({ host: "0.0.0.0", port: 0, authentication }), /only loopback/);
    await assert.rejects(server.listenTcp({ host: "localhost", port: 0, authentication }), /must be an address/);
    const occupied = createNetServer().listen(0, "127.0.0.1");
    await once(occupied, "listening");
    const { port } = occupied.address() as { port: number };
    await assert.rejects(server.listenTcp({ host: "127.0.0.1", port, authentication }), {
      code: "failed_precondition",
    });
    occupied.close();
    await server.drain(0);
  });

  it("reports health, and that it is over when it drains", async () => {
    const server = create();
    const client = open(await server.listenUnix(path));
    assert.equal((await client.health.check({ service: "sandgate.v1.ServerService" })).status, 1);
    await assert.rejects(client.health.check({ service: "nothing" }), { code: "NOT_FOUND" });
    const reader = client.health.watch({})[Symbol.asyncIterator]();
    assert.equal((await reader.next()).value.status, 1);
    const drained = server.drain(1000);
    const last = await reader.next().then(
      ({ value }) => value.status,
      (error: { code: string }) => error.code,
    );
    assert.ok(last === 2 || last === "UNAVAILABLE", String(last));
    await drained;
  });

  it("drains while a client is leaving, however far that is", async () => {
    for (let turns = 0; turns < 12; turns++) {
      const server = create();
      const client = open(await server.listenUnix(path));
      assert.equal((await client.health.check({ service: "sandgate.v1.ServerService" })).status, 1);
      client.close();
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      await server.drain(0);
    }
  });

  it("cuts a connection that takes nothing when it drains", async () => {
    const server = create();
    await server.listenUnix(path);
    const silent = createConnection(path);
    await once(silent, "connect");
    silent.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await once(silent, "data");
    silent.pause();
    await server.drain(0);
    silent.destroy();
  });

  it("describes itself over reflection on the Unix socket and not on TCP", async () => {
    const server = create();
    const tcp = await server.listenTcp({ host: "127.0.0.1", port: 0, authentication: { kind: "none" } });
    await server.listenUnix(path);
    const list = (...where: string[]) =>
      run("node_modules/.bin/buf", [
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "--list-methods",
        ...where,
      ]);
    const { stdout } = await list("--unix-socket", path, "http://localhost");
    assert.match(stdout, /sandgate\.v1\.ServerService\/GetServerInfo/);
    assert.match(stdout, /grpc\.health\.v1\.Health\/Check/);
    await assert.rejects(list(`http://${tcp}`), /unimplemented/i);
    await server.drain(0);
  });
});
