import type { Listener } from "../../engine/loop.js";
import { compileGrant } from "../decisions/grant-match.js";
import type { Grant, HeldCall, NetworkPolicy, Settlement, SocketAddress, Transport } from "../model.js";
import type { EnginePolicy } from "../policy/engine-policy.js";
import { compileMatch, compileNetworkRules } from "../policy/match.js";
import { compileBindRules, type NameTable } from "../policy/network.js";
import type { Keeper } from "../warden/keeper.js";
import type { LaunchId } from "../warden/messages.js";

/** A call as the judge sees it. `task` may be read from /proc only when a rule looks at it. */
export type JudgedCall = Pick<HeldCall, "syscall" | "category" | "detail" | "task" | "args" | "integrity">;

/** What the engine thread knows of one sandbox. */
export interface EngineSandbox {
  readonly launchId: LaunchId;
  readonly sandboxId: string;
  readonly policy: EnginePolicy;
  /** Nobody waits for the news that its program started. */
  readonly startMayWait: boolean;
  readonly judge: Judge;
  readonly network: NetworkJudge;
  /** What the names in its rules stand for now. */
  names: NameTable;
  /** Process ids by pid of each started process. */
  readonly processes: Map<number, string>;
  /** Started processes whose own execve has not come yet. */
  readonly launching: Set<number>;
  /** Until its end: then no process of the sandbox is left, which nobody knows better than the kernel. */
  listener: Listener | undefined;
  /** The warden has let go of the sandbox. */
  released: boolean;
  keeper: Keeper | undefined;
  /** Files that are shown to it and whose content may change, in the order of the plan; owned. */
  readonly shownFiles: number[];
}

/** How a call is settled without asking, or that it must be asked for. */
export type Judgement =
  | {
      readonly kind: "settled";
      readonly settlement: Settlement;
      readonly source: "rule" | "grant";
      readonly sourceName: string;
    }
  | { readonly kind: "static" }
  | { readonly kind: "ask"; readonly rule: string };

export interface Judge {
  /** No rule, grant or trigger looks at any call: all take the static policy. */
  readonly isIdle: boolean;
  /**
   * Refusing rules first, then grants, then other rules, then triggers; a call that no trigger wants
   * takes the static policy. `nowMs` is wall-clock time.
   */
  judge(call: JudgedCall, nowMs: number): Judgement;
  addGrant(grant: Grant): void;
  removeGrant(grantId: string): void;
}

export interface NetworkJudge {
  /** What the program may reach without asking. */
  isAllowed(transport: Transport, address: SocketAddress): boolean;
  /** What it may bind, and listen on where it is TCP. */
  mayBind(transport: "tcp" | "udp", ip: ArrayLike<number>, port: number): boolean;
  /** What a verdict may let it reach. */
  isGrantable(transport: Transport, address: SocketAddress): boolean;
}

interface LiveGrant {
  readonly grant: Grant;
  readonly matches: (call: JudgedCall) => boolean;
  uses: number;
}

/** What a judge tells of its grants. */
export interface GrantEvents {
  used(grantId: string): void;
  /** It had its last use, or its time was over. */
  ended(grantId: string): void;
}

export function createJudge(policy: EnginePolicy, grantEvents: GrantEvents): Judge {
  const rules = policy.rules.map((rule) => ({ rule, matches: compileMatch(rule.match, rule.action.kind === "allow") }));
  const triggers = policy.triggers.map((trigger) => {
    const matches = trigger.match === undefined ? () => true : compileMatch(trigger.match);
    return (call: JudgedCall): boolean =>
      (trigger.syscalls.includes(call.syscall) || trigger.categories.includes(call.category)) && matches(call);
  });
  const grants = new Map<string, LiveGrant>();

  function useGrant(call: JudgedCall, nowMs: number): Judgement | undefined {
    for (const live of grants.values()) {
      const { grant } = live;
      // What the program can still change was not what the decider judged.
      if (grant.settlement.kind === "allow" && call.integrity === "racy") continue;
      const expired = grant.expireTimeMs !== undefined && grant.expireTimeMs <= nowMs;
      if (!expired && !live.matches(call)) continue;
      if (!expired) {
        live.uses++;
        grantEvents.used(grant.grantId);
      }
      if (expired || (grant.maxUses > 0 && live.uses >= grant.maxUses)) {
        grants.delete(grant.grantId);
        grantEvents.ended(grant.grantId);
      }
      if (!expired)
        return { kind: "settled", settlement: grant.settlement, source: "grant", sourceName: grant.grantId };
    }
    return undefined;
  }

  return {
    get isIdle() {
      return rules.length === 0 && triggers.length === 0 && grants.size === 0;
    },
    judge(call, nowMs) {
      const first = rules.find(({ matches }) => matches(call))?.rule;
      if (first?.action.kind === "deny" || first?.action.kind === "kill") {
        return { kind: "settled", settlement: first.action, source: "rule", sourceName: first.name };
      }
      const granted = useGrant(call, nowMs);
      if (granted !== undefined) return granted;
      if (first?.action.kind === "allow") {
        // A rule settles within the static policy: it saves the question, it widens nothing.
        return { kind: "settled", settlement: { kind: "static" }, source: "rule", sourceName: first.name };
      }
      if (first?.action.kind === "ask") return { kind: "ask", rule: first.name };
      return triggers.some((wants) => wants(call)) ? { kind: "ask", rule: "" } : { kind: "static" };
    },
    addGrant(grant) {
      grants.set(grant.grantId, { grant, matches: compileGrant(grant), uses: 0 });
    },
    removeGrant(grantId) {
      grants.delete(grantId);
    },
  };
}

export function createNetworkJudge(
  { allow, deny, grantable, bind }: NetworkPolicy,
  names: () => NameTable,
  scopesAbstract: boolean,
): NetworkJudge {
  const isListed = compileNetworkRules(allow, names);
  const isDenied = compileNetworkRules(deny, names);
  const isInCeiling = compileNetworkRules(grantable, names);
  /** What is bound elsewhere is out of the keeper's reach, too. */
  const isWithinScope = (address: SocketAddress): boolean =>
    scopesAbstract && address.kind === "unix" && address.path[0] === 0;
  return {
    mayBind: compileBindRules(bind),
    isAllowed: (transport, address) =>
      !isDenied(transport, address) && (isListed(transport, address) || isWithinScope(address)),
    isGrantable: (transport, address) =>
      !isDenied(transport, address) &&
      (isListed(transport, address) || isWithinScope(address) || isInCeiling(transport, address)),
  };
}
