import { readFileSync } from "node:fs";
import { parse, TomlError } from "smol-toml";
import { canonicalAddress, defaultAddress } from "./address.js";
import { parseByteSize } from "./byte-size.js";
import { parseDurationMs } from "./duration.js";
import { UsageError } from "./failure.js";
import { findTomlLine } from "./toml-lines.js";

/** What `serve` runs with. */
export interface ServeConfig {
  readonly listen: readonly string[];
  /** File with the token that callers over TCP must send. */
  readonly tokenFile: string | undefined;
  /** Whether whoever reaches a TCP port may do everything. */
  readonly anonymous: boolean;
  /** Whether a TCP address other than loopback is accepted. */
  readonly remote: boolean;
  /** Users besides root who may connect to a Unix socket; empty means the service's own. */
  readonly uids: readonly number[];
  /** Whether clients can list the API; undefined: over Unix sockets, not over TCP. */
  readonly reflection: boolean | undefined;
  readonly maxSandboxes: number | undefined;
  readonly journalEvents: number | undefined;
  /** File that every event is written to; undefined: none. */
  readonly events: EventsConfig | undefined;
  /** Where Prometheus reads the figures; undefined: nowhere. */
  readonly metrics: HostAndPort | undefined;
  /** Time that sandboxes have to end after SIGTERM. */
  readonly graceMs: number;
  readonly logLevel: string;
}

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

export interface EventsConfig {
  readonly path: string;
  /** Size at which the file is put aside. */
  readonly maxBytes: number;
  /** Files put aside that are kept. */
  readonly keep: number;
  /** When what was written is forced to the disk. */
  readonly sync: "write" | "rotation";
}

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

type Value = unknown;
type Reader = (value: Value) => unknown;

const READERS: Readonly<Record<string, Reader>> = {
  listen: (value) => list(value, text).map((address) => canonicalAddress(address)),
  token_file: text,
  anonymous: flag,
  remote: flag,
  uids: (value) => list(value, count),
  reflection: flag,
  max_sandboxes: count,
  journal_events: count,
  events_file: text,
  events_size: (value) => parseByteSize(text(value)),
  events_keep: count,
  events_sync: (value) => oneOf(text(value), ["write", "rotation"]),
  metrics: (value) => parseHostAndPort(text(value)),
  grace: (value) => parseDurationMs(text(value)),
  log_level: (value) => oneOf(text(value), LOG_LEVELS),
};

/** What the command line says. */
export interface GivenConfig {
  readonly listen?: readonly string[];
  readonly tokenFile?: string;
  readonly anonymous?: boolean;
  readonly eventsFile?: string;
  readonly eventsSize?: string;
  readonly eventsKeep?: string;
  readonly metrics?: string;
}

/** The file's settings, with those of the command line in front, and the defaults behind. Throws UsageError. */
export function readServeConfig(
  file: string | undefined,
  given: GivenConfig,
  env: Readonly<Record<string, string | undefined>>,
): ServeConfig {
  const settings = file === undefined ? {} : readSettings(file);
  const fromFile = settings.listen as string[] | undefined;
  return {
    listen: given.listen?.map((address) => canonicalAddress(address)) ?? fromFile ?? [defaultAddress(env)],
    tokenFile: given.tokenFile ?? (settings.token_file as string | undefined),
    anonymous: given.anonymous ?? (settings.anonymous as boolean | undefined) ?? false,
    remote: (settings.remote as boolean | undefined) ?? false,
    uids: (settings.uids as number[] | undefined) ?? [],
    reflection: settings.reflection as boolean | undefined,
    maxSandboxes: settings.max_sandboxes as number | undefined,
    journalEvents: settings.journal_events as number | undefined,
    events: eventsConfig(settings, given),
    metrics: named("--metrics", given.metrics, parseHostAndPort) ?? (settings.metrics as HostAndPort | undefined),
    graceMs: (settings.grace as number | undefined) ?? 10_000,
    logLevel: (settings.log_level as string | undefined) ?? "info",
  };
}

function eventsConfig(settings: Readonly<Record<string, unknown>>, given: GivenConfig): EventsConfig | undefined {
  const path = given.eventsFile ?? (settings.events_file as string | undefined);
  const maxBytes =
    named("--events-size", given.eventsSize, parseByteSize) ?? (settings.events_size as number | undefined);
  const keep =
    named("--events-keep", given.eventsKeep, (value) => count(Number(value))) ??
    (settings.events_keep as number | undefined);
  if (path === undefined) return undefined;
  return {
    path,
    maxBytes: maxBytes ?? 64 << 20,
    keep: keep ?? 4,
    sync: (settings.events_sync as EventsConfig["sync"] | undefined) ?? "rotation",
  };
}

/** An option's value. What is wrong with it is said of the option. */
function named<Value>(option: string, value: string | undefined, read: (text: string) => Value): Value | undefined {
  if (value === undefined) return undefined;
  try {
    return read(value);
  } catch (error) {
    throw new UsageError(`${option} ${value}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function readSettings(file: string): Record<string, unknown> {
  let source: string;
  try {
    source = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`--config ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return parseSettings(source, file);
}

/** Exported for its tests. Throws UsageError with the line. */
export function parseSettings(source: string, file: string): Record<string, unknown> {
  let table: Record<string, unknown>;
  try {
    table = parse(source);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new UsageError(
      `${file}:${error.line}: not TOML: ${(error.message.split("\n")[0] ?? "").replace(/^Invalid TOML document: /, "")}`,
    );
  }
  const settings: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(table)) {
    const place = `${file}:${findTomlLine(source, [key]) ?? 1}: ${key}`;
    const read = Object.hasOwn(READERS, key) ? READERS[key] : undefined;
    if (read === undefined)
      throw new UsageError(`${place}: unknown key; the keys are ${Object.keys(READERS).join(", ")}`);
    try {
      settings[key] = read(value);
    } catch (error) {
      throw new UsageError(`${place}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return settings;
}

/** `127.0.0.1:9464` or `[::1]:9464`, also with `tcp:` in front. Throws UsageError. */
export function parseHostAndPort(given: string): HostAndPort {
  const [, bracketed, plain, digits] = /^(?:tcp:)?(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(given) ?? [];
  const port = Number(digits);
  const host = bracketed ?? plain;
  if (host === undefined || !(port <= 65_535))
    throw new UsageError("write an address and a port, such as 127.0.0.1:9464");
  return { host, port };
}

function text(value: Value): string {
  if (typeof value === "string") return value;
  throw new UsageError("text is expected");
}

function flag(value: Value): boolean {
  if (typeof value === "boolean") return value;
  throw new UsageError("true or false is expected");
}

function count(value: Value): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new UsageError("a whole number is expected");
}

function list<T>(value: Value, read: (entry: Value) => T): T[] {
  if (Array.isArray(value)) return value.map((entry) => read(entry));
  throw new UsageError("a list is expected");
}

function oneOf(value: string, choices: readonly string[]): string {
  if (choices.includes(value)) return value;
  throw new UsageError(`"${value}" is not one of ${choices.join(", ")}`);
}
