import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

type Layer = "base" | "gen" | "native" | "engine" | "sandbox" | "service" | "client" | "cli";

/** What each layer may import besides itself, from ARCHITECTURE.md. */
const below: Readonly<Record<Layer, readonly Layer[]>> = {
  base: [],
  gen: [],
  native: ["base"],
  engine: ["base", "native"],
  sandbox: ["base", "native", "engine"],
  service: ["base", "native", "engine", "sandbox", "gen"],
  client: ["base", "gen"],
  cli: ["base", "gen", "client"],
};

/** The one module through which the command embeds a service. */
const embedding = "service/main.ts";

/** Packages that only some layers may use. Anything else but Node's own modules is free from `native` up. */
const packages: Readonly<Record<string, readonly Layer[]>> = {
  koffi: ["native"],
  "@grpc/grpc-js": ["service", "client"],
  "@grpc/reflection": ["service"],
  "@bufbuild/protobuf": ["gen", "service", "client", "cli"],
  commander: ["cli"],
  "@opentelemetry/api": ["service"],
  "prom-client": ["service"],
};

const importPattern =
  /(?:^|\n)\s*(?:import|export)\s[^;"']*?from\s*["']([^"']+)["']|(?:\bimport\(|(?:^|\n)\s*import\s)\s*["']([^"']+)["']/g;

function importsOf(source: string): string[] {
  return [...source.matchAll(importPattern)].map(([, named, bare]) => named ?? bare ?? "");
}

function layerOf(path: string): Layer {
  const [layer = ""] = path.split("/");
  assert.ok(layer in below, `${path} is in no layer`);
  return layer as Layer;
}

/** What is wrong with one import, or undefined. `file` is relative to src. */
function violation(file: string, specifier: string): string | undefined {
  const layer = layerOf(file);
  if (specifier.startsWith(".")) {
    const target = join(dirname(file), specifier).replace(/\.js$/, ".ts");
    const targetLayer = layerOf(target);
    if (targetLayer === layer || below[layer].includes(targetLayer)) return undefined;
    if (layer === "cli" && target === embedding) return undefined;
    return `${file} (${layer}) imports ${target} (${targetLayer})`;
  }
  if (specifier.startsWith("node:")) return undefined;
  if (layer === "base") return `${file} (base) imports ${specifier}: base imports Node alone`;
  const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
  const allowed = packages[name];
  return allowed === undefined || allowed.includes(layer) ? undefined : `${file} (${layer}) imports ${name}`;
}

describe("layers of the source", () => {
  const root = join(import.meta.dirname, "../../src");
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));

  it("import downwards only, and keep each package where it belongs", () => {
    const found = files.flatMap((file) =>
      importsOf(readFileSync(join(root, file), "utf8")).flatMap(
        (specifier) => violation(relative("", file), specifier) ?? [],
      ),
    );
    assert.ok(files.length > 20, "the source was not found");
    assert.deepEqual(found, []);
  });

  it("notices an upward import in any form", () => {
    const source = [
      'import type { Registry } from "../sandbox/registry.js";',
      'import {\n  a,\n  b,\n} from "../service/bridge.js";',
      'export * from "../cli/main.js";',
      'import "../client/client.js";',
      'const later = await import("../sandbox/model.js");',
      'import { readFileSync } from "node:fs";',
      'import { type Tracee } from "../native/task.js";',
    ].join("\n");
    const found = importsOf(source).flatMap((specifier) => violation("engine/loop.ts", specifier) ?? []);
    assert.equal(importsOf(source).length, 7);
    assert.equal(found.length, 5);
    assert.ok(violation("engine/loop.ts", "koffi"));
    assert.equal(violation("native/library.ts", "koffi"), undefined);
    assert.ok(violation("base/errors.ts", "pino"));
    assert.ok(violation("cli/run.ts", "../service/server.js"));
    assert.equal(violation("cli/run.ts", "../service/main.js"), undefined);
  });
});
