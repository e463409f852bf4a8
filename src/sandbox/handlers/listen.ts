import type { Handler } from "../../engine/loop.js";
import { deferred } from "../../engine/verdict.js";
import type { Mediator } from "../engine/mediator.js";
import type { EngineSandbox } from "../engine/sandbox.js";
import type { PortRange } from "../model.js";
import { refusalOf } from "./addressed.js";

const EACCES = 13;
const EVERY_PORT: PortRange = { first: 1, last: 65_535 };

/**
 * `listen`: a TCP socket that was never bound would get a port of the kernel's choice, which no rule of Landlock sees. It is
 * done by the keeper with a duplicate of the socket, so that no other can take its place meanwhile; a Unix
 * socket's clients therefore see the keeper's process id, and the program's user, as its peer.
 */
export function listenHandler(mediator: Mediator): Handler<EngineSandbox> {
  return {
    shapes: [],
    handle(call, sandbox) {
      const { keeper, policy } = sandbox;
      if (keeper === undefined) return { kind: "errno", errno: EACCES };
      const socket = mediator.takeSocket(call, call.int(0));
      if (typeof socket === "number") return { kind: "errno", errno: refusalOf(socket) };
      const rules = policy.network.bind.filter(({ transport }) => transport === "tcp");
      const ports = rules.flatMap((rule) => (rule.ports.length === 0 ? [EVERY_PORT] : rule.ports));
      const backlog = call.int(1);
      const waiting = mediator.defer(call);
      keeper.listen(socket.fd, backlog, ports, (result) =>
        waiting.answer(result.ok ? { kind: "value", value: 0 } : { kind: "errno", errno: result.errno }),
      );
      return deferred;
    },
  };
}
