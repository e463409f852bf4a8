/** Checks of a spec and a process that need no host. Each refusal names the field. */
import { normalize } from "node:path/posix";
import { invalidField, SandboxError } from "../../base/errors.js";
import { parseHostName } from "../../base/host-names.js";
import type { BindRule, CallMatch, NetworkRule, PortRange, ProcessSpec, SandboxSpec } from "../model.js";
import type { Mediation } from "./mediation.js";
import { isAnyHost, parseBlock } from "./network.js";
import { isProtection, PROTECTIONS } from "./protections.js";
import { isUnixHost } from "./unix.js";

const PATH_MAX = 4096;
const MAX_TREES = 1024;
/** Of all trees together; a plan holds them twice. */
const MAX_TREES_BYTES = 1024 * 1024;
const MAX_MAPPINGS = 256;
const MAX_TMP_BYTES = 1n << 50n;
const MAX_NETWORK_RULES = 1024;
const MAX_RULES = 1024;
const MAX_PATTERNS = 1024;
const NO_ID = 0xffffffff;
const ALL_PORTS = 65535;
/** As in execve(2): one string, and all of them. */
const MAX_STRING_BYTES = 131072;
const MAX_STRINGS_BYTES = 1024 * 1024;
const MAX_ERRNO = 4095;
const MAX_SIGNAL = 64;

/** Throws `invalid_argument` (INVALID_FIELD or POLICY_CONTRADICTION). */
export function validateSpec(spec: SandboxSpec, mediation: Mediation): void {
  if (spec.runAs !== undefined) {
    // The kernel takes the highest number to mean "none".
    for (const name of ["uid", "gid"] as const) {
      if (spec.runAs[name] >= NO_ID) throw invalidField(`spec.run_as.${name}`, `must be below ${NO_ID}`);
    }
  }
  validateFilesystem(spec);
  validateNetwork(spec);
  validateRules(spec);
  validateHolds(spec);
  validateProtections(spec);
  refuseContradictions(spec, mediation);
}

/** Throws `invalid_argument`. */
export function validateProcess(process: ProcessSpec): void {
  if (process.argv.length === 0) throw invalidField("process.argv", "must name a program");
  if (process.argv[0] === "") throw invalidField("process.argv[0]", "must not be empty");
  let total = 0;
  const check = (text: string, field: string) => {
    if (text.includes("\0")) throw invalidField(field, "must not contain a NUL");
    const bytes = Buffer.byteLength(text) + 1;
    if (bytes > MAX_STRING_BYTES) throw invalidField(field, `must be shorter than ${MAX_STRING_BYTES} bytes`);
    total += bytes;
  };
  process.argv.forEach((argument, index) => {
    check(argument, `process.argv[${index}]`);
  });
  for (const [name, value] of process.env) {
    const field = `process.env[${JSON.stringify(name)}]`;
    if (name === "" || name.includes("=")) throw invalidField(field, "a name must not be empty or contain '='");
    check(`${name}=${value}`, field);
  }
  if (total > MAX_STRINGS_BYTES) {
    throw invalidField("process.argv", `with the environment, must be at most ${MAX_STRINGS_BYTES} bytes`);
  }
  if (process.cwd !== "") validatePath(process.cwd, "process.cwd");
}

function validatePath(path: string, field: string): void {
  if (!path.startsWith("/")) throw invalidField(field, `${JSON.stringify(path)} is not absolute`);
  if (path.includes("\0")) throw invalidField(field, "must not contain a NUL");
  if (path.split("/").includes("..")) throw invalidField(field, `${JSON.stringify(path)} must not contain ".."`);
  if (Buffer.byteLength(path) >= PATH_MAX) throw invalidField(field, `must be shorter than ${PATH_MAX} bytes`);
}

function validateFilesystem({ filesystem }: SandboxSpec): void {
  const lists = {
    readable: filesystem.readable,
    writable: filesystem.writable,
    denied: filesystem.denied,
    executable: filesystem.executable,
    grantable_readable: filesystem.grantableReadable,
    grantable_writable: filesystem.grantableWritable,
  };
  for (const [name, paths] of Object.entries(lists)) {
    const field = `spec.filesystem.${name}`;
    atMost(paths, MAX_TREES, field);
    paths.forEach((path, index) => {
      validatePath(path, `${field}[${index}]`);
    });
  }
  const bytes = Object.values(lists)
    .flat()
    .reduce((sum, path) => sum + Buffer.byteLength(path), 0);
  if (bytes > MAX_TREES_BYTES) {
    throw invalidField("spec.filesystem", `its paths are ${bytes} bytes together, ${MAX_TREES_BYTES} are the most`);
  }
  validateView(filesystem);
}

