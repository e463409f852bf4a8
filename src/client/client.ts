import { Client, type ClientOptions, credentials } from "@grpc/grpc-js";
import { Health } from "../gen/grpc/health/v1/health_pb.js";
import { CheckpointService } from "../gen/sandgate/v1/checkpoint_pb.js";
import { DecisionService } from "../gen/sandgate/v1/decision_pb.js";
import { SandboxService } from "../gen/sandgate/v1/sandbox_pb.js";
import { ServerService } from "../gen/sandgate/v1/server_pb.js";
import { StdioService } from "../gen/sandgate/v1/stdio_pb.js";
import { WatchService } from "../gen/sandgate/v1/watch_pb.js";
import { WorkdirService } from "../gen/sandgate/v1/workdir_pb.js";
import { remoteErrorOf } from "./errors.js";
import { createClient, type ServiceClient } from "./rpc.js";

export * from "./api.js";
export { RemoteError, type RemoteErrorDetails, type StatusName } from "./errors.js";
export { type CallOptions, createClient, type DuplexCall, type ServiceClient } from "./rpc.js";

export interface ConnectOptions {
  /** The server's token, for an address that asks for one. */
  readonly token?: string;
}

/** Clients of all services over one connection, made when first used and made again when it breaks. */
export interface SandgateClient extends Disposable {
  readonly sandbox: ServiceClient<typeof SandboxService>;
  readonly decision: ServiceClient<typeof DecisionService>;
  readonly watch: ServiceClient<typeof WatchService>;
  readonly stdio: ServiceClient<typeof StdioService>;
  readonly checkpoint: ServiceClient<typeof CheckpointService>;
  readonly workdir: ServiceClient<typeof WorkdirService>;
  readonly server: ServiceClient<typeof ServerService>;
  readonly health: ServiceClient<typeof Health>;
  /** Resolves once connected; rejects when that takes longer than `timeoutMs`. */
  ready(timeoutMs: number): Promise<void>;
  /** Ends every call. */
  close(): void;
}

const channelOptions: ClientOptions = {
  // A proxy from the environment has no business with a local service.
  "grpc.enable_http_proxy": 0,
  "grpc.enable_channelz": 0,
  "grpc.service_config_disable_resolution": 1,
  // Connections are not shared with other clients of this process, so that close() closes.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 2000,
};

/** `address` is `unix:PATH`, an absolute path, or `HOST:PORT`. */
export function connect(address: string, { token }: ConnectOptions = {}): SandgateClient {
  const target = address.startsWith("/") ? `unix:${address}` : address;
  const channel = new Client(target, credentials.createInsecure(), channelOptions);
  const metadata: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const close = (): void => channel.close();
  return {
    sandbox: createClient(SandboxService, channel, metadata),
    decision: createClient(DecisionService, channel, metadata),
    watch: createClient(WatchService, channel, metadata),
    stdio: createClient(StdioService, channel, metadata),
    checkpoint: createClient(CheckpointService, channel, metadata),
    workdir: createClient(WorkdirService, channel, metadata),
    server: createClient(ServerService, channel, metadata),
    health: createClient(Health, channel, metadata),
    ready: (timeoutMs) =>
      new Promise((resolve, reject) => {
        channel.waitForReady(Date.now() + timeoutMs, (error) => {
          if (error === undefined) resolve();
          else reject(remoteErrorOf(error));
        });
      }),
    close,
    [Symbol.dispose]: close,
  };
}
