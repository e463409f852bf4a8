import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ExitStatus } from "../gen/sandgate/v1/process_pb.js";
import { type Output, StdioStream } from "../gen/sandgate/v1/process_pb.js";
import type { AttachRequestSchema, AttachResponse } from "../gen/sandgate/v1/stdio_pb.js";
import type { SharedInput } from "./input.js";

/** The client's side of an open Attach stream. */
export interface AttachLink {
  send(message: MessageInitShape<typeof AttachRequestSchema>): void;
  readonly messages: AsyncIterable<AttachResponse>;
}

/** Where a program's output goes; each resolves once the bytes were handed over, and rejects when nobody reads. */
export interface OutputSinks {
  stdout(data: Uint8Array): Promise<void>;
  stderr(data: Uint8Array): Promise<void>;
  note(line: string): void;
}

export interface AttachmentOptions {
  readonly sandboxId: string;
  readonly processId: string;
  /** Set for a program on a terminal. */
  readonly terminal: { size(): { columns: number; rows: number } } | undefined;
  /** Undefined leaves the program's input alone. */
  readonly input: SharedInput | undefined;
  /** From the first byte kept, else from now. */
  readonly fromStart: boolean;
}

export interface Attachment {
  /** How the process ended; undefined when the stream ended first. */
  readonly exit: Promise<ExitStatus | undefined>;
  /** Tells the program its terminal's size. */
  resize(): void;
}

/** Bytes of input that may be on the way without having been taken by the program: the service refuses more. */
const INPUT_WINDOW = 64 * 1024;
const CREDIT_BYTES = 256 * 1024;

/** Carries bytes between the caller's streams and a process until it ends. Bounded both ways. */
export function startAttachment(link: AttachLink, options: AttachmentOptions, sinks: OutputSinks): Attachment {
  const { terminal, input } = options;
  let sent = 0n;
  let taken = 0n;
  let inputClosed = false;
  /** Read, but not sent for want of room; the input is paused while there is any. */
  const unsent: Uint8Array[] = [];
  let inputEnded = false;

  const sendInput = () => {
    while (!inputClosed) {
      const [chunk] = unsent;
      if (chunk === undefined) break;
      const room = INPUT_WINDOW - Number(sent - taken);
      if (room <= 0) break;
      const data = chunk.subarray(0, room);
      link.send({ message: { case: "input", value: { data, offset: sent } } });
      sent += BigInt(data.length);
      if (data.length === chunk.length) unsent.shift();
      else unsent[0] = chunk.subarray(data.length);
    }
    if (inputEnded && unsent.length === 0 && !inputClosed) {
      inputClosed = true;
      // A terminal has no half-close: its end of input is a character that the program's line discipline reads.
      const end =
        terminal === undefined ? { data: new Uint8Array(), end: true } : { data: Uint8Array.of(4), end: false };
      link.send({ message: { case: "input", value: { ...end, offset: sent } } });
    }
    input?.setProgramPaused(inputClosed || unsent.length > 0 || sent - taken >= BigInt(INPUT_WINDOW));
  };

  const connectInput = () => {
    input?.connect((chunk) => {
      if (chunk === undefined) inputEnded = true;
      else if (chunk.length > 0) unsent.push(chunk);
      sendInput();
    }, terminal !== undefined);
  };

  const write = async (output: Output): Promise<void> => {
    if (output.dropped > 0n) sinks.note(`${output.dropped} bytes of output were not kept`);
    if (output.data.length === 0) return;
    await (output.stream === StdioStream.STDERR ? sinks.stderr(output.data) : sinks.stdout(output.data));
    link.send({ message: { case: "credit", value: { bytes: output.data.length } } });
  };

  const pump = async (): Promise<ExitStatus | undefined> => {
    for await (const { message } of link.messages) {
      switch (message.case) {
        case "opened":
          sent = message.value.inputOffset;
          taken = sent;
          connectInput();
          break;
        case "output":
          await write(message.value);
          break;
        case "inputAck":
          taken = message.value.offset;
          if (message.value.closed) inputClosed = true;
          sendInput();
          break;
        case "exit":
          return message.value;
        case "problem":
          sinks.note(message.value.message);
          break;
        case "heartbeat":
        case undefined:
          break;
      }
    }
    return undefined;
  };

  const streams = terminal === undefined ? [StdioStream.STDOUT, StdioStream.STDERR] : [StdioStream.TERMINAL];
  link.send({
    message: {
      case: "open",
      value: {
        sandboxId: options.sandboxId,
        processId: options.processId,
        streams,
        offsets: options.fromStart ? Object.fromEntries(streams.map((stream) => [stream, 0n])) : {},
        creditBytes: CREDIT_BYTES,
        input: input !== undefined,
      },
    },
  });
  const exit = pump();
  exit.catch(() => undefined); // the owner awaits it after the process was started
  return {
    exit,
    resize() {
      if (terminal !== undefined) link.send({ message: { case: "resize", value: terminal.size() } });
    },
  };
}
