import { fromBase64Url } from "../base64.ts";

/** Longer tokens are refused before anything of them is decoded. */
const MAX_TOKEN_CHARS = 8 * 1024;
/**
 * The characters that issuers use in key ids: UUIDs, hexadecimal digits, base64 of either alphabet,
 * names and addresses. An id is only compared with those of our keys, so others, such as `../`,
 * would do no harm, but no issuer of ours writes them.
 */
const KEY_ID = /^(?!.*\.\.)[A-Za-z0-9\-_.~+/=:@#]{0,256}$/;

/** Each algorithm is verified only by keys of its own kind. */
export type Algorithm = "ES256" | "RS256" | "EdDSA" | "HS256";
const ALGORITHMS: unknown[] = ["ES256", "RS256", "EdDSA", "HS256"] satisfies Algorithm[];

/**
 * The decoded parts of a token (JWS compact serialisation, RFC 7515), before its signature is
 * verified.
 */
export interface Jws {
  readonly algorithm: Algorithm;
  readonly keyId: string | null;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly signature: Uint8Array<ArrayBuffer>;
  /** The signed bytes. */
  readonly signed: Uint8Array<ArrayBuffer>;
}

/** Parses a token, or returns the reason why it is refused. */
export function parseJws(token: string): Jws | string {
  if (token.length > MAX_TOKEN_CHARS) {
    return "the token is longer than 8 KiB";
  }
  const parts = token.split(".");
  const [header, payload, signature] = parts.map(fromBase64Url);
  if (parts.length !== 3 || !header || !payload || !signature || signature.length === 0) {
    return "the token is not made of three parts";
  }
  const fields = parseObject(header);
  if (fields === null || !supported(fields)) {
    return "the token's header cannot be read or asks for what is not supported";
  }
  return {
    algorithm: fields.alg as Algorithm,
    keyId: (fields.kid ?? null) as string | null,
    payload,
    signature,
    signed: new TextEncoder().encode(token.slice(0, token.lastIndexOf("."))),
  };
}

/** The JSON object in these bytes, or `null`. */
export function parseObject(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Record<string, unknown>
      : null;
  } catch {
    return null;
  }
}

/**
 * Whether a header has only what tokens of our issuer have. Keys and addresses in a header (`jwk`,
 * `jku`, …) are never used, and a token with one, or with a critical extension, is refused.
 */
function supported(header: Record<string, unknown>): boolean {
  const refused = ["crit", "jwk", "jku", "x5u", "x5c", "enc", "zip"];
  const { alg, kid, typ } = header;
  return ALGORITHMS.includes(alg) &&
    (typ === undefined || typeof typ === "string") &&
    (kid === undefined || kid === null || typeof kid === "string" && KEY_ID.test(kid)) &&
    refused.every((name) => header[name] === undefined || header[name] === null);
}
