/**
 * A service of its own process for the bench, or (first argument `echo`) a bare bidi echo of grpc-js.
 * usage: server sandgate|echo SOCKET [JOURNAL_EVENTS]
 */
import { rmSync } from "node:fs";
import { type handleBidiStreamingCall, Server, ServerCredentials, type ServiceDefinition } from "@grpc/grpc-js";
import pino from "pino";
import { startService } from "../src/service/main.js";

/** One method that sends each message back; bytes in, bytes out. */
export const echoService: ServiceDefinition = {
  echo: {
    path: "/bench.Echo/Echo",
    requestStream: true,
    responseStream: true,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
};

async function serveEcho(address: string): Promise<() => Promise<void>> {
  const server = new Server();
  const echo: handleBidiStreamingCall<Buffer, Buffer> = (call) => {
    call.on("data", (bytes: Buffer) => call.write(bytes));
    call.on("end", () => call.end());
  };
  server.addService(echoService, { echo });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
  return async () => server.forceShutdown();
}

async function serveSandgate(path: string): Promise<() => Promise<void>> {
  const service = await startService({
    log: pino({ level: "error" }, pino.destination(2)),
    ...(journalEvents === undefined ? {} : { journalEvents: Number(journalEvents) }),
  });
  await service.listenUnix(path);
  process.send?.({ wardenPid: service.wardenPid });
  return () => service.close(0);
}

const [kind, path, journalEvents] = process.argv.slice(2);
if (path !== undefined && process.send !== undefined) {
  const close = kind === "echo" ? await serveEcho(`unix:${path}`) : await serveSandgate(path);
  process.send("ready");
  // The bench failed: nobody would stop us.
  process.once("disconnect", () => process.exit(1));
  process.once("message", async () => {
    process.removeAllListeners("disconnect");
    await close();
    rmSync(path, { force: true });
    process.disconnect();
  });
}
