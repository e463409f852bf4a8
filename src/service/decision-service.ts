import { create, toBinary } from "@bufbuild/protobuf";
import { invalidField, SandboxError } from "../base/errors.js";
import * as pb from "../gen/sandgate/v1/decision_pb.js";
import type { DeciderSession, DecisionApi } from "../sandbox/decisions/decider.js";
import type { CallContext, Encoded } from "./bridge.js";
import { type CallEncoder, createCallEncoder } from "./convert/call-encoder.js";
import { type Init, selectorFromProto } from "./convert/common.js";
import {
  deliveredToProto,
  grantToProto,
  messageToProto,
  openFromProto,
  outcomeToProto,
  verdictFromProto,
} from "./convert/decision.js";
import { millisecondsOf } from "./convert/spec.js";
import type { Idempotency } from "./idempotency.js";

const defaultPage = 100;
const maxPage = 1000;
const maxPageBytes = 1 << 20;
const maxHoldIds = 4096;

export interface DecisionServiceOptions {
  readonly decisions: DecisionApi;
  readonly idempotency: Idempotency;
  /** Shared with the watch service, so that a call is encoded once. */
  readonly encoder?: CallEncoder;
}

/** Handlers of `DecisionService`. */
export function createDecisionService({
  decisions,
  idempotency,
  encoder = createCallEncoder(),
}: DecisionServiceOptions) {
  /** However the stream ends, the session is closed and its calls go to others: nothing is allowed by that. */
  async function* decide(
    requests: AsyncIterable<pb.DecideRequest>,
    context: CallContext,
  ): AsyncGenerator<Init<typeof pb.DecideResponseSchema> | Encoded> {
    const incoming = requests[Symbol.asyncIterator]();
    const first = await incoming.next();
    if (first.done === true) return;
    const { message } = first.value;
    if (message.case !== "open") throw invalidField("message", "the first message must be open");
    const { options, extra } = openFromProto(message.value, mayAllow(context));
    const { tenant, identity } = context.caller;
    const session = decisions.openDecider(tenant, identity, options);
    const close = (): void => session.close();
    context.signal.addEventListener("abort", close);
    if (context.signal.aborted) close();
    let failure: unknown;
    void takeRequests(incoming, session)
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(close);
    try {
      for await (const outgoing of session.messages()) {
        yield outgoing.kind === "calls" ? encoder.calls(outgoing.calls, extra) : messageToProto(outgoing);
      }
    } finally {
      context.signal.removeEventListener("abort", close);
      close();
    }
    if (failure !== undefined) throw failure;
  }

  return {
    decide,

    async listHeldCalls(
      request: pb.ListHeldCallsRequest,
      context: CallContext,
    ): Promise<Init<typeof pb.ListHeldCallsResponseSchema>> {
      const selector = selectorFromProto(request.selector, "selector");
      const after = request.pageToken === "" ? 0 : Number(request.pageToken);
      if (!Number.isSafeInteger(after) || after < 0) throw invalidField("page_token", "is not from an earlier answer");
      const size = pageSize(request.pageSize);
      const found = decisions.listHeld(context.caller.tenant, selector, after, size + 1);
      const page = cutPage(found, size, (held) => create(pb.HeldCallSchema, deliveredToProto(held)), pb.HeldCallSchema);
      return { calls: page.messages, nextPageToken: page.last === undefined ? "" : String(page.last.call.holdId) };
    },

    resolveHeldCall(
      request: pb.ResolveHeldCallRequest,
      context: CallContext,
    ): Promise<Init<typeof pb.ResolveHeldCallResponseSchema>> {
      const { tenant, identity } = context.caller;
      const payload = toBinary(pb.ResolveHeldCallRequestSchema, request);
      const { requestId } = request;
      return idempotency.once({ tenant, method: "ResolveHeldCall", requestId, payload, required: true }, async () => {
        if (request.verdict === undefined) throw invalidField("verdict", "is required");
        const verdict = verdictFromProto(request.verdict);
        return {
          outcome: outcomeToProto(decisions.resolve(tenant, identity, request.sandboxId, verdict, mayAllow(context))),
        };
      });
    },

    async listGrants(
      request: pb.ListGrantsRequest,
      context: CallContext,
    ): Promise<Init<typeof pb.ListGrantsResponseSchema>> {
      const selector = selectorFromProto(request.selector, "selector");
      const size = pageSize(request.pageSize);
      const found = decisions.listGrants(context.caller.tenant, selector, request.pageToken, size + 1);
      const page = cutPage(found, size, (record) => create(pb.GrantSchema, grantToProto(record)), pb.GrantSchema);
      return { grants: page.messages, nextPageToken: page.last === undefined ? "" : page.last.grant.grantId };
    },

    revokeGrants(
      request: pb.RevokeGrantsRequest,
      context: CallContext,
    ): Promise<Init<typeof pb.RevokeGrantsResponseSchema>> {
      const { tenant } = context.caller;
      const payload = toBinary(pb.RevokeGrantsRequestSchema, request);
      const { requestId } = request;
      return idempotency.once({ tenant, method: "RevokeGrants", requestId, payload, required: false }, async () => {
        if (request.grantIds.length === 0 && request.selector === undefined) {
          throw invalidField("selector", "is required when no grant is named");
        }
        const selector = selectorFromProto(request.selector, "selector");
        return { revoked: decisions.revokeGrants(tenant, request.grantIds, selector) };
      });
    },
  };
}

