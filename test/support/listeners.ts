import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";

/** A TCP port of the host that takes every connection, counts it and ends it. */
export interface TestListener extends AsyncDisposable {
  readonly port: number;
  readonly accepted: () => number;
}

export async function listen(host = "127.0.0.1", wantedPort = 0): Promise<TestListener> {
  let count = 0;
  const server = createServer((socket) => {
    count++;
    socket.on("error", () => undefined).destroy();
  }).listen(wantedPort, host);
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    port: address.port,
    accepted: () => count,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, "close");
    },
  };
}
