import type { CallDetail, HeldCall, SocketAddress } from "../model.js";

/**
 * Names what a call asks for: its syscall and judged arguments. Calls with equal keys are "the same call" of
 * a grant. Undefined when the arguments are not known in full, so that such a call equals no other.
 */
export function sameCallKey(call: Pick<HeldCall, "syscall" | "detail" | "args">): string | undefined {
  const detail = detailKey(call.detail, call.args);
  return detail === undefined ? undefined : `${call.syscall}\n${detail}`;
}

/** As `sameCallKey`, made by the same executable in the same sandbox: calls that one answer may serve. */
export function coalescingKey(call: HeldCall): string | undefined {
  const key = sameCallKey(call);
  return key === undefined ? undefined : `${call.integrity}\n${text(call.task.executable)}\n${key}`;
}

/** Fields are joined with their lengths in front, so that no choice of bytes makes two calls look alike. */
function detailKey(detail: CallDetail, args: readonly bigint[]): string | undefined {
  switch (detail.kind) {
    case "file":
      return `file ${detail.operation} ${detail.flags} ${detail.mode} ${text(detail.path)}`;
    case "exec":
      if (detail.argvCut) return undefined;
      return `exec ${[detail.program, ...detail.interpreters].map(text).join(" ")} : ${detail.argv.map(text).join(" ")}`;
    case "network":
      return `network ${detail.operation} ${detail.transport} ${addressKey(detail.address)}`;
    case "raw":
      return `raw ${args.join(" ")}`;
  }
}

function addressKey(address: SocketAddress): string {
  switch (address.kind) {
    case "ip":
      return `ip ${text(address.ip)} ${address.port}`;
    case "unix":
      return `unix ${text(address.path)}`;
    case "unspecified":
      return "unspecified";
  }
}

function text(bytes: Uint8Array): string {
  return `${bytes.length}:${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")}`;
}
