import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { invalidField } from "../../base/errors.js";
import { type OutputSchema, StdioStream } from "../../gen/sandgate/v1/process_pb.js";
import type { AttachOpen, AttachResponseSchema } from "../../gen/sandgate/v1/stdio_pb.js";
import type { ExitStatus, ProcessInfo } from "../../sandbox/model.js";
import type { Attachment, AttachmentEvent, AttachOptions, OutputChunk } from "../../sandbox/stdio/attachment.js";
import type { OutputStream } from "../../sandbox/stdio/output.js";
import { exitStatusToProto, type Init, numberFromProto, processInfoToProto } from "./common.js";

type Response = Init<typeof AttachResponseSchema>;

const streamNumbers: Readonly<Record<OutputStream, StdioStream>> = {
  stdout: StdioStream.STDOUT,
  stderr: StdioStream.STDERR,
  terminal: StdioStream.TERMINAL,
};

const streamNames: ReadonlyMap<number, OutputStream> = new Map([
  [StdioStream.STDOUT, "stdout"],
  [StdioStream.STDERR, "stderr"],
  [StdioStream.TERMINAL, "terminal"],
]);

/** Throws `invalid_argument` for a stream or an offset that is none. */
export function attachOptionsFromProto(open: AttachOpen): AttachOptions {
  return {
    streams: open.streams.map((stream, index) => streamName(stream, `open.streams[${index}]`)),
    offsets: new Map(
      Object.entries(open.offsets).map(([key, offset]) => {
        const field = `open.offsets[${key}]`;
        return [streamName(Number(key), field), offsetFromProto(offset, field)];
      }),
    ),
    creditBytes: open.creditBytes,
    input: open.input,
    takeOverInput: open.takeOverInput,
  };
}

function streamName(stream: number, field: string): OutputStream {
  const name = streamNames.get(stream);
  if (name === undefined) throw invalidField(field, `no stream has the number ${stream}`);
  return name;
}

export function offsetFromProto(offset: bigint, field: string): number {
  const number = numberFromProto(offset);
  if (number < 0) throw invalidField(field, "too large");
  return number;
}

export function outputToProto(chunk: OutputChunk): Init<typeof OutputSchema> {
  return {
    stream: streamNumbers[chunk.stream],
    offset: BigInt(chunk.offset),
    data: chunk.data,
    dropped: BigInt(chunk.dropped),
    end: chunk.end,
  };
}

export function openedToProto(attachment: Attachment, process: ProcessInfo, heartbeatMs: number): Response {
  const oldest: { [stream: number]: bigint } = {};
  for (const [name, offset] of attachment.oldest) oldest[streamNumbers[name]] = BigInt(offset);
  return {
    message: {
      case: "opened",
      value: {
        process: processInfoToProto(process),
        inputOffset: BigInt(attachment.inputOffset),
        oldest,
        heartbeatInterval: durationFromMs(heartbeatMs),
      },
    },
  };
}

export function attachmentEventToProto(event: Exclude<AttachmentEvent, { kind: "input_lost" }>): Response {
  switch (event.kind) {
    case "output":
      return { message: { case: "output", value: outputToProto(event.chunk) } };
    case "input_ack":
      return { message: { case: "inputAck", value: { offset: BigInt(event.offset), closed: event.closed } } };
  }
}

export function exitToProto(exit: ExitStatus): Response {
  return { message: { case: "exit", value: exitStatusToProto(exit) } };
}
