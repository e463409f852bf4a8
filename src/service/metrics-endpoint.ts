import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Metrics } from "./metrics.js";
import { checkTcpAddress, listenTcp, type TcpAddress } from "./tcp.js";

/** `GET /metrics` over HTTP. */
export interface MetricsEndpoint {
  /** For clients, `HOST:PORT`. */
  readonly address: string;
  close(): Promise<void>;
}

const maxConnections = 16;
const requestTimeoutMs = 10_000;

/** Rejects for an address that may not or cannot be listened on. */
export async function openMetricsEndpoint(metrics: Metrics, at: TcpAddress): Promise<MetricsEndpoint> {
  checkTcpAddress(at);
  const server = createServer(
    { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs, maxHeaderSize: 8192 },
    (request, response) => void answer(request, response),
  );
  server.maxConnections = maxConnections;

  async function answer({ method, url = "" }: IncomingMessage, response: ServerResponse): Promise<void> {
    if (url.split("?")[0] !== "/metrics") {
      response.writeHead(404).end();
    } else if (method !== "GET" && method !== "HEAD") {
      response.writeHead(405, { allow: "GET, HEAD" }).end();
    } else {
      const text = await metrics.text();
      response.writeHead(200, { "content-type": metrics.contentType }).end(method === "HEAD" ? undefined : text);
    }
  }

  const address = await listenTcp(server, at);
  return {
    address,
    close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}
