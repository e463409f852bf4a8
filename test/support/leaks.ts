/**
 * Root hooks of the whole suite: what the tests left behind fails it. The temporary directory is the suite's own, so
 * that other runs on the same machine are not looked at.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RootHookObject } from "mocha";
import { nativeFiles } from "../../src/native/library.js";
import { guestDirectory } from "./guests.js";
import { allProcesses, eventually, type ProcessStatus } from "./processes.js";

/** Descriptors that Node and libraries open once and keep. */
const KEPT_DESCRIPTORS = 12;
const SETTLE_MS = 5000;

const outer = tmpdir();
const own = mkdtempSync(join(outer, "sandgate-suite-"));
process.env.TMPDIR = own;

function descriptors(): string[] {
  return readdirSync("/proc/self/fd").map((fd) => {
    try {
      return `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`;
    } catch {
      return `${fd} of this listing`;
    }
  });
}

function mounts(): string[] {
  return readFileSync("/proc/self/mounts", "utf8").split("\n");
}

function executableOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return "";
  }
}

/** Children, and wardens and guests of this build whose parents are gone. */
function leftovers(): ProcessStatus[] {
  return allProcesses().filter(({ pid, parent }) => {
    if (parent === process.pid) return true;
    const executable = executableOf(pid);
    return parent === 1 && (executable === nativeFiles.warden || executable.startsWith(guestDirectory));
  });
}

let fdsBefore: string[] = [];
let mountsBefore: string[] = [];
let processesBefore: ReadonlySet<number> = new Set();

export const mochaHooks: RootHookObject = {
  beforeAll() {
    fdsBefore = descriptors();
    mountsBefore = mounts();
    processesBefore = new Set(leftovers().map(({ pid }) => pid));
  },

  async afterAll() {
    const left = (): ProcessStatus[] => leftovers().filter(({ pid }) => !processesBefore.has(pid));
    await eventually("every process of the tests ended", () => left().length === 0, SETTLE_MS).catch(() => undefined);
    assert.deepEqual(left(), [], "processes were left behind");
    assert.deepEqual(
      mounts().filter((mount) => !mountsBefore.includes(mount)),
      [],
      "mounts were left behind",
    );
    const fds = descriptors();
    assert.ok(
      fds.length <= fdsBefore.length + KEPT_DESCRIPTORS,
      `descriptors grew from ${fdsBefore.length} to ${fds.length}:\n${fds.join("\n")}`,
    );
    assert.deepEqual(readdirSync(own), [], "files were left behind in the temporary directory");
    rmdirSync(own);
    process.env.TMPDIR = outer;
  },
};
