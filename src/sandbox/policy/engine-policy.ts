import type { HoldTrigger, NetworkPolicy, Rule } from "../model.js";
import type { SocketIdentity } from "./unix.js";

/** What the engine thread must know of one sandbox's policy. Crosses to it as a structured clone. */
export interface EnginePolicy {
  /** In order; names of calls completed by those that do the same. A last one may be ours, see `BASELINE_RULE`. */
  readonly rules: readonly Rule[];
  /** Names of calls completed by those that do the same. */
  readonly triggers: readonly HoldTrigger[];
  /** Hosts in canonical form. */
  readonly network: NetworkPolicy;
  /** Its filter has a listener. */
  readonly hasListener: boolean;
  /** Unix sockets of the service itself and of denied places: refused by whatever name. */
  readonly refusedSockets: readonly SocketIdentity[];
  /** Abstract names reach only this sandbox's own sockets, by the kernel. */
  readonly scopesAbstract: boolean;
  /** The keeper may write where the program may not: for a verdict, or because the engine refuses what is denied. */
  readonly keeperWritesMore: boolean;
  /** execve and execveat are notified, the launch's own included. */
  readonly holdExec: boolean;
  /** What the kernel makes of an execve is compared with what was judged. */
  readonly verifyExec: boolean;
  /** Resolved trees in which the program can exchange one file for another. Empty unless execs are held. */
  readonly exchangeableTrees: readonly string[];
  /** A trigger or rule looks at connects. */
  readonly holdConnect: boolean;
  readonly holdOpen: "none" | "writes" | "all";
  /** Other calls that are notified, judged by their registers. */
  readonly holdSyscalls: readonly string[];
  /** connect is notified: for a trigger, or because rules name hosts. */
  readonly mediateConnect: boolean;
  /** What the program itself may read and write, resolved: the keeper's rights are wider. Empty unless opens are held. */
  readonly readableTrees: readonly string[];
  readonly writableTrees: readonly string[];
  /** Calls on paths are notified for what is granted and the kernel does not know of: see handlers/path-act.ts. */
  readonly servesPaths: boolean;
  /** Trees of which the kernel knows all that is granted: calls on paths that begin so are not looked at further. */
  readonly kernelTrees: readonly string[];
  /** Numbers of calls that are notified only so that a restore can inject them, to the errno for anyone else. */
  readonly injectable: ReadonlyMap<number, number>;
  readonly maxHeld: number;
  readonly maxHoldMs: number;
  readonly recordAutomatic: boolean;
}

/** Name of the rule that lets a program write to `/dev/null` and its like without a question. */
export const BASELINE_RULE = "baseline";
