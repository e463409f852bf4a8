import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { parseProcessId, parseSandboxId } from "../base/brands.js";
import { invalidField, SandboxError } from "../base/errors.js";
import { untilAborted } from "../base/signals.js";
import * as pb from "../gen/sandgate/v1/sandbox_pb.js";
import type { SandboxInfo, SandboxState, SignalScope } from "../sandbox/model.js";
import type { ProcessStreams } from "../sandbox/ports.js";
import type { Registry } from "../sandbox/registry.js";
import type { OutputChunk } from "../sandbox/stdio/attachment.js";
import type { StreamAccess } from "../sandbox/stdio/streams.js";
import type { CallContext } from "./bridge.js";
import { exitStatusToProto, processInfoToProto, sandboxToProto } from "./convert/common.js";
import { millisecondsOf, processFromProto, type SpecDefaults, specFromProto } from "./convert/spec.js";
import { outputToProto } from "./convert/stdio.js";
import type { Idempotency } from "./idempotency.js";
import { problemOf } from "./status.js";

type Response<Schema extends Parameters<typeof toBinary>[0]> = MessageInitShape<Schema>;

const STOP_GRACE_MS = 10_000;
const MAX_STDIN_BYTES = 1 << 20;
const MAX_PAGE = 1000;
/** Pages are cut by encoded size too, well below a client's default limit of 4 MiB. */
const MAX_PAGE_BYTES = 1 << 20;
const MAX_SIGNAL = 64;
/** What a Run's first message tells: its client knows the spec, and has little time. */
const STARTED_FIELDS = ["sandbox_id", "state", "create_time", "protections", "owner"];
/** What is known of a sandbox that was only checked. */
const CHECKED_FIELDS = ["spec", "protections", "plan", "owner"];
/** All but the spec, which the client has just sent. */
const SPAWNED_FIELDS = pb.SandboxSchema.fields.map((field) => field.name).filter((name) => name !== "spec");
/** All fields of Sandbox but the large ones. */
const LISTED_FIELDS = pb.SandboxSchema.fields
  .map((field) => field.name)
  .filter((name) => name !== "spec" && name !== "processes");

const STATES: Readonly<Partial<Record<pb.SandboxState, SandboxState>>> = {
  [pb.SandboxState.CREATED]: "created",
  [pb.SandboxState.RUNNING]: "running",
  [pb.SandboxState.PAUSED]: "paused",
  [pb.SandboxState.STOPPING]: "stopping",
  [pb.SandboxState.ENDED]: "ended",
  [pb.SandboxState.LOST]: "lost",
};
const SCOPES: readonly SignalScope[] = ["process", "process", "group", "sandbox"];

export interface SandboxServiceOptions {
  readonly registry: Registry<ProcessStreams & StreamAccess>;
  readonly idempotency: Idempotency;
  readonly defaults: SpecDefaults;
  /** Where a watch would begin now. */
  readonly cursor: () => { readonly epoch: string; readonly sequence: number };
}

function notYet(field: string): SandboxError {
  return new SandboxError("unimplemented", `${field} is not implemented in this version`, {
    reason: "NOT_IMPLEMENTED",
    field,
  });
}

function encoded<Schema extends DescMessage>(schema: Schema, message: MessageInitShape<Schema>): Uint8Array {
  return toBinary(schema, create(schema, message));
}

