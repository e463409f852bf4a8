/** What kind of refusal a caller gets. `src/service/status.ts` maps each to one gRPC status. */
export type ErrorCode =
  | "invalid_argument"
  | "not_found"
  | "already_exists"
  | "failed_precondition"
  | "aborted"
  | "out_of_range"
  | "resource_exhausted"
  | "permission_denied"
  | "unauthenticated"
  | "unavailable"
  | "unimplemented"
  | "deadline_exceeded"
  | "cancelled"
  | "internal";

/** For programs; each equals an `ErrorReason` of the API without its prefix. */
export type ErrorReason =
  | "UNSPECIFIED"
  | "PROTECTION_UNAVAILABLE"
  | "EXEC_FAILED"
  | "REQUEST_ID_REUSED"
  | "VERDICT_LATE"
  | "TARGET_GONE"
  | "CEILING_EXCEEDED"
  | "LEASE_HELD"
  | "CURSOR_COMPACTED"
  | "CURSOR_EPOCH_CHANGED"
  | "READER_TOO_SLOW"
  | "QUOTA_EXHAUSTED"
  | "WRONG_STATE"
  | "DRAINING"
  | "INVALID_FIELD"
  | "POLICY_CONTRADICTION"
  | "LAUNCH_FAILED"
  | "SANDBOX_NOT_FOUND"
  | "PROCESS_NOT_FOUND"
  | "HOLD_NOT_FOUND"
  | "SANDBOX_EXISTS"
  | "NOT_IMPLEMENTED"
  | "SERVICE_FAILED"
  | "NAME_UNRESOLVED";

export interface ErrorDetails {
  readonly reason?: ErrorReason;
  /** The request field at fault, as a path such as `spec.network.allow[0].host`. */
  readonly field?: string;
  /** The variable parts of the message, by name. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryDelayMs?: number;
  readonly cause?: unknown;
}

/** A refusal to the caller. Failures of the program are answers, and bugs are other errors. */
export class SandboxError extends Error {
  override readonly name = "SandboxError";
  readonly code: ErrorCode;
  readonly reason: ErrorReason;
  readonly field: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryDelayMs: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.reason = details.reason ?? "UNSPECIFIED";
    this.field = details.field;
    this.metadata = details.metadata ?? {};
    this.retryDelayMs = details.retryDelayMs;
  }
}

/** `invalid_argument` at one field. */
export function invalidField(
  field: string,
  message: string,
  metadata: Readonly<Record<string, string>> = {},
): SandboxError {
  return new SandboxError("invalid_argument", `${field}: ${message}`, { reason: "INVALID_FIELD", field, metadata });
}
