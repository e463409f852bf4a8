import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { Metadata, status } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";

/** The name of a gRPC status code, such as `NOT_FOUND`. */
export type StatusName = keyof typeof status;

export interface RemoteErrorDetails {
  /** An ErrorReason name of the API without its prefix; empty when the failure did not come from the service. */
  readonly reason: string;
  /** The request field at fault, as a path; empty when none is. */
  readonly field: string;
  /** The variable parts of the message, by name. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryDelayMs: number | undefined;
}

const noDetails: RemoteErrorDetails = { reason: "", field: "", metadata: {}, retryDelayMs: undefined };

/** A call that failed, as the server or the transport says. */
export class RemoteError extends Error implements RemoteErrorDetails {
  override readonly name = "RemoteError";
  readonly code: StatusName;
  readonly reason: string;
  readonly field: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryDelayMs: number | undefined;

  constructor(code: StatusName, message: string, details: RemoteErrorDetails = noDetails, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.reason = details.reason;
    this.field = details.field;
    this.metadata = details.metadata;
    this.retryDelayMs = details.retryDelayMs;
  }
}

/** Reads the typed details of a failed call. What cannot be read is as though it were not there. */
function detailsOf(metadata: Metadata | undefined): RemoteErrorDetails {
  const bytes = metadata?.get("grpc-status-details-bin")[0];
  if (!(bytes instanceof Uint8Array)) return noDetails;
  try {
    const { details } = fromBinary(StatusSchema, bytes);
    let found = noDetails;
    for (const detail of details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info !== undefined) found = { ...found, reason: info.reason, metadata: info.metadata };
      const request = anyUnpack(detail, BadRequestSchema);
      if (request !== undefined) found = { ...found, field: request.fieldViolations[0]?.field ?? "" };
      const retry = anyUnpack(detail, RetryInfoSchema);
      if (retry?.retryDelay !== undefined) found = { ...found, retryDelayMs: durationMs(retry.retryDelay) };
    }
    return found;
  } catch {
    return noDetails;
  }
}

/** The typed form of whatever a grpc-js call failed with. */
export function remoteErrorOf(error: unknown): RemoteError {
  if (error instanceof RemoteError) return error;
  const { code, details, message, metadata } = error as {
    code?: unknown;
    details?: unknown;
    message?: unknown;
    metadata?: unknown;
  };
  const name = typeof code === "number" ? (status[code] as StatusName | undefined) : undefined;
  const text = typeof details === "string" && details !== "" ? details : String(message ?? error);
  return new RemoteError(
    name ?? "UNKNOWN",
    text,
    detailsOf(metadata instanceof Metadata ? metadata : undefined),
    error,
  );
}
