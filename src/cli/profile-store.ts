import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import type { SandboxSpec } from "../gen/sandgate/v1/policy_pb.js";
import { UsageError } from "./failure.js";
import { parseSpec } from "./spec-file.js";

type Environment = Readonly<Record<string, string | undefined>>;

/** Named specs of this user, one TOML file each: $XDG_CONFIG_HOME/sandgate/profiles, else below ~/.config. */
export interface ProfileStore {
  readonly directory: string;
  /** Names, sorted. */
  list(): readonly string[];
  pathOf(name: string): string;
  /** Throws UsageError when there is none, or it is not readable. */
  read(name: string): string;
  /** Throws UsageError when there is one already and it is not to be replaced. */
  write(name: string, source: string, replace: boolean): void;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const SUFFIX = ".toml";

/** Throws UsageError where the user has no home. */
export function openProfiles(env: Environment): ProfileStore {
  const directory = join(configDirectory(env), "sandgate", "profiles");
  const pathOf = (name: string): string => {
    if (NAME.test(name)) return join(directory, `${name}${SUFFIX}`);
    throw new UsageError(`${name}: a profile's name has letters, digits, ".", "_" and "-", such as web-build`);
  };
  return {
    directory,
    pathOf,
    list() {
      const files = entriesOf(directory).filter((file) => file.endsWith(SUFFIX));
      return files.map((file) => file.slice(0, -SUFFIX.length)).sort();
    },
    read(name) {
      try {
        return readFileSync(pathOf(name), "utf8");
      } catch (error) {
        if (!isErrno(error, "ENOENT")) throw error instanceof UsageError ? error : unreadable(pathOf(name), error);
        const names = this.list();
        const known = names.length === 0 ? "there are none yet" : `there are ${names.join(", ")}`;
        throw new UsageError(`no profile ${name}; ${known}: see "sandgate profile save --help"`);
      }
    },
    write(name, source, replace) {
      const path = pathOf(name);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      if (!replace) {
        try {
          writeFileSync(path, source, { mode: 0o600, flag: "wx" });
        } catch (error) {
          if (!isErrno(error, "EEXIST")) throw unreadable(path, error);
          throw new UsageError(`there is a profile ${name} already; replace it with --force`);
        }
        return;
      }
      // Whoever reads meanwhile sees the old one or the new one.
      const beside = `${path}.${process.pid}.new`;
      try {
        writeFileSync(beside, source, { mode: 0o600, flag: "wx" });
        renameSync(beside, path);
      } catch (error) {
        rmSync(beside, { force: true });
        throw unreadable(path, error);
      }
    },
  };
}

/** The spec of a profile. Throws UsageError with the line of a mistake. */
export function readProfile(store: ProfileStore, name: string): SandboxSpec {
  return parseSpec(store.read(name), store.pathOf(name));
}

function configDirectory(env: Environment): string {
  const given = env.XDG_CONFIG_HOME ?? "";
  if (isAbsolute(given)) return given; // The XDG specification ignores relative ones.
  const home = env.HOME ?? "";
  if (isAbsolute(home)) return join(home, ".config");
  throw new UsageError("profiles are kept below $XDG_CONFIG_HOME or $HOME/.config, and neither is set");
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw unreadable(directory, error);
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

function unreadable(path: string, error: unknown): UsageError {
  return new UsageError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
}
