import { promises as dns } from "node:dns";
import { readFileSync } from "node:fs";
import ipaddr from "ipaddr.js";
import { parseHostName } from "../../base/host-names.js";
import { canonicalAddress } from "../policy/network.js";

/** What a name stands for: addresses in canonical form, of 4 or 16 bytes. */
export interface Resolution {
  readonly addresses: readonly Uint8Array[];
  /** How long its owner says that it holds. */
  readonly ttlMs: number;
}

/** Looks names up for the service, as the host does: its hosts file first, then its name servers. */
export interface NameResolver {
  /** Rejects with an Error that says why there is no address; `NameMissing` when there is none to be had. */
  resolve(name: string): Promise<Resolution>;
}

/** The name servers answered, and there is no usable address. Others failures may pass. */
export class NameMissing extends Error {
  override readonly name = "NameMissing";
}

export interface ResolverOptions {
  /** Instead of the host's own. */
  readonly hostsFile?: string;
  /** `ADDRESS:PORT` of name servers instead of the host's own. */
  readonly servers?: readonly string[];
}

const HOSTS_FILE = "/etc/hosts";
/** Entries of the hosts file have no time to live; the file is small. */
const HOSTS_TTL_MS = 5000;
const QUERY_TIMEOUT_MS = 2000;
const QUERY_TRIES = 3;

export function createNameResolver({ hostsFile = HOSTS_FILE, servers }: ResolverOptions = {}): NameResolver {
  function fromHosts(name: string): Uint8Array[] {
    let text: string;
    try {
      text = readFileSync(hostsFile, "latin1");
    } catch {
      return []; // no hosts file names nobody
    }
    return text.split("\n").flatMap((line) => {
      const [address = "", ...names] = (line.split("#")[0] ?? "").trim().split(/\s+/);
      if (!ipaddr.isValid(address) || !names.some((each) => parseHostName(each) === name)) return [];
      return [bytesOf(address)];
    });
  }

  return {
    async resolve(name) {
      const listed = fromHosts(name);
      if (listed.length > 0) return { addresses: listed, ttlMs: HOSTS_TTL_MS };
      // Made for each: it reads the host's resolv.conf, which may have changed.
      const resolver = new dns.Resolver({ timeout: QUERY_TIMEOUT_MS, tries: QUERY_TRIES });
      if (servers !== undefined) resolver.setServers(servers);
      const [v4, v6] = await Promise.allSettled([
        resolver.resolve4(name, { ttl: true }),
        resolver.resolve6(name, { ttl: true }),
      ]);
      const records = [...(v4.status === "fulfilled" ? v4.value : []), ...(v6.status === "fulfilled" ? v6.value : [])];
      const usable = records.filter(({ address }) => !isLocal(bytesOf(address)));
      if (usable.length > 0) {
        return {
          addresses: usable.map(({ address }) => bytesOf(address)),
          ttlMs: Math.min(...usable.map(({ ttl }) => ttl)) * 1000,
        };
      }
      if (records.length > 0)
        throw new NameMissing("its name servers give only addresses of this machine and its link");
      throw failureOf([v4, v6]);
    },
  };
}

const MISSING_CODES = ["ENOTFOUND", "ENODATA", "NXDOMAIN"];

function failureOf(results: readonly PromiseSettledResult<unknown>[]): Error {
  const codes = results.map((result) =>
    result.status === "rejected" ? String((result.reason as NodeJS.ErrnoException).code ?? result.reason) : "ENODATA",
  );
  const failed = codes.find((code) => !MISSING_CODES.includes(code));
  if (failed !== undefined) return new Error(`its name servers did not answer (${failed})`);
  return new NameMissing(`there is no address of that name (${codes.includes("ENOTFOUND") ? "ENOTFOUND" : "ENODATA"})`);
}

/**
 * Loopback, link-local, multicast and unspecified addresses. Whoever owns a name chooses what it stands for, and a
 * sandbox that may reach the name is not meant to reach what listens on this machine, or its cloud's metadata.
 */
function isLocal(address: Uint8Array): boolean {
  const range = ipaddr.fromByteArray([...address]).range();
  return ["loopback", "linkLocal", "multicast", "unspecified", "broadcast"].includes(range);
}

function bytesOf(address: string): Uint8Array {
  return Uint8Array.from(Array.from(canonicalAddress(ipaddr.parse(address).toByteArray())));
}
