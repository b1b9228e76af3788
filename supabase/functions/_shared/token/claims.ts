/** Largest allowed difference between the clocks of issuer and function, seconds. */
const LEEWAY_S = 5;

/** The `role` of tokens that act for the application itself, and for no user. */
const SERVICE_ROLE = "service_role";

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
const NOBODY = "00000000-0000-0000-0000-000000000000";

/** The claims that a token must have. */
export interface Expected {
  readonly issuer: string | null;
  readonly audience: string;
}

/**
 * The bearer that the claims name, or why they are refused. `service`: a token of the service role,
 * whatever its `sub`.
 */
export type Subject = { kind: "user"; user: string } | { kind: "service" } | { kind: "refused"; reason: string };

/** Checks claims at `nowS`, seconds since 1970. */
export function subjectOf(claims: Record<string, unknown>, expected: Expected, nowS: number): Subject {
  const { exp, nbf, iss, aud, role, sub } = claims;
  const refused = (reason: string): Subject => ({ kind: "refused", reason });
  if (typeof exp !== "number" || !(exp >= nowS - LEEWAY_S)) {
    return refused("the token has expired or does not say when it will");
  }
  if (nbf !== undefined && nbf !== null && (typeof nbf !== "number" || !(nbf <= nowS + LEEWAY_S))) {
    return refused("the token is not valid yet");
  }
  if (!(aud === expected.audience || Array.isArray(aud) && aud.includes(expected.audience))) {
    return refused("the token is for another audience");
  }
  if (expected.issuer !== null && iss !== expected.issuer) {
    return refused("the token is of another issuer");
  }
  if (role !== undefined && role !== null && typeof role !== "string") {
    return refused("the token's role is no text");
  }
  if (role === SERVICE_ROLE) {
    return { kind: "service" };
  }
  if (typeof sub !== "string" || !UUID.test(sub) || sub === NOBODY) {
    return refused("the token's sub is no user id");
  }
  return { kind: "user", user: sub.toLowerCase() };
}
