import { type AddressInfo, isIP, type Server } from "node:net";
import { SandboxError } from "../base/errors.js";
import { createDeferred } from "../base/signals.js";

export interface TcpAddress {
  readonly host: string;
  /** Zero lets the system choose. */
  readonly port: number;
  /** Whether an address other than loopback is accepted. Nothing on the wire is encrypted. */
  readonly allowRemote?: boolean;
}

export function refusedAddress(address: string, message: string, cause?: unknown): SandboxError {
  return new SandboxError("failed_precondition", `cannot listen on ${address}: ${message}`, {
    reason: "SERVICE_FAILED",
    cause,
  });
}

/** Resolves once `listen` has bound the socket. */
export function listening(server: Server, listen: () => void): Promise<void> {
  const started = createDeferred();
  server.once("error", started.reject);
  server.once("listening", started.resolve);
  listen();
  return started.promise.finally(() => {
    server.removeListener("error", started.reject);
    server.removeListener("listening", started.resolve);
  });
}

/** Throws for an address that may not be listened on. */
export function checkTcpAddress({ host, port, allowRemote = false }: TcpAddress): void {
  const loopback = host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
  if (isIP(host) === 0) throw refusedAddress(written(host, port), "the host must be an address, such as 127.0.0.1");
  if (!loopback && !allowRemote)
    throw refusedAddress(written(host, port), "only loopback addresses are accepted: nothing on the wire is encrypted");
}

/** Resolves with the address for clients, `HOST:PORT`. */
export async function listenTcp(server: Server, { host, port }: TcpAddress): Promise<string> {
  try {
    await listening(server, () => server.listen({ host, port, ipv6Only: true }));
  } catch (error) {
    throw refusedAddress(written(host, port), error instanceof Error ? error.message : String(error), error);
  }
  return written(host, (server.address() as AddressInfo).port);
}

function written(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
