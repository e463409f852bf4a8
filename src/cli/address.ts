import { UsageError } from "./failure.js";

/** The service's address: as given, else SANDGATE_ADDRESS, else the user's or the machine's usual socket. */
export function serviceAddress(given: string | undefined, env: Readonly<Record<string, string | undefined>>): string {
  const chosen = given ?? env.SANDGATE_ADDRESS;
  if (chosen !== undefined && chosen !== "") return canonicalAddress(chosen);
  return defaultAddress(env);
}

/** `$XDG_RUNTIME_DIR/sandgate.sock` where that is set, else `/run/sandgate/sandgate.sock`. */
export function defaultAddress(env: Readonly<Record<string, string | undefined>>): string {
  const runtimeDirectory = env.XDG_RUNTIME_DIR;
  if (runtimeDirectory !== undefined && runtimeDirectory !== "") return `unix:${runtimeDirectory}/sandgate.sock`;
  return "unix:/run/sandgate/sandgate.sock";
}

/** `unix:/path`, `/path`, `host:port` or `tcp:host:port`, as `unix:/path` or `host:port`. Throws UsageError. */
export function canonicalAddress(text: string): string {
  const unixPath = text.startsWith("unix:")
    ? text.slice("unix:".length).replace(/^\/\/(?=\/)/, "")
    : text.startsWith("/")
      ? text
      : undefined;
  if (unixPath !== undefined) {
    if (!unixPath.startsWith("/"))
      throw new UsageError(`address "${text}": the socket path must be absolute, as in unix:/run/sandgate.sock`);
    // sun_path holds 108 bytes, its final NUL included.
    if (Buffer.byteLength(unixPath) > 107)
      throw new UsageError(`address "${text}": the socket path is longer than the 107 bytes that Linux takes`);
    return `unix:${unixPath}`;
  }
  const hostPort = text.replace(/^tcp:(\/\/)?/, "");
  const port = Number(/:(\d{1,5})$/.exec(hostPort)?.[1]);
  if (!Number.isInteger(port) || port > 65_535 || hostPort.startsWith(":")) {
    throw new UsageError(`address "${text}": write unix:/path/to/socket or HOST:PORT`);
  }
  return hostPort;
}

/** Whether the service at this address shares the caller's file system as a rule. */
export function isLocalSocket(address: string): boolean {
  return address.startsWith("unix:");
}
