/** Files of Unix sockets, as rules and the kernel name them. */
import { statSync } from "node:fs";
import { basename, dirname, join } from "node:path/posix";
import type { NetworkRule, SandboxSpec } from "../model.js";
import type { SocketIdentity } from "../policy/unix.js";
import type { View } from "../policy/view.js";

/** The rule with its path as the kernel will name it: links followed as far as it exists. */
export function canonicalUnixRule(rule: NetworkRule, view: View): NetworkRule {
  return rule.host.startsWith("/") ? { ...rule, host: insidePath(rule.host, view) } : rule;
}

function insidePath(path: string, view: View): string {
  const parent = dirname(path);
  return view.resolve(path)?.inside ?? (parent === path ? path : join(insidePath(parent, view), basename(path)));
}

/** The service's own sockets and denied ones that exist: whatever name leads to one of them, it is that one. */
export function refusedSockets(spec: SandboxSpec, own: readonly string[], view: View): SocketIdentity[] {
  const denied = spec.network.deny
    .filter(({ transport, host }) => transport === "unix" && host.startsWith("/"))
    .map(({ host }) => view.resolve(host)?.host);
  return [...own, ...denied].flatMap((path) => {
    const status = path === undefined ? undefined : statSync(path, { bigint: true, throwIfNoEntry: false });
    return status?.isSocket() === true ? [{ device: status.dev, inode: status.ino }] : [];
  });
}
