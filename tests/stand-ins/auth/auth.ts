import { type Keys, verified } from "../rest/token.ts";

/** Addresses under `/auth/v1`: the public keys, and the user of a token. See README.md. */
export function answer(path: string, bearer: string | null, keys: Keys): Response {
  if (path === "/.well-known/jwks.json") {
    return Response.json({ keys: keys.published });
  }
  if (path !== "/user") {
    return Response.json({ code: 404, msg: "this address is not stood in for" }, { status: 404 });
  }
  const claims = bearer === null ? null : verified(bearer, keys);
  if (claims === null || claims.role !== "authenticated") {
    return Response.json({ code: 403, error_code: "bad_jwt", msg: "invalid JWT" }, { status: 403 });
  }
  return Response.json({ id: claims.sub, aud: claims.aud, role: claims.role, email: "person@example" });
}
