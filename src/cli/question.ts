import type { MessageInitShape } from "@bufbuild/protobuf";
import type { OsString, TaskInfo } from "../gen/sandgate/v1/common_pb.js";
import {
  type FileCall,
  FileOperation,
  GrantScope,
  type HeldCall,
  type NetworkCall,
  NetworkOperation,
  type SocketAddress,
  type VerdictSchema,
} from "../gen/sandgate/v1/decision_pb.js";
import { ArgumentIntegrity, SignalScope, Transport } from "../gen/sandgate/v1/policy_pb.js";
import { formatDurationMs } from "./duration.js";
import { clipped, printable, quoted } from "./printable.js";

export type Answer = "allow" | "remember" | "deny" | "kill";

const ANSWERS: ReadonlyMap<string, Answer> = new Map([
  ["a", "allow"],
  ["allow", "allow"],
  ["y", "allow"],
  ["yes", "allow"],
  ["r", "remember"],
  ["remember", "remember"],
  ["d", "deny"],
  ["deny", "deny"],
  ["n", "deny"],
  ["no", "deny"],
  ["k", "kill"],
  ["kill", "kill"],
]);

/** Undefined when the line is none of the answers. */
export function parseAnswer(line: string): Answer | undefined {
  return ANSWERS.get(line.trim().toLowerCase());
}

/** What the program wants, in one line that nothing it chose can break out of. */
export function describeCall(call: HeldCall): string {
  const { detail } = call;
  switch (detail.case) {
    case "file":
      return `${fileVerb(detail.value)} ${quotedOs(detail.value.path)}${detail.value.path2 === undefined ? "" : ` as ${quotedOs(detail.value.path2)}`}`;
    case "exec": {
      const argv = detail.value.argv.map((argument) => quotedOs(argument)).join(" ");
      const by = detail.value.interpreters.map((interpreter) => ` by ${quotedOs(interpreter)}`).join("");
      return `run ${quotedOs(detail.value.program)}${by}${argv === "" ? "" : ` as ${clipped(argv, 400)}`}${detail.value.argvCut ? " …" : ""}`;
    }
    case "network":
      return `${networkVerb(detail.value)} ${describeAddress(detail.value.address)}${describeTransport(detail.value)}`;
    case "http":
      return `request ${printable(detail.value.method)} ${printable(detail.value.host)}${printable(detail.value.path)}`;
    case "clone":
      return `start a process (clone, flags 0x${detail.value.flags.toString(16)})`;
    case "memory":
      return `map ${detail.value.size} bytes of memory, protection ${detail.value.protection}`;
    case undefined:
      return `call ${call.syscall}(${call.args.map((argument) => `0x${argument.toString(16)}`).join(", ")})`;
  }
}

/** `python3 (pid 812)`. */
export function describeTask(task: TaskInfo | undefined): string {
  if (task === undefined) return "a process";
  return `${clipped(printableOs(task.command), 40) || "a process"} (pid ${task.pid})`;
}

/** The lines of a question, without the prompt. */
export function questionLines(call: HeldCall, timeLeftMs: number, behind: number, namesSandbox: boolean): string[] {
  const facts = [
    namesSandbox ? printable(call.task?.sandboxId ?? "") : "",
    call.task?.executable === undefined ? "" : printableOs(call.task.executable),
    call.syscall,
    call.waiting > 1 ? `${call.waiting} equal calls wait` : "",
    `${formatDurationMs(timeLeftMs)} left`,
    behind > 0 ? `${behind} more waiting` : "",
  ].filter((fact) => fact !== "");
  const lines = [`${describeTask(call.task)} wants to ${describeCall(call)}`, `  ${facts.join(" · ")}`];
  if (call.integrity === ArgumentIntegrity.RACY) {
    lines.push("  the program could still change these arguments after your answer");
  }
  return lines;
}

/**
 * Equal for calls that are the same to the person who answers: system call, judged arguments, and the
 * executable that makes it. Undefined when the arguments are not known well enough to be judged the same again.
 */
export function memoryKey(call: HeldCall): string | undefined {
  const executable = osKey(call.task?.executable);
  const { detail } = call;
  switch (detail.case) {
    case "file":
      return JSON.stringify([
        "file",
        call.syscall,
        executable,
        detail.value.operation,
        osKey(detail.value.path),
        osKey(detail.value.path2),
      ]);
    case "exec":
      if (detail.value.argvCut) return undefined;
      return JSON.stringify([
        "exec",
        call.syscall,
        executable,
        osKey(detail.value.program),
        detail.value.interpreters.map(osKey),
        detail.value.argv.map(osKey),
      ]);
    case "network": {
      const { operation, transport, address } = detail.value;
      return JSON.stringify(["network", call.syscall, executable, operation, transport, addressKey(address)]);
    }
    case "http":
    case "clone":
    case "memory":
    case undefined:
      return undefined;
  }
}

