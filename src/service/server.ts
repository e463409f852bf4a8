import { setMaxListeners } from "node:events";
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { connect, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { type DescFile, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { type ServerOptions as GrpcOptions, Server as GrpcServer, ServerCredentials } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { SandboxError } from "../base/errors.js";
import { createDeferred } from "../base/signals.js";
import {
  type Authenticate,
  authenticatePeer,
  authenticateTcp,
  type PeerCredentials,
  peerNameOf,
  type TcpAuthentication,
} from "./auth.js";
import type { BoundService } from "./bridge.js";
import { createHealthService } from "./health.js";
import type { ObserveCall } from "./observe.js";
import type { ReportBug } from "./status.js";
import { checkTcpAddress, listening, listenTcp, refusedAddress, type TcpAddress } from "./tcp.js";

/** Largest message accepted or sent, in bytes. */
export const maxMessageBytes = 4 << 20;
/** Connections at a time, for each listener. */
const maxConnections = 512;

/**
 * grpc-js bounds little by itself: with its defaults, one connection may open streams without end.
 * A client that waits for a thousand processes on one connection stays well within.
 */
const limits: GrpcOptions = {
  "grpc.max_concurrent_streams": 4096,
  "grpc.max_receive_message_length": maxMessageBytes,
  "grpc.max_send_message_length": maxMessageBytes,
  "grpc-node.max_session_memory": 64,
  // Nobody looks at it, and each call would keep its books.
  "grpc.enable_channelz": 0,
};

/** A frozen peer of a Unix socket is seen by nobody, but harms nobody; a vanished machine must be noticed. */
const tcpLimits: GrpcOptions = {
  ...limits,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 20_000,
};

export interface ServerOptions {
  readonly services: readonly BoundService[];
  readonly report: ReportBug;
  /** Undefined: nobody observes calls. */
  readonly observe?: ObserveCall | undefined;
  /** Credentials of whoever is at the other end of a Unix socket; throws when there are none. */
  readonly peerCredentials: (fd: number) => PeerCredentials;
}

export interface UnixListenOptions {
  /** Users admitted besides root; unset means the one that runs the server. */
  readonly uids?: readonly number[];
  /** Whether the API can be listed by any client; unset means yes. */
  readonly reflection?: boolean;
}

export interface TcpListenOptions extends TcpAddress {
  readonly authentication: TcpAuthentication;
  readonly reflection?: boolean;
}

/** The gRPC server with all its listeners. */
export interface Server extends AsyncDisposable {
  /**
   * Resolves with the address for clients, `unix:PATH`. The socket admits its owner alone (mode 0600), unless
   * other users are named: then whoever connects is asked for its credentials first.
   */
  listenUnix(path: string, options?: UnixListenOptions): Promise<string>;
  /** Resolves with the address for clients, `HOST:PORT`. */
  listenTcp(options: TcpListenOptions): Promise<string>;
  /**
   * Takes no new connection, ends open-ended streams with UNAVAILABLE and waits for all other calls, at most
   * `graceMs`; then ends those too.
   */
  drain(graceMs: number): Promise<void>;
}

/**
 * One listening socket with its connections. They are ours and not grpc-js's: its `tryShutdown` waits for ever for a
 * session that ends in the same moment, and its `forceShutdown` knows no sessions where channelz is off.
 */
interface Listener {
  /** Takes no new connection and tells clients to go; resolves once the last one has gone. */
  close(): Promise<void>;
  /** Ends all connections. */
  cut(): void;
}

/** Every file that the services need, for clients that have no proto files. */
function reflectionOf(services: readonly BoundService[]): ReflectionService {
  const files = new Map<string, DescFile>();
  const visit = (file: DescFile): void => {
    if (files.has(file.name)) return;
    files.set(file.name, file);
    for (const dependency of file.dependencies) visit(dependency);
  };
  for (const { descriptor } of services) visit(descriptor.file);
  const fileDescriptorProtos = [...files.values()].map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)),
  );
  // The package reads nothing else of a definition.
  return new ReflectionService({
    all: { format: "Protocol Buffer 3 DescriptorProto", type: {}, fileDescriptorProtos },
  });
}

/** Whether somebody accepts connections there. */
async function isAnswered(path: string): Promise<boolean> {
  const answer = createDeferred<boolean>();
  const probe = connect(path, () => answer.resolve(true));
  probe.once("error", () => answer.resolve(false));
  try {
    return await answer.promise;
  } finally {
    probe.destroy();
  }
}

/** Makes the directory, or checks that nobody else could put another socket in the place of ours. */
function prepareDirectory(path: string, mode: number): void {
  const directory = dirname(path);
  mkdirSync(directory, { recursive: true, mode });
  const found = lstatSync(`${directory}/.`);
  const ours = found.uid === process.geteuid?.() || found.uid === 0;
  const shared = (found.mode & 0o022) !== 0;
  const sticky = (found.mode & 0o1000) !== 0;
  if (!ours || (shared && !sticky)) {
    throw refusedAddress(
      path,
      `${directory} can be changed by others; use a directory of the service's user with mode 0700`,
    );
  }
}

