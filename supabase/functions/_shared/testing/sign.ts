/** Tokens and keys for tests. */

export const SECRET = "a test's secret, known to everybody who reads this";
export const USER = "0b000000-0000-4000-8000-000000000001";
export const OTHER_USER = "0b000000-0000-4000-8000-000000000002";
export const ISSUER = "https://issuer.example/auth/v1";

export type Claims = Record<string, unknown>;
export type Header = Record<string, unknown>;

/** Signs the bytes of a token. */
export interface Signer {
  readonly algorithm: string;
  sign(bytes: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer>;
}

/** Seconds since 1970. */
export function now(): number {
  return Math.floor(Date.now() / 1000);
}

/** Valid claims with `changes`; `null` removes a claim. */
export function claims(changes: Claims = {}): Claims {
  const all = { sub: USER, aud: "authenticated", exp: now() + 600, role: "authenticated", iss: ISSUER, ...changes };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
}

export function base64Url(bytes: Uint8Array | ArrayBuffer | string): string {
  const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : new Uint8Array(bytes);
  const binary = Array.from(data, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export async function hmac(secret: string | Uint8Array<ArrayBuffer>): Promise<Signer> {
  const bytes = typeof secret === "string" ? new TextEncoder().encode(secret) : secret;
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return { algorithm: "HS256", sign: (data) => crypto.subtle.sign("HMAC", key, data) };
}

/** A new key pair: one key signs, the other is published as `kid`. */
export async function pair(
  algorithm: "ES256" | "RS256" | "EdDSA",
  kid: string,
): Promise<{ signer: Signer; jwk: JsonWebKey }> {
  const rsa = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" };
  const parameters = {
    ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
    RS256: { name: "RSASSA-PKCS1-v1_5", ...rsa },
    EdDSA: { name: "Ed25519" },
  }[algorithm];
  const keys = await crypto.subtle.generateKey(parameters, true, ["sign", "verify"]) as CryptoKeyPair;
  const exported = await crypto.subtle.exportKey("jwk", keys.publicKey);
  const jwk = { ...exported, kid, alg: algorithm, use: "sig" } as JsonWebKey;
  return { signer: { algorithm, sign: (data) => crypto.subtle.sign(parameters, keys.privateKey, data) }, jwk };
}

/** A token. `header` changes its header, except for the signer's algorithm. */
export async function sign(signer: Signer, payload: Claims | string = claims(), header: Header = {}): Promise<string> {
  const text = typeof payload === "string" ? payload : JSON.stringify(payload);
  const signed = `${base64Url(JSON.stringify({ alg: signer.algorithm, typ: "JWT", ...header }))}.${base64Url(text)}`;
  return `${signed}.${base64Url(await signer.sign(new TextEncoder().encode(signed)))}`;
}
