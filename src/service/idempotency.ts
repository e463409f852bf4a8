import { createHash } from "node:crypto";
import { invalidField, SandboxError } from "../base/errors.js";

/** Remembers the answers of mutations by tenant, method and request id. */
export interface Idempotency {
  /**
   * Runs `act` once per request id: a repetition gets the first answer, also while that is still being
   * made. Failures are not remembered, so that a retry tries again. Throws `invalid_argument` for an empty
   * id where one is required, and `already_exists` when the id came with another request before.
   */
  once<T>(key: RequestKey, act: () => Promise<T>): Promise<T>;
}

export interface RequestKey {
  readonly tenant: string;
  readonly method: string;
  readonly requestId: string;
  /** The request's bytes. */
  readonly payload: Uint8Array;
  readonly required: boolean;
}

export interface IdempotencyOptions {
  readonly retentionMs: number;
  /** Answers remembered at most; the oldest go first. */
  readonly capacity: number;
}

interface Entry {
  readonly digest: string;
  readonly answer: Promise<unknown>;
  readonly expireMs: number;
}

const MAX_REQUEST_ID = 128;

export function createIdempotency({ retentionMs, capacity }: IdempotencyOptions): Idempotency {
  // A Map keeps insertion order, so its first entries are the oldest.
  const entries = new Map<string, Entry>();

  function prune(nowMs: number): void {
    for (const [key, entry] of entries) {
      if (entry.expireMs > nowMs && entries.size < capacity) return;
      entries.delete(key);
    }
  }

  return {
    once<T>({ tenant, method, requestId, payload, required }: RequestKey, act: () => Promise<T>): Promise<T> {
      if (requestId === "") {
        if (required)
          throw invalidField("request_id", "must not be empty: repeating a request with the same id is then safe");
        return act();
      }
      if (requestId.length > MAX_REQUEST_ID) throw invalidField("request_id", `at most ${MAX_REQUEST_ID} characters`);
      prune(performance.now());
      const key = [tenant, method, requestId].join("\0");
      const digest = createHash("sha256").update(payload).digest("base64");
      const known = entries.get(key);
      if (known !== undefined) {
        if (known.digest === digest) return known.answer as Promise<T>;
        throw new SandboxError(
          "already_exists",
          `request_id ${JSON.stringify(requestId)} was used for another request`,
          {
            reason: "REQUEST_ID_REUSED",
            field: "request_id",
          },
        );
      }
      const answer = act();
      entries.set(key, { digest, answer, expireMs: performance.now() + retentionMs });
      answer.catch(() => entries.delete(key));
      return answer;
    },
  };
}