function validateView({ root, mappings, privateTmp }: SandboxSpec["filesystem"]): void {
  if (root !== "") validatePath(root, "spec.filesystem.root");
  atMost(mappings, MAX_MAPPINGS, "spec.filesystem.mappings");
  const taken = new Set<string>();
  mappings.forEach(({ inside, host }, index) => {
    const field = `spec.filesystem.mappings[${index}]`;
    validatePath(inside, `${field}.inside`);
    validatePath(host, `${field}.host`);
    const place = normalize(`${inside}/`);
    if (place === "/")
      throw invalidField(`${field}.inside`, "the root is no place for a mapping; set spec.filesystem.root");
    if (place === "/proc/") throw invalidField(`${field}.inside`, "/proc cannot be replaced; see private_proc");
    if (taken.has(place)) throw invalidField(`${field}.inside`, `${JSON.stringify(inside)} is mapped twice`);
    taken.add(place);
  });
  if (privateTmp !== undefined && privateTmp.sizeBytes > MAX_TMP_BYTES) {
    throw invalidField("spec.filesystem.private_tmp.size_bytes", `must be at most ${MAX_TMP_BYTES}`);
  }
}

function validateNetwork({ network }: SandboxSpec): void {
  validateNetworkRules(network.allow, "spec.network.allow", acceptName);
  validateNetworkRules(network.deny, "spec.network.deny", refuseName);
  validateNetworkRules(network.grantable, "spec.network.grantable", acceptName);
  validateBindRules(network.bind, "spec.network.bind");
}

function validateBindRules(rules: readonly BindRule[], field: string): void {
  atMost(rules, MAX_NETWORK_RULES, field);
  rules.forEach(({ address, ports }, index) => {
    if (!isAnyHost(address) && parseBlock(address) === undefined) {
      throw invalidField(
        `${field}[${index}].address`,
        `${JSON.stringify(address)} is neither an address nor a CIDR block`,
      );
    }
    validatePorts(ports, `${field}[${index}].ports`);
  });
}

/** What is said of a rule's host that is no address. Throws unless it is accepted. */
type HostCheck = (host: string, field: string) => void;

function acceptName(host: string, field: string): void {
  if (host.startsWith("*.") && parseHostName(host.slice(2)) !== undefined) {
    throw new SandboxError(
      "unimplemented",
      `${field}: names below a domain (${JSON.stringify(host)}) are not implemented in this version; list each name`,
      { reason: "NOT_IMPLEMENTED", field },
    );
  }
  if (parseHostName(host) === undefined)
    throw invalidField(field, `${JSON.stringify(host)} is no address, CIDR block or host name`);
}

function refuseName(host: string, field: string): void {
  throw invalidField(
    field,
    `${JSON.stringify(host)} is neither an address nor a CIDR block; names are for what is allowed, since whoever owns a name can give it any address`,
  );
}

function validateNetworkRules(rules: readonly NetworkRule[], field: string, checkHost: HostCheck): void {
  atMost(rules, MAX_NETWORK_RULES, field);
  rules.forEach((rule, index) => {
    const at = `${field}[${index}]`;
    if (!isAnyHost(rule.host)) {
      if (rule.transport === "unix") {
        if (!isUnixHost(rule.host))
          throw invalidField(
            `${at}.host`,
            "a Unix socket is an absolute path or @ and an abstract name; empty means any",
          );
      } else if (parseBlock(rule.host) === undefined) checkHost(rule.host, `${at}.host`);
    }
    if (rule.transport === "unix" && rule.ports.length > 0)
      throw invalidField(`${at}.ports`, "a Unix socket has no port");
    if (rule.transport === "icmp" && rule.ports.length > 0) throw invalidField(`${at}.ports`, "ICMP has no port");
    validatePorts(rule.ports, `${at}.ports`);
  });
}

function validatePorts(ports: readonly PortRange[], field: string): void {
  ports.forEach(({ first, last }, index) => {
    if (first < 1 || last > ALL_PORTS || last < first) {
      throw invalidField(`${field}[${index}]`, `ports are 1 to ${ALL_PORTS}, first before last`);
    }
  });
}

function validateRules({ rules }: SandboxSpec): void {
  atMost(rules, MAX_RULES, "spec.rules");
  const names = new Set<string>();
  rules.forEach(({ name, match, action }, index) => {
    const field = `spec.rules[${index}]`;
    if (name === "") throw invalidField(`${field}.name`, "must not be empty");
    if (names.has(name)) throw invalidField(`${field}.name`, `${JSON.stringify(name)} is already taken`);
    names.add(name);
    validateMatch(match, `${field}.match`);
    if (action.kind === "deny") validateErrno(action.errno, `${field}.deny.error_number`);
    if (action.kind === "kill") validateSignal(action.signal, `${field}.kill.signal`);
  });
}

function validateMatch(match: CallMatch, field: string): void {
  validatePatterns(match.paths, `${field}.paths`);
  validatePatterns(match.executables, `${field}.executables`);
  validatePatterns(match.programs, `${field}.programs`);
  validateNetworkRules(match.destinations, `${field}.destinations`, refuseName);
}

