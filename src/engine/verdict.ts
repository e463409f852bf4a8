/**
 * Why a call may run as the caller issued it, although the caller can still change the memory that it
 * points to. There is no reason that says "we looked at that memory and liked it".
 */
export type ContinueReason =
  /** The decision used registers alone. */
  | "registers_only"
  /** The launcher's own execve, before any code of the program ran. */
  | "launch"
  /** What the kernel made of it is compared with what was judged before anything of it takes effect. */
  | "verified_after"
  /** A decider allowed a call whose arguments it was told are racy (`ArgumentIntegrity`). */
  | "accepted_race"
  /** The kernel's own rules (Landlock, the register filter) refuse everything that must be refused. */
  | "kernel_decides";

/** What the kernel is told about a notification. `deferred` comes back later through its `Deferred`. */
export type Verdict =
  | { readonly kind: "continue"; readonly because: ContinueReason }
  | { readonly kind: "errno"; readonly errno: number }
  | { readonly kind: "value"; readonly value: number }
  /** The call returns a new descriptor for `fd`, which changes hands with the verdict. */
  | { readonly kind: "fd"; readonly fd: number; readonly closeOnExec: boolean }
  | { readonly kind: "deferred" };

export const EPERM = 1;

export const deferred = { kind: "deferred" } as const satisfies Verdict;
export const refuse = { kind: "errno", errno: EPERM } as const satisfies Verdict;
