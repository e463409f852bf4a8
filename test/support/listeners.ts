import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { guestPath } from "./guests.js";

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

/** A port that answers no more connects. */
export async function listenInVain(): Promise<AsyncDisposable & { readonly port: number }> {
  const child = spawn(guestPath("mediated"), ["backlog"]);
  const port = Number((await once(child.stdout, "data")).toString());
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}
