/**
 * The `sane` baseline: what an ordinary dynamically linked program reads to start, and the installation of the
 * program that is started. No home directory, no /tmp, and of /proc only the machine's size.
 */
import { accessSync, closeSync, constants, existsSync, openSync, readdirSync, readSync } from "node:fs";
import { homedir } from "node:os";
import { basename, delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { DEVICE_FILE, FS, READ_TREE } from "../../engine/landlock/rights.js";
import { isBeneath } from "./trees.js";
import type { View } from "./view.js";

/** One Landlock rule: a tree or a file, and the rights beneath it. */
export interface TreeRule {
  readonly path: string;
  readonly access: number;
  /** A path that is missing grants nothing and is no error. */
  readonly optional: boolean;
  /** What it grants to read is for execve alone. */
  readonly executeOnly?: boolean;
}

/** Where programs and their libraries are. */
export const PROGRAM_TREES: readonly string[] = [
  "/usr",
  "/bin",
  "/sbin",
  "/lib",
  "/lib32",
  "/lib64",
  "/libx32",
  "/nix/store",
  "/gnu/store",
  "/run/current-system/sw",
];

const READABLE_PARTS = [
  // loader
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/ld.so.preload",
  "/etc/alternatives",
  // names of users, hosts and services
  "/etc/nsswitch.conf",
  "/etc/passwd",
  "/etc/group",
  "/etc/hosts",
  "/etc/host.conf",
  "/etc/hostname",
  "/etc/resolv.conf",
  "/etc/gai.conf",
  "/etc/networks",
  "/etc/services",
  "/etc/protocols",
  "/etc/rpc",
  // time zone, locale, terminal
  "/etc/localtime",
  "/etc/timezone",
  "/etc/locale.alias",
  "/etc/locale.conf",
  "/etc/terminfo",
  "/etc/inputrc",
  // certificates, without the private keys beside them
  "/etc/ssl/certs",
  "/etc/ssl/cert.pem",
  "/etc/ssl/openssl.cnf",
  "/etc/pki/tls/certs",
  "/etc/pki/tls/cert.pem",
  "/etc/pki/tls/openssl.cnf",
  "/etc/pki/ca-trust/extracted",
  "/etc/ca-certificates",
  "/etc/ca-certificates.conf",
  "/etc/crypto-policies",
  // what programs and shells expect
  "/etc/os-release",
  "/etc/lsb-release",
  "/etc/debian_version",
  "/etc/mime.types",
  "/etc/magic",
  "/etc/fonts",
  "/etc/perl",
  "/etc/profile",
  "/etc/profile.d",
  "/etc/bash.bashrc",
  "/etc/shells",
  "/etc/gitconfig",
  "/etc/npmrc",
  // the machine's size: runtimes choose their threads and heaps by it
  "/sys/devices/system/cpu/online",
  "/sys/devices/system/cpu/possible",
  "/proc/cpuinfo",
  "/proc/meminfo",
  "/proc/stat",
  "/proc/sys/vm/overcommit_memory",
];

/** Directories of /etc with a version in their name. */
const VERSIONED_PARTS = /^(java|python|php|ruby)/;

const WRITABLE_DEVICES = ["/dev/null", "/dev/zero", "/dev/full"];
const READABLE_DEVICES = ["/dev/random", "/dev/urandom"];
const TERMINAL_DEVICE = "/dev/tty";

/** What a program may write that changes nothing. */
export const HARMLESS_FILES: readonly string[] = [...WRITABLE_DEVICES, TERMINAL_DEVICE];

/** Read once per service: /etc does not gain languages while it runs. */
export function baselineTrees(): readonly TreeRule[] {
  const optional = (access: number) => (path: string) => ({ path, access, optional: true });
  return [
    ...[...PROGRAM_TREES, ...READABLE_PARTS, ...versionedParts()].map(optional(READ_TREE)),
    ...WRITABLE_DEVICES.map(optional(DEVICE_FILE | FS.ioctlDev)),
    ...READABLE_DEVICES.map(optional(FS.readFile)),
    optional(DEVICE_FILE | FS.ioctlDev)(TERMINAL_DEVICE),
  ];
}

function versionedParts(): string[] {
  try {
    return readdirSync("/etc")
      .filter((name) => VERSIONED_PARTS.test(name))
      .map((name) => join("/etc", name));
  } catch {
    return []; // not even root may list it: then nothing of it is needed
  }
}

/** What to look a program up with. */
export interface ProgramLookup {
  readonly program: string;
  readonly cwd: string;
  readonly searchPath: string;
}

/**
 * The trees that the program's own installation consists of, beyond the baseline: its file and, when that lies in
 * `<prefix>/bin`, the directories beside it. For a script, those of its interpreter too. Empty when the program is
 * not found: the launch says so.
 */
export function programTrees(lookup: ProgramLookup, view: View): readonly TreeRule[] {
  const found = findProgram(lookup, view);
  return found === undefined ? [] : installationOf(found, INTERPRETER_DEPTH, view);
}

/** Interpreters of interpreters, as in execve(2). */
const INTERPRETER_DEPTH = 4;
const INSTALLATION_PARTS = ["bin", "lib", "lib64", "libexec", "share", "pyvenv.cfg"];

function findProgram({ program, cwd, searchPath }: ProgramLookup, view: View): string | undefined {
  if (program.includes("/")) return resolve(cwd, program);
  return searchPath
    .split(delimiter)
    .map((directory) => resolve(cwd, directory, program))
    .find((path) => isExecutable(view.isOwn ? view.resolve(path)?.host : path));
}

function isExecutable(path: string | undefined): boolean {
  if (path === undefined || !existsSync(path)) return false; // without an exception, which costs more than all else here
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function installationOf(path: string, depth: number, view: View): TreeRule[] {
  const { inside: file, host } = view.resolve(path) ?? {};
  if (file === undefined || host === undefined || depth === 0) return [];
  // A link may name an installation of its own, as a Python environment's does.
  const rules = [path, file].filter(isOutside).flatMap(besides);
  if (isOutside(file)) rules.push({ path: file, access: FS.execute | FS.readFile, optional: true });
  const interpreter = rules.length === 0 ? undefined : interpreterOf(host);
  return interpreter === undefined ? rules : [...rules, ...installationOf(interpreter, depth - 1, view)];
}

function isOutside(path: string): boolean {
  return !isBeneath(Buffer.from(path), PROGRAM_TREES);
}

function besides(path: string): TreeRule[] {
  const directory = dirname(path);
  const prefix = dirname(directory);
  if (basename(directory) !== "bin" || !mayOpen(prefix)) return [];
  return INSTALLATION_PARTS.map((part) => ({ path: join(prefix, part), access: READ_TREE, optional: true }));
}

/** At least two components deep, and nobody's home. */
function mayOpen(prefix: string): boolean {
  const parts = prefix.split("/").filter((part) => part !== "");
  return parts.length >= 2 && dirname(prefix) !== "/home" && prefix !== homedir();
}

const INTERPRETER_LINE_BYTES = 256;

function interpreterOf(file: string): string | undefined {
  const head = Buffer.alloc(INTERPRETER_LINE_BYTES);
  let read: number;
  try {
    const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      read = readSync(fd, head);
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
  const interpreter = /^#![ \t]*([^ \t\n\0]+)/.exec(head.toString("latin1", 0, read))?.[1];
  return interpreter !== undefined && isAbsolute(interpreter) ? interpreter : undefined;
}
