import type {
  DeciderMessage,
  DeciderOptions,
  DeciderSession,
  Verdict,
  VerdictAction,
} from "../../../src/sandbox/decisions/decider.js";
import { createHoldRegistry, type HoldRegistry } from "../../../src/sandbox/decisions/registry.js";
import type { HoldLimits } from "../../../src/sandbox/decisions/state.js";
import type { DomainEvent, EventBody, Grant, HeldCall, HoldPolicy, Settlement } from "../../../src/sandbox/model.js";
import { createManualClock, type ManualClock } from "../../support/clock.js";

export const policy: HoldPolicy = {
  triggers: [],
  verdictTimeoutMs: 1000,
  maxHoldMs: 10_000,
  onTimeout: { kind: "deny", errno: 1 },
  onNoDecider: { graceMs: 0, fallback: { kind: "deny", errno: 1 } },
  maxHeld: 100,
  coalesce: false,
};

const bytes = (text: string): Uint8Array => Buffer.from(text);

export function fileCall(holdId: number, changes: Partial<HeldCall> & { readonly path?: string } = {}): HeldCall {
  const { path = `/data/${holdId}`, ...others } = changes;
  return {
    holdId,
    sandboxId: "box",
    task: {
      sandboxId: "box",
      processId: "main",
      pid: 100,
      tid: 100,
      ppid: 1,
      startTicks: 7,
      executable: bytes("/usr/bin/cat"),
      command: bytes("cat"),
    },
    syscall: "openat",
    number: 257,
    arch: 0xc000003e,
    args: [1n, 2n, 3n, 4n, 5n, 6n],
    category: "file",
    integrity: "copied",
    detail: { kind: "file", path: bytes(path), operation: "write", flags: 1, mode: 0, exists: true },
    timeMs: 0,
    rule: "",
    ...others,
  };
}

export const decider: DeciderOptions = {
  name: "decider",
  selector: { sandboxIds: new Set(), labels: new Map() },
  match: undefined,
  window: 100,
  role: "primary",
  takeOver: false,
  reportOutcomes: "failures",
  maxBatch: 0,
  mayAllow: true,
};

export function verdict(holdId: number, action: VerdictAction | "allow", changes: Partial<Verdict> = {}): Verdict {
  return {
    holdId,
    action: action === "allow" ? { kind: "allow" } : action,
    remember: undefined,
    narrows: false,
    reason: "",
    labels: new Map(),
    ...changes,
  };
}

/** A registry between an engine and a journal that write down what they are told. */
export interface Bench {
  readonly clock: ManualClock;
  readonly registry: HoldRegistry;
  readonly settled: { readonly holdId: number; readonly settlement: Settlement }[];
  readonly grants: Map<string, Grant>;
  readonly events: DomainEvent[];
  /** What one call got. Undefined while it waits. */
  got(holdId: number): Settlement | undefined;
  bodies<Kind extends EventBody["kind"]>(kind: Kind): (EventBody & { readonly kind: Kind })[];
  hold(holdId: number, changes?: Parameters<typeof fileCall>[1]): HeldCall;
  open(changes?: Partial<DeciderOptions>, tenant?: string): Client;
}

/** A decider that reads everything that is there. */
export interface Client {
  readonly session: DeciderSession;
  /** Takes the messages that are there now. */
  read(): Promise<DeciderMessage[]>;
  /** Takes one message. */
  readOne(): Promise<DeciderMessage>;
}

export function createBench(changes: Partial<HoldPolicy> = {}, limits: Partial<HoldLimits> = {}): Bench {
  const clock = createManualClock();
  const settled: Bench["settled"] = [];
  const grants = new Map<string, Grant>();
  const events: DomainEvent[] = [];
  const registry = createHoldRegistry({
    clock,
    limits,
    engine: {
      settle: (holdId, settlement) => settled.push({ holdId, settlement }),
      addGrant: (grant) => grants.set(grant.grantId, grant),
      removeGrant: (_sandboxId, grantId) => grants.delete(grantId),
    },
    events: { append: (event) => events.push(event) },
  });
  registry.sandboxCreated({
    sandboxId: "box",
    tenant: "tenant",
    labels: new Map([["team", "red"]]),
    policy: { ...policy, ...changes },
  });
  return {
    clock,
    registry,
    settled,
    grants,
    events,
    got: (holdId) => settled.find((entry) => entry.holdId === holdId)?.settlement,
    bodies: (kind) =>
      events.flatMap(({ body }) => (body.kind === kind ? [body as EventBody & { readonly kind: typeof kind }] : [])),
    hold(holdId, callChanges) {
      const call = fileCall(holdId, { timeMs: clock.wall(), ...callChanges });
      registry.held(call);
      return call;
    },
    open(optionChanges, tenant = "tenant") {
      return connect(registry.openDecider(tenant, "someone", { ...decider, ...optionChanges }));
    },
  };
}

function connect(session: DeciderSession): Client {
  const messages = session.messages();
  let pending: Promise<IteratorResult<DeciderMessage>> | undefined;

  async function readOne(): Promise<DeciderMessage> {
    const next = await (pending ?? messages.next());
    pending = undefined;
    if (next.done === true) throw new Error("the stream ended");
    return next.value;
  }

  return {
    session,
    readOne,
    async read() {
      const found: DeciderMessage[] = [];
      for (;;) {
        pending ??= messages.next();
        // Whatever is there is handed over within the turn: a turn without is the end of it.
        const next = await Promise.race([
          pending,
          new Promise<undefined>((resolve) => setImmediate(resolve, undefined)),
        ]);
        if (next === undefined || next.done === true) return found;
        pending = undefined;
        found.push(next.value);
      }
    },
  };
}

/** The hold ids of every call in these messages. */
export function idsOf(messages: readonly DeciderMessage[]): number[] {
  return messages.flatMap((message) => (message.kind === "calls" ? message.calls.map(({ call }) => call.holdId) : []));
}
