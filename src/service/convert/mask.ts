import type { DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { invalidField } from "../../base/errors.js";
import type { Writer } from "./writer.js";

/** Fields to keep, by number: all of one, or some of its own. */
export type Mask = ReadonlyMap<number, Mask | "all">;

type MutableMask = Map<number, MutableMask | "all">;

const maxPaths = 256;

/** Undefined when everything is wanted. Throws `invalid_argument` naming the path that `schema` does not have. */
export function compileMask(schema: DescMessage, paths: readonly string[], field: string): Mask | undefined {
  if (paths.length > maxPaths) throw invalidField(field, `at most ${maxPaths} paths`);
  if (paths.length === 0 || paths.includes("*")) return undefined;
  const mask: MutableMask = new Map();
  for (const path of paths) addPath(mask, schema, path, field);
  return mask;
}

function addPath(mask: MutableMask, schema: DescMessage, path: string, field: string): void {
  let at = mask;
  let inside = schema;
  const names = path.split(".");
  for (const [index, name] of names.entries()) {
    const found = inside.fields.find((each) => each.name === name);
    if (found === undefined) throw invalidField(field, `"${path}": ${inside.name} has no field "${name}"`);
    if (index === names.length - 1) {
      at.set(found.number, "all");
      return;
    }
    if (found.fieldKind !== "message") throw invalidField(field, `"${path}": nothing below "${name}" can be chosen`);
    const below = at.get(found.number) ?? new Map();
    if (below === "all") return; // another path has it whole
    at.set(found.number, below);
    at = below;
    inside = found.message;
  }
}

/** Names a mask: equal for equal ones. */
export function maskKey(mask: Mask): string {
  return [...mask]
    .sort(([one], [other]) => one - other)
    .map(([number, below]) => (below === "all" ? `${number}` : `${number}(${maskKey(below)})`))
    .join(",");
}

/**
 * Writes what a mask keeps of an encoded message, without decoding it. A message on the way to a field that is not
 * there stays, empty, so that it can be seen which member of a oneof was set.
 */
export function writeMasked(writer: Writer, mask: Mask, fields: Uint8Array): void {
  const reader = new BinaryReader(fields);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [number, type] = reader.tag();
    const below = mask.get(number);
    if (below !== undefined && below !== "all" && type === WireType.LengthDelimited) {
      const inner = reader.bytes();
      writer.message(number, () => writeMasked(writer, below, inner));
      continue;
    }
    reader.skip(type, number);
    if (below !== undefined) writer.raw(fields.subarray(start, reader.pos));
  }
}