/** The verdict for an answer. A call whose arguments can still change is never remembered by the service. */
export function verdictFor(call: HeldCall, answer: Answer, reason: string): MessageInitShape<typeof VerdictSchema> {
  const { holdId } = call;
  switch (answer) {
    case "allow":
      return { holdId, action: { case: "allow", value: {} }, reason };
    case "remember": {
      const allow = { case: "allow", value: {} } as const;
      if (call.integrity === ArgumentIntegrity.RACY || call.integrity === ArgumentIntegrity.UNSPECIFIED) {
        return { holdId, action: allow, reason };
      }
      const remember = { scope: GrantScope.EXECUTABLE, match: { case: "sameCall", value: {} } } as const;
      return { holdId, action: allow, remember, reason };
    }
    case "deny":
      return { holdId, action: { case: "deny", value: {} }, reason };
    case "kill":
      return { holdId, action: { case: "kill", value: { scope: SignalScope.SANDBOX } }, reason };
  }
}

/** `127.0.0.1:80`, `[::1]:80`, a socket path, or `@name` for an abstract one. */
export function describeAddress(address: SocketAddress | undefined): string {
  switch (address?.address.case) {
    case "ip": {
      const host = formatIp(address.address.value);
      return host.includes(":") ? `[${host}]:${address.port}` : `${host}:${address.port}`;
    }
    case "unixPath": {
      const path = address.address.value;
      return path[0] === 0 ? `@${printable(path.subarray(1))}` : quoted(path);
    }
    case undefined:
      return "no address";
  }
}

/** Dotted, or hexadecimal groups with the longest run of zeros folded, as RFC 5952 has it. */
export function formatIp(ip: Uint8Array): string {
  if (ip.length === 4) return ip.join(".");
  if (ip.length !== 16) return printable(ip);
  const groups = Array.from({ length: 8 }, (_, index) => ((ip[index * 2] ?? 0) << 8) | (ip[index * 2 + 1] ?? 0));
  let best = { start: 0, length: 0 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  if (best.length < 2) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** An OsString made safe to show. */
export function printableOs(text: OsString | undefined): string {
  if (text === undefined) return "";
  return printable(text.raw.length > 0 ? text.raw : text.text);
}

function quotedOs(text: OsString | undefined): string {
  if (text === undefined) return "''";
  return quoted(text.raw.length > 0 ? text.raw : text.text);
}

function osKey(text: OsString | undefined): string {
  if (text === undefined) return "";
  return text.raw.length > 0 ? `raw:${Buffer.from(text.raw).toString("hex")}` : `text:${text.text}`;
}

function addressKey(address: SocketAddress | undefined): string {
  const value = address?.address.value;
  return `${address?.address.case ?? "none"}:${value === undefined ? "" : Buffer.from(value).toString("hex")}:${address?.port ?? 0}`;
}

/** Enums are open on the wire: a value this build does not know gets the words of the unspecified one. */
const FILE_VERBS: Readonly<Record<FileOperation, string>> = {
  [FileOperation.UNSPECIFIED]: "use the file",
  [FileOperation.READ]: "open for reading",
  [FileOperation.WRITE]: "open for writing",
  [FileOperation.CREATE]: "create",
  [FileOperation.REMOVE]: "remove",
  [FileOperation.RENAME]: "rename",
  [FileOperation.LINK]: "link",
  [FileOperation.METADATA]: "change the metadata of",
  [FileOperation.STAT]: "look at",
};

const NETWORK_VERBS: Readonly<Record<NetworkOperation, string>> = {
  [NetworkOperation.UNSPECIFIED]: "use the network:",
  [NetworkOperation.CONNECT]: "connect to",
  [NetworkOperation.SEND]: "send to",
  [NetworkOperation.BIND]: "bind",
  [NetworkOperation.LISTEN]: "listen on",
  [NetworkOperation.SOCKET]: "make a socket for",
};

function fileVerb({ operation, exists }: FileCall): string {
  if (operation === FileOperation.WRITE && !exists) return "create and write";
  return FILE_VERBS[operation] ?? FILE_VERBS[FileOperation.UNSPECIFIED];
}

function networkVerb({ operation }: NetworkCall): string {
  return NETWORK_VERBS[operation] ?? NETWORK_VERBS[NetworkOperation.UNSPECIFIED];
}

function describeTransport({ transport }: NetworkCall): string {
  if (transport === Transport.TCP) return " over TCP";
  if (transport === Transport.UDP) return " over UDP";
  return transport === Transport.ICMP ? " over ICMP" : "";
}