/** Removes a socket that a service left behind. Anything else in its place is left alone, and refused. */
async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw refusedAddress(path, "something that is no socket has that name");
  if (found.uid !== process.geteuid?.()) throw refusedAddress(path, "a socket of another user has that name");
  if (await isAnswered(path)) throw refusedAddress(path, "a service is answering there");
  const now = lstatSync(path, { throwIfNoEntry: false });
  if (now?.ino === found.ino && now.dev === found.dev) unlinkSync(path);
}

function descriptorOf(socket: Socket): number {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (fd === undefined || fd < 0) throw new Error("the connection has no descriptor");
  return fd;
}

/** What is accepted on `sockets` and `admitted` goes to `grpc`. */
function createListener(sockets: NetServer, grpc: GrpcServer, admitted: (socket: Socket) => boolean): Listener {
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const connections = new Set<Socket>();
  sockets.maxConnections = maxConnections;
  sockets.on("connection", (socket) => {
    if (!admitted(socket)) {
      socket.destroy();
      return;
    }
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    injector.injectConnection(socket);
  });
  return {
    close() {
      const closed = createDeferred();
      sockets.close(() => closed.resolve());
      grpc.tryShutdown(() => undefined);
      return closed.promise;
    },
    cut() {
      for (const socket of connections) socket.destroy();
    },
  };
}

export function createServer(options: ServerOptions): Server {
  const { report, observe, peerCredentials } = options;
  const draining = new AbortController();
  const stopping = new AbortController();
  // Each call listens while it lasts.
  setMaxListeners(0, draining.signal, stopping.signal);
  const health = createHealthService(options.services.map(({ descriptor }) => descriptor.typeName));
  const services = [...options.services, health.service];
  const listeners: Listener[] = [];
  let finished: Promise<void> | undefined;

  function createGrpc(authenticate: Authenticate, grpcOptions: GrpcOptions, reflection: boolean): GrpcServer {
    const grpc = new GrpcServer(grpcOptions);
    const environment = { authenticate, report, observe, draining: draining.signal, stopping: stopping.signal };
    for (const service of services) grpc.addService(service.definition, service.implement(environment));
    if (reflection) reflectionOf(services).addToServer(grpc);
    return grpc;
  }

  function assertOpen(): void {
    draining.signal.throwIfAborted();
  }

  /** Whether the peer is one of `uids`; grpc-js then learns whose connection it is. */
  function isAdmitted(socket: Socket, uids: ReadonlySet<number>): boolean {
    let credentials: PeerCredentials;
    try {
      credentials = peerCredentials(descriptorOf(socket));
    } catch {
      return false; // It left before it was looked at.
    }
    if (!uids.has(credentials.uid)) return false;
    // grpc-js knows no peer credentials; what the socket says its address is, each call's getPeer() says.
    Object.defineProperty(socket, "remoteAddress", { value: peerNameOf(credentials) });
    return true;
  }

  return {
    async listenUnix(path, { uids = [process.geteuid?.() ?? 0], reflection = true } = {}) {
      assertOpen();
      if (Buffer.byteLength(path) > 107) throw refusedAddress(path, "the path of a Unix socket has at most 107 bytes");
      const others = uids.some((uid) => uid !== 0 && uid !== process.geteuid?.());
      prepareDirectory(path, others ? 0o711 : 0o700);
      await removeStale(path);
      const grpc = createGrpc(authenticatePeer, limits, reflection);
      const admitted = new Set([0, ...uids]);
      const sockets = createNetServer();
      const listener = createListener(sockets, grpc, (socket) => isAdmitted(socket, admitted));
      // bind() makes the socket with what the mask leaves, so that there is no moment in which others could connect.
      const mask = process.umask(0o177);
      try {
        await listening(sockets, () => {
          sockets.listen(path);
          process.umask(mask);
        });
        chmodSync(path, others ? 0o666 : 0o600);
      } catch (error) {
        process.umask(mask);
        sockets.close();
        throw refusedAddress(path, error instanceof Error ? error.message : String(error), error);
      }
      listeners.push(listener);
      return `unix:${path}`;
    },

    async listenTcp({ authentication, reflection = false, ...at }) {
      assertOpen();
      checkTcpAddress(at);
      const grpc = createGrpc(authenticateTcp(authentication), tcpLimits, reflection);
      const sockets = createNetServer({ noDelay: true });
      const listener = createListener(sockets, grpc, () => true);
      const address = await listenTcp(sockets, at);
      listeners.push(listener);
      return address;
    },

    drain(graceMs) {
      finished ??= (async () => {
        const refusal = new SandboxError("unavailable", "the server is shutting down", { reason: "DRAINING" });
        health.setServing(false);
        draining.abort(refusal);
        const timer = setTimeout(() => stopping.abort(refusal), graceMs);
        // Calls that were ended get a moment to say so; a connection that takes nothing is cut.
        const cut = setTimeout(() => {
          for (const listener of listeners) listener.cut();
        }, graceMs + 500);
        await Promise.all(listeners.map((listener) => listener.close()));
        clearTimeout(timer);
        clearTimeout(cut);
        stopping.abort(refusal);
      })();
      return finished;
    },

    async [Symbol.asyncDispose]() {
      await this.drain(0);
    },
  };
}
