/** Every attack: a line each. `classes.ts` beside this has the lines; this says what a line is. */
import type { Shape, Targets } from "./shapes.js";

export interface Attack {
  /** What is tried, as the end of the sentence "is kept from …". */
  readonly what: string;
  /** The attempt in test/guests/attack, with its arguments. */
  readonly args: (targets: Targets) => readonly string[];
  /** Only root, without a sandbox, can do it. */
  readonly needsRoot?: true;
  /** Outcomes without a sandbox, besides success, of kernels that were built without it. */
  readonly lacking?: readonly string[];
  /** The only acceptable outcome inside, where not any failure is. */
  readonly held?: string;
  /** Shapes whose policy grants just this, so that it is no attack there. */
  readonly granted?: readonly Shape[];
  /** Severity 3, and listed with this reason in docs/threat-model.md: it may succeed. */
  readonly accepted?: string;
  /** A weakness that is known: where it still gets out, the test says so and is pending. */
  readonly known?: string;
}

export interface AttackClass {
  readonly name: string;
  readonly attacks: readonly Attack[];
}
