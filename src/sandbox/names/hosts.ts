import { hostname } from "node:os";
import ipaddr from "ipaddr.js";

/** hosts(5): this machine, and the names with what they stand for. */
export function hostsText(names: ReadonlyMap<string, readonly Uint8Array[]>): string {
  const own = hostname();
  const lines = [`127.0.0.1 localhost ${own}`, "::1 localhost ip6-localhost ip6-loopback"];
  for (const [name, addresses] of names) {
    if (name === "localhost" || name === own) continue;
    for (const address of addresses) lines.push(`${ipaddr.fromByteArray([...address]).toString()} ${name}`);
  }
  return `${lines.join("\n")}\n`;
}
