/** Shapes of policy, and what stands outside of each for an attack to reach. */
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Transport } from "../../src/client/client.js";
import { guestDirectory } from "../support/guests.js";
import type { Spec } from "../support/service.js";

export const SHAPES = [
  "no network",
  "network rules",
  "a deny inside a grant",
  "all but one thing",
  "another root",
] as const;
export type Shape = (typeof SHAPES)[number];

/** What one run of attacks aims at. Files are its own, the rest is shared. */
export interface Targets {
  /** Holds `read`, `write` and `secret`, each with a file `file`. */
  readonly files: string;
  readonly pid: number;
  /** A TCP port that is granted where any is, and one that never is. */
  readonly openPort: string;
  readonly port: string;
  /** Path of a Unix socket of the host, and of the service's own. */
  readonly socket: string;
  readonly endpoint: string;
  /** Name of an abstract socket of the host, without its '@'. */
  readonly abstract: string;
}

/** Content of the secret file: of the same length as the others', so that nothing but the content tells them apart. */
export const SECRET = "secret!";

export function makeFiles(directory: string): string {
  for (const name of ["read", "write", "secret", "secret/empty"]) {
    mkdirSync(join(directory, name), { recursive: true });
    chmodSync(join(directory, name), 0o777);
  }
  chmodSync(directory, 0o777);
  for (const name of ["read", "write", "secret"]) {
    const path = join(directory, name, "file");
    writeFileSync(path, name === "secret" ? SECRET : "content");
    chmodSync(path, 0o666);
  }
  for (const name of ["doomed", "moving", "other"]) writeFileSync(join(directory, "secret", name), SECRET);
  mkdirSync(join(directory, "root"));
  for (const name of ["bin", "lib", "lib64"]) symlinkSync(`usr/${name}`, join(directory, "root", name));
  // A name that is no UTF-8.
  writeFileSync(Buffer.concat([Buffer.from(join(directory, "secret", "f")), Buffer.from([0xff])]), SECRET);
  copyFileSync("/bin/true", join(directory, "secret", "program"));
  return directory;
}

export function specOf(shape: Shape, { files, openPort, port }: Targets): Spec {
  const at = (name: string): string => join(files, name);
  const loopback = (number: string) =>
    ["127.0.0.1", "::1"].map((host) => ({ transport: Transport.TCP, host, ports: [{ first: Number(number) }] }));
  switch (shape) {
    case "no network":
      return { filesystem: { readable: [guestDirectory, at("read")], writable: [at("write")] } };
    case "network rules":
      return {
        filesystem: { readable: [guestDirectory, at("read")], writable: [at("write")] },
        network: {
          allow: [
            ...loopback(openPort).slice(0, 1),
            { transport: Transport.UDP, host: "127.0.0.1", ports: [{ first: Number(openPort) }] },
            { transport: Transport.UNIX, host: at("write") },
          ],
        },
      };
    case "a deny inside a grant":
      return { filesystem: { readable: [guestDirectory], writable: [files], denied: [at("secret")] } };
    case "all but one thing":
      return {
        filesystem: { readable: ["/"], writable: [files], denied: [at("secret")] },
        network: {
          allow: [{ transport: Transport.TCP }, { transport: Transport.UDP }, { transport: Transport.UNIX }],
          deny: loopback(port),
        },
      };
    case "another root": {
      const shown = (path: string, readOnly = true) => ({ inside: path, host: path, readOnly });
      return {
        filesystem: {
          root: at("root"),
          mappings: [shown("/usr"), shown(guestDirectory), shown(at("read")), shown(at("write"), false)],
        },
      };
    }
  }
}
