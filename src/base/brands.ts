import { invalidField } from "./errors.js";

declare const brand: unique symbol;
type Brand<Value, Name extends string> = Value & { readonly [brand]: Name };

/** 1 to 64 characters of `[A-Za-z0-9._-]`, not beginning with `.` or `-`: safe in a path and in a label. */
export type SandboxId = Brand<string, "SandboxId">;
/** As `SandboxId`. The main process is `main`. */
export type ProcessId = Brand<string, "ProcessId">;

const idPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

function checkId(text: string, field: string): void {
  if (!idPattern.test(text)) {
    throw invalidField(field, 'must be 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", and begin with neither "." nor "-"');
  }
}

/** Throws `invalid_argument` at `field` unless `text` is a well-formed id. */
export function parseSandboxId(text: string, field = "sandbox_id"): SandboxId {
  checkId(text, field);
  return text as SandboxId;
}

/** Throws `invalid_argument` at `field` unless `text` is a well-formed id. */
export function parseProcessId(text: string, field = "process_id"): ProcessId {
  checkId(text, field);
  return text as ProcessId;
}
