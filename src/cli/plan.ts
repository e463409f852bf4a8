import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import {
  type ProcessSpec,
  type Sandbox,
  SandboxSchema,
  type SandboxSpec,
  SandboxSpecSchema,
} from "../client/client.js";
import type { Connection } from "./connection.js";
import { writeJsonLine } from "./output.js";
import { clipped, printable, quoted } from "./printable.js";
import { formatTable, type Style, styleFor } from "./style.js";

const LINE_WIDTH = 100;
const VALUE_WIDTH = 48;

type Json = { readonly [key: string]: unknown };

/** Asks the service what would enforce a spec, starting nothing, and writes it to standard error. */
export async function explainPlan(
  { client }: Connection,
  spec: SandboxSpec,
  process_: ProcessSpec,
  json: boolean,
): Promise<void> {
  const request = { requestId: randomUUID(), validateOnly: true, spec, process: process_ };
  const { sandbox, warnings } = await client.sandbox.spawn(request);
  if (sandbox === undefined) return;
  if (json) {
    const { plan = {}, protections = {} } = toJson(SandboxSchema, sandbox) as Json;
    const messages = warnings.map(({ message }) => message);
    await writeJsonLine(process.stderr, { plan, protections, warnings: messages });
  } else process.stderr.write(`${describePlan(sandbox, styleFor(process.stderr, process.env)).join("\n")}\n`);
}

/** Which mechanism enforces each rule, and which calls the service is notified of: lines of two sections. */
export function describePlan({ plan, spec }: Sandbox, style: Style): string[] {
  if (plan === undefined) return [];
  const json = spec === undefined ? {} : (toJson(SandboxSpecSchema, spec) as Json);
  const rows = Object.entries(plan.mechanisms)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([rule, mechanism]) => [printable(rule), valueAt(json, rule), printable(mechanism)]);
  const lines = [style.bold("enforced by")];
  lines.push(...formatTable(["RULE", "VALUE", "MECHANISM"], rows).trimEnd().split("\n").map(indented));
  const notified = plan.notifiedSyscalls;
  lines.push(
    style.bold(`notified of ${notified.length === 0 ? "no call" : `${notified.length} calls, in some forms`}`),
  );
  lines.push(...wrapped(notified).map(indented));
  return lines;
}

function indented(line: string): string {
  return `  ${line}`;
}

function wrapped(words: readonly string[]): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > LINE_WIDTH) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** What a spec says at a field path such as `spec.filesystem.readable[0]`; empty where the rule is no field. */
function valueAt(spec: Json, path: string): string {
  if (!path.startsWith("spec.")) return "";
  let value: unknown = spec;
  for (const [, name, index] of path.slice("spec.".length).matchAll(/([a-z_]+)|\[(\d+)\]/g)) {
    if (typeof value !== "object" || value === null) return "";
    const key = index ?? (name ?? "").replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    value = (value as Json)[key];
  }
  return clipped(described(value), VALUE_WIDTH);
}

function described(value: unknown): string {
  if (value === undefined) return "";
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return value.map(described).join(",");
  const { first, last, ...rest } = value as Json;
  // A range of ports, as it is written in a rule.
  if (typeof first === "number" && Object.keys(rest).length === 0)
    return last === undefined || last === first ? `${first}` : `${first}-${String(last)}`;
  return Object.entries(value)
    .filter(([, part]) => described(part) !== "")
    .map(
      ([key, part]) =>
        `${key}=${described(part)
          .replace(/^[A-Z]+_/, "")
          .toLowerCase()}`,
    )
    .join(" ");
}
