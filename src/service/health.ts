import { SandboxError } from "../base/errors.js";
import { createDeferred, untilAborted } from "../base/signals.js";
import { Health, HealthCheckResponse_ServingStatus as Serving } from "../gen/grpc/health/v1/health_pb.js";
import { type BoundService, bindService } from "./bridge.js";

/** The standard health service. All services of one server are well or ill together. */
export interface HealthService {
  readonly service: BoundService;
  setServing(serving: boolean): void;
}

/** `services` are full names; the empty name is the server. */
export function createHealthService(services: readonly string[]): HealthService {
  const known = new Set(["", Health.typeName, ...services]);
  let serving = true;
  let changed = createDeferred();
  const statusOf = (): Serving => (serving ? Serving.SERVING : Serving.NOT_SERVING);

  const service = bindService(
    Health,
    {
      async check({ service: name }) {
        if (!known.has(name)) throw new SandboxError("not_found", `this server has no service ${JSON.stringify(name)}`);
        return { status: statusOf() };
      },
      async *watch({ service: name }, { signal }) {
        for (;;) {
          const change = changed.promise;
          yield { status: known.has(name) ? statusOf() : Serving.SERVICE_UNKNOWN };
          await untilAborted(change, signal);
        }
      },
    },
    { openEnded: ["watch"] },
  );

  return {
    service,
    setServing(now) {
      if (now === serving) return;
      serving = now;
      const before = changed;
      changed = createDeferred();
      before.resolve();
    },
  };
}
