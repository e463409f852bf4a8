import { pino } from "pino";
import type { Service } from "../service/main.js";
import { startService } from "../service/main.js";
import { readToken } from "./connection.js";
import { Exit, UsageError } from "./failure.js";
import { type GivenConfig, parseHostAndPort, readServeConfig, type ServeConfig } from "./serve-config.js";

export interface ServeOptions extends GivenConfig {
  readonly config?: string;
}

/** Runs the service until SIGTERM or SIGINT; a second one ends it at once. Throws Exit when the service failed. */
export async function serve(options: ServeOptions): Promise<void> {
  const config = readServeConfig(options.config, options, process.env);
  const log = pino({ level: config.logLevel, base: {} }, process.stderr);
  const stopping = awaitStop();
  const service = await startService({
    log,
    onFailed: stopping.fail,
    ...(config.maxSandboxes === undefined ? {} : { maxSandboxes: config.maxSandboxes }),
    ...(config.journalEvents === undefined ? {} : { journalEvents: config.journalEvents }),
    metrics: config.metrics !== undefined,
    tracing: true,
    ...(config.events === undefined ? {} : { eventFile: config.events }),
  });
  try {
    const addresses: string[] = [];
    for (const address of config.listen) addresses.push(await listen(service, address, config));
    const metrics = config.metrics && (await service.listenMetrics({ ...config.metrics, allowRemote: config.remote }));
    log.info(
      {
        addresses,
        ...(metrics !== undefined && { metrics: `http://${metrics}/metrics` }),
        pid: process.pid,
        wardenPid: service.wardenPid,
      },
      "ready",
    );
    process.stdout.write(`ready ${addresses.join(" ")}\n`);
    const cause = await stopping.stopped;
    if (cause instanceof Error) throw new Exit(1); // logged by the service
    log.info({ cause, graceMs: config.graceMs }, "draining");
  } finally {
    process.once("SIGINT", () => process.exit(130));
    process.once("SIGTERM", () => process.exit(143));
    await service.close(config.graceMs);
    log.info("stopped");
  }
}

function listen(service: Service, address: string, config: ServeConfig): Promise<string> {
  const { uids } = config;
  const reflection = config.reflection === undefined ? {} : { reflection: config.reflection };
  if (address.startsWith("unix:")) {
    return service.listenUnix(address.slice("unix:".length), { ...reflection, ...(uids.length === 0 ? {} : { uids }) });
  }
  const { host, port } = parseHostAndPort(address);
  const { tokenFile, anonymous } = config;
  if (tokenFile === undefined && !anonymous) {
    throw new UsageError(
      `${address}: whoever reaches a TCP port could run programs as you: name a --token-file, or accept it with --anonymous`,
    );
  }
  const authentication =
    tokenFile === undefined
      ? ({ kind: "none" } as const)
      : ({ kind: "token", name: "serve", token: readToken(tokenFile) } as const);
  return service.listenTcp({ host, port, authentication, allowRemote: config.remote, ...reflection });
}

interface Stop {
  readonly stopped: Promise<string | Error>;
  fail(error: Error): void;
}

function awaitStop(): Stop {
  let fail: (error: Error) => void = () => undefined;
  const stopped = new Promise<string | Error>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
    fail = resolve;
  });
  return { stopped, fail: (error) => fail(error) };
}
