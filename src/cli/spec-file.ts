import { readFileSync } from "node:fs";
import { type DescField, type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { parse, TomlError } from "smol-toml";
import { type SandboxSpec, SandboxSpecSchema } from "../gen/sandgate/v1/policy_pb.js";
import { parseByteSize } from "./byte-size.js";
import { parseDurationMs } from "./duration.js";
import { UsageError } from "./failure.js";
import { parseBinding, parseDestination, parsePorts } from "./network-rule.js";
import { findTomlLine } from "./toml-lines.js";

type Path = readonly (string | number)[];

/** Reads a SandboxSpec from a TOML or JSON file; what it holds decides which. Throws UsageError. */
export function readSpecFile(file: string): SandboxSpec {
  let source: string;
  try {
    source = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`--spec ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return parseSpec(source, file);
}

/**
 * SandboxSpec in protobuf's JSON form, or the same as TOML, with the field names of the proto in either spelling.
 * Besides: a destination may be text ("127.0.0.1:8080"), ports may be text or a number, a duration "5m", a number of bytes "512M",
 * an enum value its bare name ("sane"). An unknown key is an error with its path, and in TOML its line.
 */
export function parseSpec(source: string, file: string): SandboxSpec {
  const isJson = source.trimStart().startsWith("{");
  const fail = (path: Path, message: string): never => {
    const line = isJson ? undefined : findTomlLine(source, path);
    const place = path.length === 0 ? "" : ` ${formatPath(path)}:`;
    throw new UsageError(`${file}${line === undefined ? "" : `:${line}`}:${place} ${message}`);
  };
  const value = isJson ? parseJson(source, file) : parseToml(source, file);
  if (!isRecord(value)) return fail([], "a spec is a table of SandboxSpec's fields");
  const json = normalizeMessage(SandboxSpecSchema, value, [], fail);
  try {
    return fromJson(SandboxSpecSchema, json as JsonValue);
  } catch (error) {
    return fail([], error instanceof Error ? error.message : String(error));
  }
}

type Fail = (path: Path, message: string) => never;

function parseJson(source: string, file: string): unknown {
  try {
    return JSON.parse(source);
  } catch (error) {
    throw new UsageError(`${file}: not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseToml(source: string, file: string): unknown {
  try {
    return parse(source);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const message = (error.message.split("\n")[0] ?? "").replace(/^Invalid TOML document: /, "");
    throw new UsageError(`${file}:${error.line}:${error.column}: not TOML: ${message}`);
  }
}

function normalizeMessage(message: DescMessage, value: unknown, path: Path, fail: Fail): unknown {
  switch (message.typeName) {
    case "google.protobuf.Duration":
      return normalizeDuration(value, path, fail);
    case "google.protobuf.Timestamp":
      return value instanceof Date ? value.toISOString() : value;
    case "sandgate.v1.NetworkRule":
      if (typeof value === "string") return orFail(() => destinationJson(value), path, fail);
      break;
    case "sandgate.v1.BindRule":
      if (typeof value === "number" || typeof value === "string")
        return orFail(() => bindingJson(String(value)), path, fail);
      break;
    default:
      break;
  }
  if (!isRecord(value))
    return fail(path, `${describe(value)} where a table is expected; its keys are ${fieldNames(message)}`);
  const normalized: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(value)) {
    const field = message.fields.find(({ name, jsonName }) => key === name || key === jsonName);
    if (field === undefined) return fail([...path, key], `unknown key; ${suggestion(key, message)}`);
    if (Object.hasOwn(normalized, field.jsonName)) return fail([...path, key], "given twice, in both spellings");
    normalized[field.jsonName] = normalizeField(field, entry, [...path, key], fail);
  }
  return normalized;
}

function normalizeField(field: DescField, value: unknown, path: Path, fail: Fail): unknown {
  switch (field.fieldKind) {
    case "list": {
      const single = (isPorts(field) || isBinding(field)) && !Array.isArray(value);
      if (!Array.isArray(value) && !single) return fail(path, `${describe(value)} where a list is expected`);
      const entries: unknown[] = Array.isArray(value) ? value : [value];
      if (isPorts(field))
        return entries.flatMap((entry, index) => normalizePorts(field, entry, single ? path : [...path, index], fail));
      return entries.map((entry, index) => normalizeElement(field, entry, single ? path : [...path, index], fail));
    }
    case "map":
      if (!isRecord(value)) return fail(path, `${describe(value)} where a table is expected`);
      return Object.fromEntries(
        Object.entries(value).map(([key, entry]) => [key, normalizeElement(field, entry, [...path, key], fail)]),
      );
    default:
      return normalizeElement(field, value, path, fail);
  }
}

function normalizeElement(field: DescField, value: unknown, path: Path, fail: Fail): unknown {
  if (field.message !== undefined) return normalizeMessage(field.message, value, path, fail);
  if (field.enum !== undefined) {
    if (typeof value === "number") return value;
    if (typeof value !== "string") return fail(path, `${describe(value)} where a name is expected`);
    const prefix = field.enum.sharedPrefix?.toUpperCase() ?? "";
    const wanted = value.toUpperCase().replaceAll("-", "_");
    const found = field.enum.values.find(({ name }) => name === wanted || name === `${prefix}${wanted}`);
    if (found !== undefined) return found.name;
    const names = field.enum.values
      .filter(({ number }) => number !== 0)
      .map(({ name }) => name.slice(prefix.length).toLowerCase());
    return fail(path, `"${value}" is not one of ${names.join(", ")}`);
  }
  if (field.scalar === undefined) return value;
  return scalarOrFail(field, value, path, fail);
}

/** protobuf's own reader names the type but not the place, so the type is looked at here first. */
function scalarOrFail(field: DescField, value: unknown, path: Path, fail: Fail): unknown {
  if (isSize(field) && typeof value === "string") return orFail(() => String(parseByteSize(value)), path, fail);
  const wanted = SCALAR_TYPES.get(field.scalar ?? 0) ?? "a number";
  const matches =
    wanted === "text"
      ? typeof value === "string"
      : wanted === "true or false"
        ? typeof value === "boolean"
        : isInteger(value);
  if (!matches) return fail(path, `${describe(value)} where ${wanted} is expected`);
  return typeof value === "bigint" ? value.toString() : value;
}

// ScalarType of protobuf: 9 string, 12 bytes, 8 bool; everything else that a spec holds is a whole number.
const SCALAR_TYPES: ReadonlyMap<number, string> = new Map([
  [8, "true or false"],
  [9, "text"],
  [12, "text"],
]);

function isInteger(value: unknown): boolean {
  if (typeof value === "string") return /^-?\d+$/.test(value);
  return typeof value === "bigint" || (typeof value === "number" && Number.isSafeInteger(value));
}

function normalizeDuration(value: unknown, path: Path, fail: Fail): string {
  if (typeof value !== "string" && typeof value !== "number")
    return fail(path, `${describe(value)} where a duration such as "5m" is expected`);
  return orFail(() => `${parseDurationMs(String(value)) / 1_000}s`, path, fail);
}

/** A number of bytes, which may be written as a size. */
function isSize({ name, fieldKind }: DescField): boolean {
  return fieldKind === "scalar" && name.endsWith("_bytes");
}

function isPorts(field: DescField): boolean {
  return field.message?.typeName === "sandgate.v1.PortRange";
}

function isBinding(field: DescField): boolean {
  return field.message?.typeName === "sandgate.v1.BindRule";
}

function normalizePorts(field: DescField, value: unknown, path: Path, fail: Fail): unknown[] {
  if (typeof value === "string" || typeof value === "number")
    return orFail(() => parsePorts(String(value)), path, fail);
  return [normalizeElement(field, value, path, fail)];
}

function destinationJson(text: string): unknown {
  const { transport, host, ports } = parseDestination(text);
  return { ...(transport === undefined ? {} : { transport: `TRANSPORT_${transport.toUpperCase()}` }), host, ports };
}

function bindingJson(text: string): unknown {
  const { transport, address, ports } = parseBinding(text);
  return { transport: `TRANSPORT_${transport.toUpperCase()}`, address, ports };
}

function orFail<T>(read: () => T, path: Path, fail: Fail): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UsageError) return fail(path, error.message);
    throw error;
  }
}

function suggestion(key: string, message: DescMessage): string {
  const plain = key.toLowerCase().replaceAll(/[_-]/g, "");
  const near = message.fields.find(({ name }) => {
    const candidate = name.replaceAll("_", "");
    return candidate.startsWith(plain) || plain.startsWith(candidate) || distance(candidate, plain) <= 2;
  });
  return near === undefined ? `the keys here are ${fieldNames(message)}` : `did you mean ${near.name}?`;
}

/** Edit distance. */
function distance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}

function fieldNames(message: DescMessage): string {
  return message.fields.map(({ name }) => name).join(", ");
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (value === null) return "null";
  if (typeof value === "string") return `"${value}"`;
  return typeof value === "object" ? "a table" : String(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function formatPath(path: Path): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}
