import { randomUUID } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import { type ErrorCode, SandboxError } from "../base/errors.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";
import { ErrorReason, type ProblemSchema } from "../gen/sandgate/v1/common_pb.js";

/** The package that gives an ErrorInfo's reason its meaning. */
export const errorDomain = "sandgate.v1";

const statuses: Readonly<Record<ErrorCode, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  failed_precondition: status.FAILED_PRECONDITION,
  aborted: status.ABORTED,
  out_of_range: status.OUT_OF_RANGE,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  permission_denied: status.PERMISSION_DENIED,
  unauthenticated: status.UNAUTHENTICATED,
  unavailable: status.UNAVAILABLE,
  unimplemented: status.UNIMPLEMENTED,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  internal: status.INTERNAL,
};

/** Where the details of a failed call travel. */
const detailsKey = "grpc-status-details-bin";
/** HTTP/2 peers bound their header lists, and a trailer that does not fit loses the whole status. */
const maxMessageLength = 2048;

/** Told of a bug: an error that is no refusal. The client gets `correlationId` and nothing else of it. */
export type ReportBug = (correlationId: string, error: unknown) => void;

function cut(text: string): string {
  return text.length <= maxMessageLength ? text : `${text.slice(0, maxMessageLength)}…`;
}

/** What a client may learn of an error that is no refusal. */
function concealed(correlationId: string, error: unknown): SandboxError {
  return new SandboxError("internal", `the service failed; its log has more under ${correlationId}`, {
    reason: "SERVICE_FAILED",
    metadata: { correlation_id: correlationId },
    cause: error,
  });
}

/** The refusal that a client gets for `error`; a bug is reported first. */
export function refusalOf(error: unknown, report: ReportBug): SandboxError {
  if (error instanceof SandboxError) return error;
  const correlationId = randomUUID();
  report(correlationId, error);
  return concealed(correlationId, error);
}

function detailsOf(refusal: SandboxError): Uint8Array {
  const { reason, metadata, field, retryDelayMs } = refusal;
  const message = cut(refusal.message);
  const details = [
    anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: errorDomain, metadata: { ...metadata } })),
  ];
  if (field !== undefined) {
    const violation = { field, description: message, reason };
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [violation] })));
  }
  if (retryDelayMs !== undefined) {
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(retryDelayMs) })));
  }
  return toBinary(StatusSchema, create(StatusSchema, { code: statuses[refusal.code], message, details }));
}

/** The gRPC status of a failed call, with its typed details in the trailers. */
export function statusOf(error: unknown, report: ReportBug): StatusObject {
  const refusal = refusalOf(error, report);
  const metadata = new Metadata();
  metadata.set(detailsKey, Buffer.from(detailsOf(refusal)));
  return { code: statuses[refusal.code], details: cut(refusal.message), metadata };
}

/** The same for one item of a stream or batch. What is no refusal tells the client only that the service failed. */
export function problemOf(error: unknown): MessageInitShape<typeof ProblemSchema> {
  const refusal = error instanceof SandboxError ? error : concealed(randomUUID(), error);
  const { code, reason, metadata, field, retryDelayMs } = refusal;
  return {
    code: statuses[code],
    message: cut(refusal.message),
    reason: ErrorReason[reason],
    metadata: { ...metadata },
    field: field ?? "",
    ...(retryDelayMs === undefined ? {} : { retryDelay: durationFromMs(retryDelayMs) }),
  };
}
