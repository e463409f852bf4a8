import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, RemoteError, type SandgateClient } from "../client/client.js";
import { serviceAddress } from "./address.js";
import { UsageError } from "./failure.js";

/** A client and what it is connected to. */
export interface Connection {
  readonly client: SandgateClient;
  readonly address: string;
  /** Ends every call, and the service where it is embedded, with everything it runs. */
  close(): Promise<void>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Connects to the running service at this address, or at the usual one. */
export function connectTo(given: string | undefined, env: Environment = process.env): Connection {
  const address = serviceAddress(given, env);
  const token = tokenFrom(env);
  const client = connect(address, token === undefined ? {} : { token });
  return {
    client,
    address,
    close() {
      client.close();
      return Promise.resolve();
    },
  };
}

/** The service at the address that was named, else one of this process's own. */
export function connectOrEmbed(
  given: string | undefined,
  env: Environment = process.env,
): Promise<Connection> | Connection {
  const named = given ?? env.SANDGATE_ADDRESS;
  return named === undefined || named === "" ? embedService() : connectTo(named, env);
}

/** Time that sandboxes left over get to end when the embedded service closes. */
const EMBEDDED_GRACE_MS = 0;

/** A service in this process, on a socket that only this user can reach, in a directory that goes with it. */
async function embedService(): Promise<Connection> {
  const [{ pino }, { startService }] = await Promise.all([import("pino"), import("../service/main.js")]);
  const directory = mkdtempSync(join(tmpdir(), "sandgate-"));
  chmodSync(directory, 0o700);
  const remove = () => rmSync(directory, { recursive: true, force: true });
  process.once("exit", remove);
  try {
    // Failures reach the person as errors of calls; the log is for what no call reports.
    const service = await startService({
      log: pino({ level: "error" }, process.stderr),
      maxSandboxes: 64,
      journalEvents: 4096,
    });
    const address = await service.listenUnix(join(directory, "service.sock"), { reflection: false });
    const client = connect(address);
    return {
      client,
      address,
      async close() {
        client.close();
        await service.close(EMBEDDED_GRACE_MS);
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

/** SANDGATE_TOKEN, or what is in the file that SANDGATE_TOKEN_FILE names. */
function tokenFrom(env: Environment): string | undefined {
  const token = env.SANDGATE_TOKEN;
  if (token !== undefined && token !== "") return token;
  const file = env.SANDGATE_TOKEN_FILE;
  return file === undefined || file === "" ? undefined : readToken(file);
}

/** The first line of a token file. Throws UsageError. */
export function readToken(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`cannot read the token: ${error instanceof Error ? error.message : String(error)}`);
  }
  const token = (text.split("\n")[0] ?? "").trim();
  if (token === "") throw new UsageError(`${file} holds no token`);
  return token;
}

/** A failed call together with the address it went to, which its message needs. */
export class FailedCall extends Error {
  override readonly name = "FailedCall";
  readonly address: string;

  constructor(address: string, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.address = address;
  }
}

/** Runs `use` with a connection and closes it, however `use` ends. Failed calls become FailedCall. */
export async function withConnection<T>(
  connection: Connection | Promise<Connection>,
  use: (connection: Connection) => Promise<T>,
): Promise<T> {
  const opened = await connection;
  try {
    return await use(opened);
  } catch (error) {
    throw error instanceof RemoteError ? new FailedCall(opened.address, error) : error;
  } finally {
    await opened.close();
  }
}