function mayAllow({ caller }: CallContext): boolean {
  return caller.roles.includes("decider");
}

/** Applies what the client sends, no faster than the client takes what that brings it. */
async function takeRequests(incoming: AsyncIterator<pb.DecideRequest>, session: DeciderSession): Promise<void> {
  for (let next = await incoming.next(); next.done !== true; next = await incoming.next()) {
    try {
      take(next.value, session);
    } catch (error) {
      if (!(error instanceof SandboxError)) throw error;
      session.report(error);
    }
    await session.ready();
  }
}

function take({ message }: pb.DecideRequest, session: DeciderSession): void {
  switch (message.case) {
    case "verdicts":
      session.answer(message.value.verdicts.map(verdictFromProto));
      return;
    case "window":
      session.setWindow(message.value.window);
      return;
    case "extension": {
      const { holdIds, timeLeft } = message.value;
      if (holdIds.length > maxHoldIds) throw invalidField("extension.hold_ids", `at most ${maxHoldIds}`);
      session.extend(holdIds.map(Number), millisecondsOf(timeLeft, 0, "extension.time_left"));
      return;
    }
    case "drain":
      session.drain(message.value.close);
      return;
    case "open":
      throw invalidField("open", "the stream is open already");
    case undefined:
      throw invalidField("message", "is not one that this server knows");
    default:
      message satisfies never;
  }
}

function pageSize(wanted: number): number {
  return wanted === 0 ? defaultPage : Math.min(wanted, maxPage);
}

/** Cuts a page by number and by encoded size. `last` is where the next page goes on, if there is more. */
function cutPage<Item, Schema extends Parameters<typeof toBinary>[0]>(
  items: readonly Item[],
  size: number,
  convert: (item: Item) => Parameters<typeof toBinary<Schema>>[1],
  schema: Schema,
): { readonly messages: Parameters<typeof toBinary<Schema>>[1][]; readonly last: Item | undefined } {
  const messages: Parameters<typeof toBinary<Schema>>[1][] = [];
  let last: Item | undefined;
  let bytes = 0;
  for (const item of items) {
    if (messages.length >= size) return { messages, last };
    const message = convert(item);
    bytes += toBinary(schema, message).length;
    if (bytes > maxPageBytes && messages.length > 0) return { messages, last };
    messages.push(message);
    last = item;
  }
  return { messages, last: undefined };
}
