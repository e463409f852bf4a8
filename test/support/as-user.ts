/**
 * Runs the suite as an ordinary user: copies what is built to a place which that user can read, and starts
 * mocha there. Only root can do that. Ends with mocha's status.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const nobody = 65534;
if (process.geteuid?.() !== 0) {
  console.error("only root can become another user");
  process.exit(2);
}

const root = join(import.meta.dirname, "../../..");
const copy = mkdtempSync(join(tmpdir(), "sandgate-user-"));
try {
  // Caches hold links to what only their maker can reach; links in node_modules/.bin are relative and must stay so.
  const left = new Set([".git", "node_modules/.cache"].map((name) => join(root, name)));
  cpSync(root, copy, { recursive: true, verbatimSymlinks: true, filter: (source) => !left.has(source) });
  chmodSync(copy, 0o755);
  const home = join(copy, "home");
  mkdirSync(home);
  execFileSync("chown", ["-R", `${nobody}:${nobody}`, copy]);
  const { XDG_RUNTIME_DIR: _, ...inherited } = process.env;
  const mocha = spawn(
    process.execPath,
    ["node_modules/.bin/mocha", "dist/test/**/*.test.js", ...process.argv.slice(2)],
    {
      cwd: copy,
      uid: nobody,
      gid: nobody,
      stdio: "inherit",
      env: { ...inherited, HOME: home, USER: "nobody", LOGNAME: "nobody" },
    },
  );
  const [code] = (await once(mocha, "exit")) as [number | null];
  process.exitCode = code ?? 1;
} finally {
  rmSync(copy, { recursive: true });
}
