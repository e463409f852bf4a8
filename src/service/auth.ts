import { createHash, timingSafeEqual } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { SandboxError } from "../base/errors.js";
import { AuthMethod, CallerRole, type CallerSchema } from "../gen/sandgate/v1/server_pb.js";

/** What a caller may do, each including those before it. */
export type Role = "observer" | "restrictor" | "decider" | "operator" | "admin";

/** Who makes a call, as the server saw it; nothing in a request can change it. */
export interface Caller {
  /** `uid:N` for the peer of a Unix socket, `token:NAME` for a bearer of a token, `anonymous` otherwise. */
  readonly identity: string;
  readonly tenant: string;
  readonly method: "peer_credentials" | "token" | "none";
  readonly roles: readonly Role[];
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Finds out who makes a call, from the connection's peer and the call's `authorization` metadata. */
export type Authenticate = (peer: string, authorization: string | undefined) => Caller;

/** One socket is one owner's, so all who may connect to it share its sandboxes. */
const soleTenant = "local";
const everyRole: readonly Role[] = ["observer", "restrictor", "decider", "operator", "admin"];

/** What a connection over a Unix socket reports as its peer. No address of another transport looks like it. */
export function peerNameOf(credentials: PeerCredentials): string {
  return `uid:${credentials.uid}`;
}

/** For a Unix socket, whose peers were admitted when they connected. */
export const authenticatePeer: Authenticate = (peer) => {
  if (!/^uid:\d+$/.test(peer)) throw new SandboxError("unauthenticated", "the connection has no peer credentials");
  return { identity: peer, tenant: soleTenant, method: "peer_credentials", roles: everyRole };
};

export type TcpAuthentication =
  /** Each call carries `authorization: Bearer TOKEN`. */
  | { readonly kind: "token"; readonly name: string; readonly token: string }
  /** Whoever can reach the port, which on loopback is every user of the machine, has every right. */
  | { readonly kind: "none" };

export function authenticateTcp(authentication: TcpAuthentication): Authenticate {
  if (authentication.kind === "none") {
    return () => ({ identity: "anonymous", tenant: soleTenant, method: "none", roles: everyRole });
  }
  // Digests have equal lengths, which a comparison in constant time needs.
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digest(`Bearer ${authentication.token}`);
  return (_peer, authorization) => {
    if (authorization === undefined || !timingSafeEqual(digest(authorization), expected)) {
      throw new SandboxError("unauthenticated", "the call needs the server's token as authorization: Bearer TOKEN");
    }
    return { identity: `token:${authentication.name}`, tenant: soleTenant, method: "token", roles: everyRole };
  };
}

const methods: Readonly<Record<Caller["method"], AuthMethod>> = {
  peer_credentials: AuthMethod.PEER_CREDENTIALS,
  token: AuthMethod.TOKEN,
  none: AuthMethod.UNSPECIFIED,
};

const roleNumbers: Readonly<Record<Role, CallerRole>> = {
  observer: CallerRole.OBSERVER,
  restrictor: CallerRole.RESTRICTOR,
  decider: CallerRole.DECIDER,
  operator: CallerRole.OPERATOR,
  admin: CallerRole.ADMIN,
};

/** For GetServerInfo. */
export function callerToProto(caller: Caller): MessageInitShape<typeof CallerSchema> {
  const { identity, tenant, method, roles } = caller;
  return { identity, tenant, method: methods[method], roles: roles.map((role) => roleNumbers[role]) };
}