export function createSandboxService(options: SandboxServiceOptions) {
  const { registry, idempotency, defaults } = options;
  const cursor = () => {
    const { epoch, sequence } = options.cursor();
    return { epoch, sequence: BigInt(sequence) };
  };

  function spawnInput(request: pb.SpawnRequest | pb.RunRequest, { traceparent }: CallContext, execs: boolean) {
    const isSpawn = request.$typeName === "sandgate.v1.SpawnRequest";
    return {
      sandboxId: isSpawn ? request.sandboxId : "",
      spec: specFromProto(request.spec, defaults),
      process: processFromProto(request.process),
      awaitDecider: isSpawn && request.awaitDecider,
      execs,
      traceparent,
    };
  }

  async function spawn(
    request: pb.SpawnRequest,
    context: CallContext,
  ): Promise<Response<typeof pb.SpawnResponseSchema>> {
    if (request.sandboxId !== "") parseSandboxId(request.sandboxId);
    const input = spawnInput(request, context, true);
    if (request.validateOnly) {
      const { sandbox, warnings } = registry.validate(context.caller, input);
      return { sandbox: sandboxToProto(sandbox, CHECKED_FIELDS), warnings: warnings.map(problemOf) };
    }
    const from = cursor();
    const { sandbox, warnings } = await registry.spawn(context.caller, input);
    return { sandbox: sandboxToProto(sandbox, SPAWNED_FIELDS), warnings: warnings.map(problemOf), cursor: from };
  }

  async function* run(
    request: pb.RunRequest,
    context: CallContext,
  ): AsyncGenerator<Response<typeof pb.RunResponseSchema>> {
    const input = spawnInput(request, context, false);
    if (request.stdin.length > MAX_STDIN_BYTES) throw invalidField("stdin", "at most one megabyte");
    // The client is the only reader: the program waits for it instead of losing output.
    const process = {
      ...input.process,
      outputOverflow: "wait",
      stdin: request.stdin.length > 0 ? "pipe" : "closed",
    } as const;
    const limit = Number(request.maxOutputBytes);
    let output: AsyncIterable<OutputChunk> | undefined;
    const { sandbox } = await registry.spawn(context.caller, { ...input, process }, (streams) => {
      output = streams.runOutput(context.signal, limit);
      if (request.stdin.length > 0) streams.feed(request.stdin);
    });
    const { sandboxId } = sandbox;
    try {
      const { ended } = registry.streams(context.caller, sandboxId, "main");
      yield { part: { case: "started", value: sandboxToProto(sandbox, STARTED_FIELDS) } };
      let dropped = 0;
      for await (const chunk of output ?? []) {
        dropped += chunk.dropped;
        if (chunk.data.length > 0) yield { part: { case: "output", value: outputToProto(chunk) } };
      }
      const exit = await untilAborted(ended, context.signal);
      yield { part: { case: "result", value: { exit: exitStatusToProto(exit), droppedOutputBytes: BigInt(dropped) } } };
    } finally {
      // Also when the client went away: Run is the one call whose end kills what it started. Nobody waits for that.
      void registry.delete(context.caller, sandboxId);
    }
  }

  function matches(info: SandboxInfo, request: pb.ListSandboxesRequest, states: readonly SandboxState[]): boolean {
    const sandboxIds = request.selector?.sandboxIds ?? [];
    const labels = request.selector?.labels ?? {};
    if (sandboxIds.length > 0 && !sandboxIds.includes(info.sandboxId)) return false;
    if (!Object.entries(labels).every(([key, value]) => info.spec.labels.get(key) === value)) return false;
    return states.length === 0 ? info.state !== "ended" && info.state !== "lost" : states.includes(info.state);
  }

  async function listSandboxes(
    request: pb.ListSandboxesRequest,
    context: CallContext,
  ): Promise<Response<typeof pb.ListSandboxesResponseSchema>> {
    const states = request.states.map((state, index) => {
      const known = STATES[state];
      if (known === undefined)
        throw invalidField(`states[${index}]`, `no sandbox of this version is in state ${state}`);
      return known;
    });
    if (request.pageToken !== "" && !/^\d+\.[\w.-]+$/.test(request.pageToken))
      throw invalidField("page_token", "not from an earlier answer");
    const at = cursor();
    // Ordered by creation; the token names the last one of the page before, which may be gone by now.
    const [timeText, lastId] = request.pageToken.split(/\.(.*)/s);
    const afterMs = request.pageToken === "" ? -1 : Number(timeText);
    const candidates = registry
      .list(context.caller)
      .filter((info) => matches(info, request, states))
      .sort((a, b) => a.createTimeMs - b.createTimeMs || (a.sandboxId < b.sandboxId ? -1 : 1))
      .filter(
        (info) => info.createTimeMs > afterMs || (info.createTimeMs === afterMs && info.sandboxId > (lastId ?? "")),
      );
    const wanted = request.pageSize === 0 ? MAX_PAGE : Math.min(request.pageSize, MAX_PAGE);
    const page: pb.Sandbox[] = [];
    let bytes = 0;
    for (const info of candidates.slice(0, wanted)) {
      const sandbox = create(pb.SandboxSchema, sandboxToProto(info, request.readMask?.paths ?? LISTED_FIELDS));
      bytes += toBinary(pb.SandboxSchema, sandbox).length;
      if (page.length > 0 && bytes > MAX_PAGE_BYTES) break;
      page.push(sandbox);
    }
    const last = candidates[page.length - 1];
    const nextPageToken =
      page.length < candidates.length && last !== undefined ? `${last.createTimeMs}.${last.sandboxId}` : "";
    return { sandboxes: page, nextPageToken, cursor: at };
  }

  return {
    spawn: (request: pb.SpawnRequest, context: CallContext) =>
      idempotency.once(
        {
          tenant: context.caller.tenant,
          method: "Spawn",
          requestId: request.requestId,
          payload: toBinary(pb.SpawnRequestSchema, request),
          required: true,
        },
        // Kept as bytes: an answer is remembered for minutes, and its objects would take several times as much.
        async () => encoded(pb.SpawnResponseSchema, await spawn(request, context)),
      ),

    exec: (request: pb.ExecRequest, context: CallContext): Promise<Uint8Array> =>
      idempotency.once(
        {
          tenant: context.caller.tenant,
          method: "Exec",
          requestId: request.requestId,
          payload: toBinary(pb.ExecRequestSchema, request),
          required: true,
        },
        async () => {
          if (request.processId !== "") parseProcessId(request.processId);
          const process = processFromProto(request.process);
          const started = await registry.exec(context.caller, request.sandboxId, request.processId, process);
          return encoded(pb.ExecResponseSchema, { process: processInfoToProto(started) });
        },
      ),

    run,

    async getSandbox(
      request: pb.GetSandboxRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.GetSandboxResponseSchema>> {
      return { sandbox: sandboxToProto(registry.get(context.caller, request.sandboxId), request.readMask?.paths) };
    },

    listSandboxes,

    async waitProcess(
      request: pb.WaitProcessRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.WaitProcessResponseSchema>> {
      const exit = await registry.wait(context.caller, request.sandboxId, request.processId, context.signal);
      return { exit: exitStatusToProto(exit) };
    },

    signalProcess: (
      request: pb.SignalProcessRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.SignalProcessResponseSchema>> =>
      idempotency.once(
        {
          tenant: context.caller.tenant,
          method: "SignalProcess",
          requestId: request.requestId,
          payload: toBinary(pb.SignalProcessRequestSchema, request),
          required: true,
        },
        async () => {
          const { sandboxId, processId, signal } = request;
          if (signal < 1 || signal > MAX_SIGNAL) throw invalidField("signal", `signals are 1 to ${MAX_SIGNAL}`);
          const scope = SCOPES[request.scope];
          if (scope === undefined) throw invalidField("scope", `unknown value ${request.scope}`);
          return { delivered: await registry.signal(context.caller, sandboxId, processId, signal, scope) };
        },
      ),

    async stopSandbox(
      request: pb.StopSandboxRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.StopSandboxResponseSchema>> {
      const graceMs = millisecondsOf(request.grace, STOP_GRACE_MS, "grace");
      return { sandbox: sandboxToProto(await registry.stop(context.caller, request.sandboxId, graceMs)) };
    },

    async pauseSandbox(
      request: pb.PauseSandboxRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.PauseSandboxResponseSchema>> {
      return { sandbox: sandboxToProto(await registry.pause(context.caller, request.sandboxId)) };
    },

    async resumeSandbox(
      request: pb.ResumeSandboxRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.ResumeSandboxResponseSchema>> {
      return { sandbox: sandboxToProto(await registry.resume(context.caller, request.sandboxId)) };
    },

    updateSandbox(): Promise<Response<typeof pb.UpdateSandboxResponseSchema>> {
      return Promise.reject(notYet("UpdateSandbox"));
    },

    async deleteSandbox(
      request: pb.DeleteSandboxRequest,
      context: CallContext,
    ): Promise<Response<typeof pb.DeleteSandboxResponseSchema>> {
      return { existed: await registry.delete(context.caller, request.sandboxId) };
    },
  };
}
