import { invalidField, SandboxError } from "../base/errors.js";
import type { AttachRequest, AttachResponseSchema } from "../gen/sandgate/v1/stdio_pb.js";
import type { ExitStatus, ProcessInfo, TerminalSize } from "../sandbox/model.js";
import type { Attachment } from "../sandbox/stdio/attachment.js";
import type { StreamAccess } from "../sandbox/stdio/streams.js";
import type { CallContext } from "./bridge.js";
import { type Init, problemToProto } from "./convert/common.js";
import {
  attachmentEventToProto,
  attachOptionsFromProto,
  exitToProto,
  offsetFromProto,
  openedToProto,
} from "./convert/stdio.js";

type Response = Init<typeof AttachResponseSchema>;

/** One process as an attachment needs it. */
export interface AttachTarget {
  readonly streams: StreamAccess;
  info(): ProcessInfo;
  /** Resolves when the process has ended; rejects when it never ran. */
  readonly exit: Promise<ExitStatus>;
  /** Signals the terminal's foreground group, or the process's group where there is no terminal. */
  signalForeground(signal: number): void;
}

export interface StreamLookup {
  /** Throws `not_found`. */
  streams(tenant: string, sandboxId: string, processId: string): AttachTarget;
}

export interface StdioServiceOptions {
  readonly lookup: StreamLookup;
  /** Longest silence on an attachment. Default: 15 seconds. */
  readonly heartbeatMs?: number;
}

const MAX_SIGNAL = 64;
const MAX_TERMINAL_SIDE = 65_535;

/** Problems that wait to be sent; a client that makes more without reading is cut off. */
const MAX_PROBLEMS = 64;

export function createStdioService(options: StdioServiceOptions) {
  const { lookup, heartbeatMs = 15_000 } = options;

  async function* attach(requests: AsyncIterable<AttachRequest>, context: CallContext): AsyncGenerator<Response> {
    const iterator = requests[Symbol.asyncIterator]();
    const first = await iterator.next();
    if (first.done === true || first.value.message.case !== "open") {
      throw invalidField("open", "the first message must be open");
    }
    const open = first.value.message.value;
    const processId = open.processId === "" ? "main" : open.processId;
    const target = lookup.streams(context.caller.tenant, open.sandboxId, processId);

    const outbox = createOutbox();
    using attachment = target.streams.attach(attachOptionsFromProto(open), outbox.wake);
    let exit: ExitStatus | undefined;
    target.exit.then(
      (status) => {
        exit = status;
        outbox.wake();
      },
      (error: unknown) => outbox.fail(error),
    );
    const aborted = (): void => outbox.fail(context.signal.reason);
    context.signal.addEventListener("abort", aborted);
    try {
      yield openedToProto(attachment, target.info(), heartbeatMs);
      void receive(iterator, attachment, target, outbox);
      for (;;) {
        context.signal.throwIfAborted();
        const response = nextResponse(attachment, outbox);
        if (response !== undefined) {
          yield response;
          continue;
        }
        if (attachment.ended && exit !== undefined) {
          yield exitToProto(exit);
          return;
        }
        if (attachment.gone)
          throw new SandboxError("aborted", "the sandbox was removed", { reason: "SANDBOX_NOT_FOUND" });
        if (await outbox.silent(heartbeatMs)) {
          yield { message: { case: "heartbeat", value: { heldBack: BigInt(attachment.heldBack) } } };
        }
      }
    } finally {
      context.signal.removeEventListener("abort", aborted);
    }
  }

  return { attach };
}

function nextResponse(attachment: Attachment, outbox: Outbox): Response | undefined {
  const problem = outbox.takeProblem();
  if (problem !== undefined) return { message: { case: "problem", value: problemToProto(problem) } };
  const event = attachment.take();
  if (event === undefined) return undefined;
  if (event.kind === "input_lost") {
    const lost = new SandboxError("aborted", "another attachment took the input", {
      reason: "LEASE_HELD",
      field: "input",
    });
    return { message: { case: "problem", value: problemToProto(lost) } };
  }
  return attachmentEventToProto(event);
}

/** Carries out what the client sends, until it sends no more. Never rejects: what goes wrong is in the outbox. */
async function receive(
  requests: AsyncIterator<AttachRequest>,
  attachment: Attachment,
  target: AttachTarget,
  outbox: Outbox,
): Promise<void> {
  try {
    for (;;) {
      const { value, done } = await requests.next();
      if (done === true) break;
      try {
        act(value, attachment, target);
      } catch (error) {
        if (!(error instanceof SandboxError)) throw error;
        outbox.addProblem(error);
      }
    }
    // Nobody can give credit any more; from here on only the transport holds output back.
    attachment.creditEnded();
  } catch (error) {
    outbox.fail(error);
  }
}

function act({ message }: AttachRequest, attachment: Attachment, target: AttachTarget): void {
  switch (message.case) {
    case "input": {
      const { data, offset, end } = message.value;
      attachment.write(data, offsetFromProto(offset, "input.offset"), end);
      return;
    }
    case "credit":
      attachment.credit(message.value.bytes);
      return;
    case "resize":
      attachment.requireInput("resize the terminal");
      target.streams.resize(checkSize(message.value));
      return;
    case "signal": {
      const { signal } = message.value;
      if (signal < 1 || signal > MAX_SIGNAL) throw invalidField("signal.signal", `no signal has the number ${signal}`);
      attachment.requireInput("send a signal");
      target.signalForeground(signal);
      return;
    }
    case "open":
      throw invalidField("open", "this attachment is already open");
    case undefined:
      throw invalidField("message", "not known to this version of the server");
    default:
      message satisfies never;
  }
}

function checkSize({ columns, rows }: TerminalSize): TerminalSize {
  for (const [side, length] of Object.entries({ columns, rows })) {
    if (length < 1 || length > MAX_TERMINAL_SIDE)
      throw invalidField(`resize.${side}`, `${length} is not in 1 to ${MAX_TERMINAL_SIDE}`);
  }
  return { columns, rows };
}

/** What the sending half of an attachment waits for. */
interface Outbox {
  readonly wake: () => void;
  addProblem(problem: SandboxError): void;
  takeProblem(): SandboxError | undefined;
  /** Makes the next `silent` throw. */
  fail(error: unknown): void;
  /** Waits for a wake. True when none came in time. */
  silent(timeoutMs: number): Promise<boolean>;
}

function createOutbox(): Outbox {
  const problems: SandboxError[] = [];
  let woken = false;
  let failure: { readonly error: unknown } | undefined;
  let waiting: ((silent: boolean) => void) | undefined;

  function wake(): void {
    woken = true;
    waiting?.(false);
  }

  function fail(error: unknown): void {
    failure ??= { error };
    wake();
  }

  return {
    wake,
    fail,
    addProblem(problem) {
      if (problems.length < MAX_PROBLEMS) {
        problems.push(problem);
        wake();
      } else {
        fail(new SandboxError("resource_exhausted", "too many messages that could not be used"));
      }
    },
    takeProblem: () => problems.shift(),
    async silent(timeoutMs) {
      if (!woken) {
        let timer: NodeJS.Timeout | undefined;
        const silent = await new Promise<boolean>((resolve) => {
          waiting = resolve;
          timer = setTimeout(resolve, timeoutMs, true);
        });
        clearTimeout(timer);
        waiting = undefined;
        if (silent) return true;
      }
      woken = false;
      if (failure !== undefined) throw failure.error;
      return false;
    },
  };
}
