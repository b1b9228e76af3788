import { createHmac, createPublicKey, type JsonWebKey, timingSafeEqual, verify } from "node:crypto";
import { Buffer } from "node:buffer";

/** What signs tokens. */
export interface Keys {
  /** Of HS256 tokens. */
  readonly secret: string | null;
  /** Public keys of ES256 and RS256 tokens. */
  readonly published: readonly (JsonWebKey & { kid?: string; alg?: string })[];
}

export type Claims = Record<string, unknown>;

/** The claims of a token that one of the keys signed and that has not expired, else `null`. Not the code that it helps to test. */
export function verified(token: string, keys: Keys): Claims | null {
  const [header, payload, signature, ...rest] = token.split(".");
  if (rest.length > 0 || !header || !payload || !signature) {
    return null;
  }
  const signed = Buffer.from(`${header}.${payload}`);
  const bytes = Buffer.from(signature, "base64url");
  try {
    const { alg, kid } = JSON.parse(Buffer.from(header, "base64url").toString());
    if (!isSigned(alg, kid, signed, bytes, keys)) {
      return null;
    }
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Claims;
    return typeof claims.exp === "number" && claims.exp < Date.now() / 1000 - 30 ? null : claims;
  } catch {
    return null;
  }
}

function isSigned(alg: unknown, kid: unknown, signed: Buffer, signature: Buffer, keys: Keys): boolean {
  if (alg === "HS256") {
    const expected = keys.secret === null ? null : createHmac("sha256", keys.secret).update(signed).digest();
    return expected !== null && expected.length === signature.length && timingSafeEqual(expected, signature);
  }
  const jwk = keys.published.find((key) => key.kid === kid && key.kty === (alg === "ES256" ? "EC" : "RSA"));
  if (jwk === undefined || alg !== "ES256" && alg !== "RS256") {
    return false;
  }
  const key = createPublicKey({ key: jwk, format: "jwk" });
  return verify("sha256", signed, { key, dsaEncoding: "ieee-p1363" }, signature);
}
