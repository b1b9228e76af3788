import { fromBase64Url } from "../base64.ts";
import type { Algorithm, Jws } from "./jws.ts";

/**
 * Bits of an RSA modulus and of its exponent, both odd, as `twotower serve` accepts them: fewer are
 * too easily factored.
 */
const RSA_MODULUS_BITS = { least: 2048, most: 4096 };
const RSA_EXPONENT_BITS = { least: 2, most: 33 };

/** Least bytes of a shared secret: shorter ones are guessed too easily (RFC 7518, section 3.2). */
const MIN_SECRET_BYTES = 32;

/**
 * A key with its one algorithm. A token's header can exclude a key but never choose its algorithm.
 */
export interface Key {
  readonly id: string | null;
  readonly algorithm: Algorithm;
  readonly key: CryptoKey;
}

/** A key of a set (RFC 7517). */
type Jwk = Record<string, unknown>;

const IMPORT = {
  ES256: { name: "ECDSA", namedCurve: "P-256" },
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  EdDSA: { name: "Ed25519" },
  HS256: { name: "HMAC", hash: "SHA-256" },
} as const;

const VERIFY = { ...IMPORT, ES256: { name: "ECDSA", hash: "SHA-256" } } as const;

/** The key of tokens signed with a secret (HS256). */
export async function secretKey(bytes: Uint8Array<ArrayBuffer>, id: string | null = null): Promise<Key> {
  const key = await crypto.subtle.importKey("raw", bytes, IMPORT.HS256, false, ["verify"]);
  return { id, algorithm: "HS256", key };
}

/**
 * A key of a set, or `null` if its kind is not ours. `symmetric` allows shared secrets, for sets
 * that only we can read.
 */
export async function jwkKey(jwk: Jwk, symmetric: boolean): Promise<Key | null> {
  const { kid, use, key_ops, alg } = jwk;
  const kind = kindOf(jwk, symmetric);
  const id = typeof kid === "string" ? kid : null;
  const verifies = use === undefined || use === "sig";
  const mayVerify = key_ops === undefined || Array.isArray(key_ops) && key_ops.includes("verify");
  if (kind === null || !verifies || !mayVerify || alg !== undefined && alg !== kind.algorithm) {
    return null;
  }
  try {
    if (kind.secret !== null) {
      return await secretKey(kind.secret, id);
    }
    const key = await crypto.subtle.importKey("jwk", kind.jwk, IMPORT[kind.algorithm], false, ["verify"]);
    return { id, algorithm: kind.algorithm, key };
  } catch {
    // The members have the right names, but their values are not a key.
    return null;
  }
}

interface Kind {
  readonly algorithm: Algorithm;
  /** Only the public members. */
  readonly jwk: JsonWebKey;
  readonly secret: Uint8Array<ArrayBuffer> | null;
}

function kindOf(jwk: Jwk, symmetric: boolean): Kind | null {
  const { kty, crv, x, y, n, e, k } = jwk as Record<string, string | undefined>;
  if (kty === "EC" && crv === "P-256") {
    return { algorithm: "ES256", jwk: { kty, crv, x, y }, secret: null };
  }
  if (kty === "RSA" && isOdd(n, RSA_MODULUS_BITS) && isOdd(e, RSA_EXPONENT_BITS)) {
    return { algorithm: "RS256", jwk: { kty, n, e }, secret: null };
  }
  if (kty === "OKP" && crv === "Ed25519") {
    return { algorithm: "EdDSA", jwk: { kty, crv, x }, secret: null };
  }
  if (kty === "oct" && symmetric && typeof k === "string") {
    const secret = fromBase64Url(k);
    return secret === null || secret.length < MIN_SECRET_BYTES ? null : { algorithm: "HS256", jwk: {}, secret };
  }
  return null;
}

/**
 * Whether a member is an odd number whose number of bits, without leading zeros, is within `bits`.
 */
function isOdd(member: unknown, bits: { readonly least: number; readonly most: number }): boolean {
  const bytes = typeof member === "string" ? fromBase64Url(member.replace(/=+$/, "")) : null;
  const first = bytes?.findIndex((byte) => byte !== 0) ?? -1;
  if (bytes === null || first < 0) {
    return false;
  }
  const length = 8 * (bytes.length - first) - Math.clz32(bytes[first]) + 24;
  return bytes[bytes.length - 1] % 2 === 1 && length >= bits.least && length <= bits.most;
}

/** Whether one of `keys` signed the token. */
export async function isSigned(jws: Jws, keys: readonly Key[]): Promise<boolean> {
  for (const key of keys) {
    if (key.algorithm !== jws.algorithm || key.id !== null && jws.keyId !== null && key.id !== jws.keyId) {
      continue;
    }
    if (await crypto.subtle.verify(VERIFY[key.algorithm], key.key, jws.signature, jws.signed)) {
      return true;
    }
  }
  return false;
}
