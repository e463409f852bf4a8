import type { DescService } from "@bufbuild/protobuf";
import { SandboxError } from "../base/errors.js";
import { type BoundService, bindService, type Handlers } from "./bridge.js";

/** A service whose every call is refused as not implemented: clients learn that from its status, not by its absence. */
export function bindUnimplemented(service: DescService): BoundService {
  const entries = service.methods.map((method) => {
    const refusal = (): SandboxError =>
      new SandboxError("unimplemented", `${method.name} is not implemented in this version`, {
        reason: "NOT_IMPLEMENTED",
        metadata: { method: `${service.typeName}/${method.name}` },
      });
    const answersOnce = method.methodKind === "unary" || method.methodKind === "client_streaming";
    const handler = answersOnce
      ? () => Promise.reject(refusal())
      : // biome-ignore lint/correctness/useYield: it has nothing to yield
        async function* () {
          throw refusal();
        };
    return [method.localName, handler] as const;
  });
  return bindService(service, Object.fromEntries(entries) as Handlers<DescService>);
}
