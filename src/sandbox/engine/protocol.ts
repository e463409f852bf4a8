/**
 * What crosses between the main thread and the engine thread: structured clones, in batches, in order.
 * The main thread posts, then signals the wake event; the engine posts once per turn.
 */

import type { Grant, HeldCall, Settlement } from "../model.js";
import type { EnginePolicy } from "../policy/engine-policy.js";
import type { NameTable } from "../policy/network.js";
import type { AutomaticSettlement } from "../ports.js";
import type { LaunchId, WardenMessage } from "../warden/messages.js";

/** Handed to the worker at its start. The descriptors change hands. */
export interface EngineStart {
  /** The engine's end of the warden's socket. */
  readonly wardenFd: number;
  /** The engine's end of the tracer's socket. */
  readonly tracerFd: number;
  readonly wakeFd: number;
  readonly spinUs: number;
  /** Shared: how many records of settled calls the main thread has taken. */
  readonly recordsTaken: SharedArrayBuffer;
  /** Whether settled calls are counted. */
  readonly countSettled: boolean;
}

export type ToEngine =
  /** Before a launch is sent to the warden: what the engine must know when it is ready. */
  | {
      readonly kind: "expect";
      readonly launchId: LaunchId;
      readonly sandboxId: string;
      readonly processId: string;
      readonly policy: EnginePolicy;
      readonly names: NameTable;
      /** The news of its start may come a moment later, together with that of its end. */
      readonly startMayWait: boolean;
    }
  /** Likewise for one more process of a sandbox. */
  | {
      readonly kind: "expect_exec";
      readonly launchId: LaunchId;
      readonly sandboxLaunchId: LaunchId;
      readonly processId: string;
    }
  | { readonly kind: "settle"; readonly holdId: number; readonly settlement: Settlement }
  | { readonly kind: "add_grant"; readonly sandboxLaunchId: LaunchId; readonly grant: Grant }
  | { readonly kind: "remove_grant"; readonly sandboxLaunchId: LaunchId; readonly grantId: string }
  /** Replaces the content of a file that the sandbox is shown. */
  | {
      readonly kind: "show_file";
      readonly sandboxLaunchId: LaunchId;
      /** Among the files of its plan that may change. */
      readonly index: number;
      readonly content: Uint8Array;
    }
  /** What the names in its rules stand for from now on, whole. */
  | { readonly kind: "names"; readonly sandboxLaunchId: LaunchId; readonly names: NameTable }
  /** Answered by `signalled`. */
  | {
      readonly kind: "signal_all";
      readonly sandboxLaunchId: LaunchId;
      readonly signal: number;
      readonly requestId: number;
    }
  | { readonly kind: "stop" };

export type FromEngine =
  | { readonly kind: "warden"; readonly message: Exclude<WardenMessage, { kind: "ready" }> }
  | { readonly kind: "warden_ended" }
  | { readonly kind: "held"; readonly call: HeldCall }
  /** The call of a hold vanished, or its last deadline passed. */
  | { readonly kind: "gone"; readonly holdId: number }
  | { readonly kind: "automatic"; readonly settled: AutomaticSettlement }
  /** Records that the main thread had no room for since the last such message, by sandbox. */
  | { readonly kind: "records_lost"; readonly bySandbox: ReadonlyMap<string, number> }
  /** Calls settled by the engine itself since the last such message, by source and outcome with a space between. */
  | { readonly kind: "settled"; readonly counts: ReadonlyMap<string, number> }
  /** A grant reached its last use or its end. */
  | { readonly kind: "grant_ended"; readonly grantId: string }
  /** Uses of grants since the last such message, by grant id. */
  | { readonly kind: "grants_used"; readonly uses: ReadonlyMap<string, number> }
  | { readonly kind: "signalled"; readonly requestId: number; readonly errno: number }
  /** The engine can no longer mediate for this sandbox: it must be killed. */
  | { readonly kind: "lost"; readonly sandboxLaunchId: LaunchId; readonly message: string }
  /** A bug or a lost race; the call was refused. */
  | { readonly kind: "error"; readonly sandboxId: string; readonly message: string; readonly stack: string };
