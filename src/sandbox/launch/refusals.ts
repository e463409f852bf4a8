/** Refusals and remarks of a plan, with the field that they are about. */
import { SandboxError } from "../../base/errors.js";

export function cannotEnforce(field: string, what: string): SandboxError {
  return new SandboxError("failed_precondition", `${field}: ${what} cannot be enforced in this version`, {
    reason: "PROTECTION_UNAVAILABLE",
    field,
  });
}

export function noted(field: string, message: string): SandboxError {
  return new SandboxError("failed_precondition", `${field}: ${message}`, { reason: "PROTECTION_UNAVAILABLE", field });
}
