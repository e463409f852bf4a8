import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { connectOrEmbed, withConnection } from "./connection.js";
import { UsageError } from "./failure.js";
import { writeJsonLine } from "./output.js";
import { printable } from "./printable.js";
import { openProfiles, type ProfileStore } from "./profile-store.js";
import { parseSpec } from "./spec-file.js";
import { formatTable } from "./style.js";

export interface ListOptions {
  readonly json?: boolean;
}

export interface CheckProfileOptions {
  readonly address?: string | undefined;
  readonly json?: boolean;
}

export interface SaveOptions {
  readonly force?: boolean;
}

/** Every profile, with what it calls itself or what is wrong with it. */
export async function listProfiles(options: ListOptions): Promise<void> {
  const store = openProfiles(process.env);
  const profiles = store.list().map((name) => ({ name, path: store.pathOf(name), ...summaryOf(store, name) }));
  if (options.json === true) {
    for (const profile of profiles) await writeJsonLine(process.stdout, profile);
    return;
  }
  const rows = profiles.map(({ name, description, problem }) => [
    name,
    printable(problem === undefined ? description || "-" : `unusable: ${problem}`),
  ]);
  process.stdout.write(formatTable(["PROFILE", "DESCRIPTION"], rows));
}

function summaryOf(store: ProfileStore, name: string): { description: string; problem?: string } {
  try {
    return { description: parseSpec(store.read(name), store.pathOf(name)).displayName };
  } catch (error) {
    if (error instanceof UsageError) return { description: "", problem: error.message };
    throw error;
  }
}

/** Prints the file as it is. */
export async function showProfile(name: string): Promise<void> {
  process.stdout.write(openProfiles(process.env).read(name));
}

/** Says whether a profile or a file can be used, and on this host: asks a service to check it without starting. */
export async function checkProfile(nameOrFile: string, options: CheckProfileOptions): Promise<void> {
  const { source, path } = sourceOf(nameOrFile);
  const spec = parseSpec(source, path);
  const warnings = await withConnection(connectOrEmbed(options.address), async ({ client }) => {
    const { warnings: found } = await client.sandbox.spawn({
      requestId: randomUUID(),
      spec,
      process: { argv: [PROGRAM] },
      validateOnly: true,
    });
    return found.map(({ message }) => message);
  });
  if (options.json === true) {
    await writeJsonLine(process.stdout, { path, warnings });
    return;
  }
  for (const warning of warnings) process.stdout.write(`${printable(warning)}\n`);
  process.stdout.write(`${path}: can be used here\n`);
}

/** Which program it is does not matter: a spec is checked for any. */
const PROGRAM = "/bin/true";

/** A file when it looks like one, else the name of a profile. */
function sourceOf(nameOrFile: string): { readonly source: string; readonly path: string } {
  const isFile = nameOrFile === "-" || nameOrFile.includes("/") || /\.(toml|json)$/.test(nameOrFile);
  if (isFile) return { source: readSource(nameOrFile), path: nameOrFile };
  const store = openProfiles(process.env);
  return { source: store.read(nameOrFile), path: store.pathOf(nameOrFile) };
}

/** Keeps a spec under a name, if it is one. */
export async function saveProfile(name: string, file: string, options: SaveOptions): Promise<void> {
  const store = openProfiles(process.env);
  const source = readSource(file);
  parseSpec(source, file);
  store.write(name, source, options.force === true);
  process.stdout.write(`${store.pathOf(name)}\n`);
}

function readSource(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