function validatePatterns(patterns: readonly string[], field: string): void {
  atMost(patterns, MAX_PATTERNS, field);
  patterns.forEach((pattern, index) => {
    const at = `${field}[${index}]`;
    if (Buffer.byteLength(pattern) >= PATH_MAX) throw invalidField(at, `must be shorter than ${PATH_MAX} bytes`);
    if (pattern.startsWith("/") || pattern === "**" || pattern.startsWith("**/")) return;
    throw invalidField(at, `${JSON.stringify(pattern)} matches no path: begin it with "/" or "**/"`);
  });
}

function validateErrno(errno: number, field: string): void {
  if (errno < 1 || errno > MAX_ERRNO) throw invalidField(field, `must be 1 to ${MAX_ERRNO}`);
}

function validateSignal(signal: number, field: string): void {
  if (signal < 1 || signal > MAX_SIGNAL) throw invalidField(field, `must be 1 to ${MAX_SIGNAL}`);
}

function validateHolds({ holds }: SandboxSpec): void {
  atMost(holds.triggers, MAX_RULES, "spec.holds.triggers");
  holds.triggers.forEach(({ match }, index) => {
    if (match !== undefined) validateMatch(match, `spec.holds.triggers[${index}].match`);
  });
  if (!(holds.verdictTimeoutMs > 0)) throw invalidField("spec.holds.verdict_timeout", "must be positive");
  if (!(holds.maxHoldMs > 0)) throw invalidField("spec.holds.max_hold", "must be positive");
  if (!(holds.maxHeld > 0)) throw invalidField("spec.holds.max_held", "must be positive");
  if (holds.verdictTimeoutMs > holds.maxHoldMs) {
    throw contradiction(
      "spec.holds.verdict_timeout",
      `${holds.verdictTimeoutMs} ms for a verdict is longer than the ${holds.maxHoldMs} ms that a call may be held`,
    );
  }
  const fallbacks = { on_timeout: holds.onTimeout, "on_no_decider.fallback": holds.onNoDecider.fallback };
  for (const [name, fallback] of Object.entries(fallbacks)) {
    const field = `spec.holds.${name}`;
    if (fallback.kind === "deny") validateErrno(fallback.errno, `${field}.deny.error_number`);
    if (fallback.kind === "kill") validateSignal(fallback.signal, `${field}.kill.signal`);
  }
}

function validateProtections({ protections }: SandboxSpec): void {
  const lists = { may_degrade: protections.mayDegrade, disabled: protections.disabled };
  for (const [list, names] of Object.entries(lists)) {
    names.forEach((name, index) => {
      if (isProtection(name)) return;
      throw invalidField(
        `spec.protections.${list}[${index}]`,
        `${JSON.stringify(name)} is no protection; these are: ${PROTECTIONS.join(", ")}`,
      );
    });
  }
}

function refuseContradictions({ filesystem, network, rules }: SandboxSpec, mediation: Mediation): void {
  const { askOpen, askConnect } = mediation;
  rules.forEach(({ action }, index) => {
    if (action.kind === "allow" || holdsAnything(mediation)) return;
    throw contradiction(`spec.rules[${index}]`, "no trigger and no rule says which calls to look at");
  });
  if (filesystem.grantableReadable.length > 0 && askOpen !== "all") {
    throw contradiction(
      "spec.filesystem.grantable_readable",
      askOpen === "none"
        ? "no trigger holds opens, so no verdict can grant it"
        : "triggers hold only opens for writing",
    );
  }
  if (filesystem.grantableWritable.length > 0 && askOpen === "none") {
    throw contradiction("spec.filesystem.grantable_writable", "no trigger holds opens, so no verdict can grant it");
  }
  if (network.grantable.length > 0 && !askConnect) {
    throw contradiction("spec.network.grantable", "no trigger holds connect, so no verdict can grant it");
  }
  const writable = new Set(filesystem.writable);
  filesystem.grantableWritable.forEach((path, index) => {
    if (writable.has(path)) {
      throw contradiction(
        `spec.filesystem.grantable_writable[${index}]`,
        `${JSON.stringify(path)} is writable without a verdict`,
      );
    }
  });
  network.allow.forEach((rule, index) => {
    if (network.deny.some((denied) => isSameRule(denied, rule))) {
      throw contradiction(`spec.network.allow[${index}]`, "the same destinations are denied");
    }
  });
}

function holdsAnything({ holdOpen, holdExec, mediateConnect, holdSyscalls }: Mediation): boolean {
  return holdOpen !== "none" || holdExec || mediateConnect || holdSyscalls.length > 0;
}

function isSameRule(a: NetworkRule, b: NetworkRule): boolean {
  return a.transport === b.transport && a.host === b.host && JSON.stringify(a.ports) === JSON.stringify(b.ports);
}

function atMost(list: readonly unknown[], max: number, field: string): void {
  if (list.length > max) throw invalidField(field, `has ${list.length} entries, ${max} are the most`);
}

export function contradiction(field: string, message: string): SandboxError {
  return new SandboxError("invalid_argument", `${field}: ${message}`, { reason: "POLICY_CONTRADICTION", field });
}
