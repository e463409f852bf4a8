import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ServerService } from "../gen/sandgate/v1/server_pb.js";
import { callerToProto } from "./auth.js";
import { type BoundService, bindService } from "./bridge.js";

/** One thing the service can use, and whether this host has it. */
export interface HostFeature {
  readonly name: string;
  readonly available: boolean;
  /** What was found, such as a version. */
  readonly detail: string;
  /** What to do about it when it is missing; empty when nothing can be done, or need be. */
  readonly remedy: string;
}

/** What GetServerInfo tells of the server; it does not change while the server runs. */
export interface ServerFacts {
  readonly version: string;
  /** Names this run; equals the epoch of its cursors. */
  readonly epoch: string;
  readonly kernelRelease: string;
  readonly landlockAbi: number;
  /** Optional parts of the API that are available here. */
  readonly features: readonly string[];
  readonly protections: ReadonlyMap<string, boolean>;
  readonly holdableSyscalls: readonly string[];
  readonly host: readonly HostFeature[];
  readonly limits: {
    readonly maxMessageBytes: number;
    readonly maxHoldMs: number;
    readonly maxSandboxes: number;
    readonly maxWindow: number;
    readonly requestIdRetentionMs: number;
    readonly journalEvents: number;
  };
}

export function bindServerService(facts: ServerFacts): BoundService {
  const { limits } = facts;
  return bindService(ServerService, {
    async getServerInfo(_request, { caller }) {
      return {
        version: facts.version,
        epoch: facts.epoch,
        kernelRelease: facts.kernelRelease,
        landlockAbi: facts.landlockAbi,
        features: [...facts.features],
        protections: Object.fromEntries(facts.protections),
        holdableSyscalls: [...facts.holdableSyscalls],
        host: facts.host.map((feature) => ({ ...feature })),
        limits: {
          maxMessageBytes: limits.maxMessageBytes,
          maxHold: durationFromMs(limits.maxHoldMs),
          maxSandboxes: limits.maxSandboxes,
          maxWindow: limits.maxWindow,
          requestIdRetention: durationFromMs(limits.requestIdRetentionMs),
          journalEvents: BigInt(limits.journalEvents),
        },
        caller: callerToProto(caller),
      };
    },
  });
}
