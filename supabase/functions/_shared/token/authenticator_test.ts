import assert from "node:assert/strict";
import { ApiError } from "../http/error.ts";
import { readSettings } from "../settings.ts";
import {
  base64Url,
  type Claims,
  claims,
  type Header,
  hmac,
  ISSUER,
  now,
  OTHER_USER,
  pair,
  SECRET,
  sign,
  USER,
} from "../testing/sign.ts";
import { Authenticator } from "./authenticator.ts";
import { REFRESH, type Refresh } from "./key_set.ts";

type Variables = Record<string, string>;

function authenticator(variables: Variables, refresh: Refresh = REFRESH): Promise<Authenticator> {
  const all: Variables = {
    SUPABASE_URL: "http://127.0.0.1:1",
    SUPABASE_ANON_KEY: "anon",
    TWOTOWER_JWT_ISSUER: ISSUER,
    ...variables,
  };
  return Authenticator.create(readSettings((name) => all[name]), refresh);
}

/** Status of the refusal, or the user who is let in. */
async function ask(auth: Authenticator, ...authorization: string[]): Promise<number | string> {
  const headers = new Headers(authorization.map((value) => ["authorization", value]));
  try {
    const request = new Request("http://127.0.0.1/", { method: "POST", headers });
    return (await auth.authenticate(request, new AbortController().signal)).user;
  } catch (error) {
    assert.ok(error instanceof ApiError, `${error}`);
    const told =
      { 401: "a valid bearer token is required", 503: "tokens cannot be verified at the moment" }[error.status];
    assert.equal(error.message, told ?? error.message);
    return error.status;
  }
}

const published = await pair("RS256", "published");
const withSecret = await authenticator({
  TWOTOWER_JWT_SECRET: SECRET,
  SUPABASE_JWKS: JSON.stringify({ keys: [published.jwk] }),
});
const own = await hmac(SECRET);
const good = await sign(own);
const withClaims = (changes: Claims) => sign(own, claims(changes));
const withHeader = (header: Header) => sign(own, claims(), header);

function forged(header: Header, signature = good.split(".")[2]): string {
  return `${base64Url(JSON.stringify(header))}.${good.split(".")[1]}.${signature}`;
}

async function broken(): Promise<Record<string, string>> {
  const [header, payload, signature] = good.split(".");
  const other = base64Url(JSON.stringify(claims({ sub: OTHER_USER })));
  return {
    "no signature": `${header}.${payload}.`,
    "two parts": `${header}.${payload}`,
    "four parts": `${good}.x`,
    "one part": "token",
    "dots alone": "..",
    "padding": `${good}=`,
    "a leading dot": `.${good}`,
    "signature twice": good + signature,
    "header in capitals": `${header.toUpperCase()}.${payload}.${signature}`,
    "standard base64": `${header}.${payload}.${signature.slice(2)}/+`,
    "signature of another token": `${header}.${payload}.${(await withClaims({ sub: OTHER_USER })).split(".")[2]}`,
    "flipped signature": `${header}.${payload}.${signature.startsWith("A") ? "B" : "A"}${signature.slice(1)}`,
    "cut signature": good.slice(0, -4),
    "other payload": `${header}.${other}.${signature}`,
    "header is no JSON": `${base64Url("{")}.${payload}.${signature}`,
    "payload is no object": await sign(own, "[]"),
    "payload is no JSON": await sign(own, "{"),
    "payload is no UTF-8": `${header}.${base64Url(new Uint8Array([0x7b, 0xff, 0x7d]))}.${signature}`,
    "trailing bits": good.slice(0, -1) + neighbour(good.at(-1)!),
  };
}

/** The digit after, which differs in bits that stand for nothing at the end of 32 bytes. */
function neighbour(digit: string): string {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return digits[digits.indexOf(digit) + 1];
}

async function wrongHeaders(): Promise<Record<string, string>> {
  return {
    "alg none": forged({ alg: "none" }, ""),
    "alg None": forged({ alg: "None" }, ""),
    "alg none, signed": await withHeader({ alg: "none" }),
    "no alg": await withHeader({ alg: undefined }),
    "alg HS384": await withHeader({ alg: "HS384" }),
    "alg HS512": await withHeader({ alg: "HS512" }),
    "alg hs256": await withHeader({ alg: "hs256" }),
    "alg RS256 over HS256": await withHeader({ alg: "RS256" }),
    "alg ES256 over HS256": await withHeader({ alg: "ES256" }),
    "alg EdDSA over HS256": await withHeader({ alg: "EdDSA" }),
    "alg PS256 over HS256": await withHeader({ alg: "PS256" }),
    "alg HS256 over RS256": await sign(published.signer, claims(), { alg: "HS256", kid: "published" }),
    "kid of another key": await sign(published.signer, claims(), { kid: "other" }),
    "alg as a list": await withHeader({ alg: ["HS256"] }),
    "another secret": await sign(await hmac(new Uint8Array(32).fill(7))),
    "one byte of a secret": await sign(await hmac("x")),
    "critical extension": await withHeader({ crit: ["exp"] }),
    "jku": await withHeader({ jku: "http://127.0.0.1:1/jwks" }),
    "jwk": await withHeader({ jwk: {} }),
    "x5u": await withHeader({ x5u: "http://127.0.0.1:1/cert" }),
    "x5c": await withHeader({ x5c: ["AAAA"] }),
    "compressed": await withHeader({ zip: "DEF" }),
    "kid as a number": await withHeader({ kid: 1 }),
    "kid of 1 KiB": await withHeader({ kid: "k".repeat(1024) }),
    "kid that climbs": await withHeader({ kid: "../../etc/passwd" }),
    "kid that climbs in the middle": await withHeader({ kid: "keys/../../dev/null" }),
    "kid that climbs by another stroke": await withHeader({ kid: "..\\..\\windows" }),
    "kid that climbs in disguise": await withHeader({ kid: "%2e%2e/etc/passwd" }),
    "kid with NUL": await withHeader({ kid: "a\0b" }),
    "kid with a line break": await withHeader({ kid: "a\n" }),
    "kid with SQL": await withHeader({ kid: "' OR 1=1 --" }),
    "kid with a command": await withHeader({ kid: "a|id" }),
    "kid from right to left": await withHeader({ kid: "\u202ea" }),
    "typ as a number": await withHeader({ typ: 1 }),
  };
}

async function wrongClaims(): Promise<Record<string, string>> {
  const listed: Record<string, Claims> = {
    "expired": { exp: now() - 7 },
    "expired long ago": { exp: 1 },
    "no exp": { exp: null },
    "exp as text": { exp: `${now() + 600}` },
    "exp as a list": { exp: [now() + 600] },
    "exp negative": { exp: -1 },
    "not yet valid": { nbf: now() + 60 },
    "nbf as text": { nbf: "soon" },
    "no aud": { aud: null },
    "another aud": { aud: "anon" },
    "aud of an empty list": { aud: [] },
    "aud as a number": { aud: 1 },
    "aud with a space": { aud: "authenticated " },
    "no iss": { iss: null },
    "another iss": { iss: "https://evil.example" },
    "iss as a list": { iss: [ISSUER] },
    "no sub": { sub: null },
    "sub is no UUID": { sub: "1" },
    "sub is empty": { sub: "" },
    "sub is a number": { sub: 1 },
    "sub in braces": { sub: `{${USER}}` },
    "sub without hyphens": { sub: USER.replaceAll("-", "") },
    "sub of nobody": { sub: "00000000-0000-0000-0000-000000000000" },
    "sub with a space": { sub: ` ${USER}` },
    "sub with a line break": { sub: `${USER}\n` },
    "sub as a URN": { sub: `urn:uuid:${USER}` },
    "sub as a list": { sub: [USER] },
    "sub with SQL": { sub: "' OR 1=1 --" },
    "role as a number": { role: 1 },
    "role as a list": { role: ["service_role"] },
    "the anonymous key": { role: "anon", sub: null },
    "longer than 8 KiB": { junk: "x".repeat(8 * 1024) },
    "an expired token of the service": { role: "service_role", exp: 1 },
  };
  const tokens = Object.entries(listed).map(async ([what, changes]) => [what, await withClaims(changes)]);
  return {
    ...Object.fromEntries(await Promise.all(tokens)),
    "exp too large for a number": await sign(own, JSON.stringify(claims()).replace(/"exp":\d+/, '"exp":"1e999"')),
    "a forged token of the service": await sign(
      await hmac(new Uint8Array(32).fill(7)),
      claims({ role: "service_role" }),
    ),
  };
}

Deno.test("every bad token is refused", async () => {
  assert.equal(await ask(withSecret, `Bearer ${good}`), USER);
  const bad = { ...await broken(), ...await wrongHeaders(), ...await wrongClaims() };
  assert.ok(Object.keys(bad).length >= 70);
  for (const [what, token] of Object.entries(bad)) {
    assert.equal(await ask(withSecret, `Bearer ${token}`), 401, what);
  }
});

Deno.test("what is allowed is let in", async () => {
  const tokens = [
    await withClaims({ exp: now() - 3, nbf: now() + 3 }),
    await withClaims({ aud: ["other", "authenticated"] }),
    await withClaims({ exp: 4294967295.5 }),
    await withClaims({ role: null }),
    await withClaims({ sub: USER.toUpperCase() }),
    // As Supabase, Google, Amazon and others write theirs.
    await withHeader({ kid: "0b000000-0000-4000-8000-000000000001" }),
    await withHeader({ kid: "f81d4fae7dec11d0a76500a0c91e6bf6" }),
    await withHeader({ kid: "1LlZTd4E29FH9A3yA7MZ/W8xZ5aNmwD5m2QbKZKdIp+=" }),
    await withHeader({
      kid: "urn:ietf:params:oauth:jwk-thumbprint:sha-256:NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    }),
    await withHeader({ kid: "did:example:issuer#key-1" }),
    await withHeader({ kid: null }),
  ];
  for (const token of tokens) {
    assert.equal(await ask(withSecret, `Bearer ${token}`), USER);
  }
});

Deno.test("the header must be one bearer token", async () => {
  assert.equal(await ask(withSecret, `bearer ${good}`), USER);
  const wrong = [[], [""], ["Bearer"], ["Bearer "], ["Basic dXNlcjpwYXNz"], [good], [`Bearer  ${good}`], [
    `Bearer ${good} x`,
  ], [
    `Bearer ${good}`,
    `Bearer ${good}`,
  ]];
  for (const values of wrong) {
    assert.equal(await ask(withSecret, ...values), 401, values.join("|"));
  }
});

/**
 * A token that acts for the application names no user, even if it has a `sub`: it must not become
 * somebody by accident.
 */
Deno.test("a token of the service role is nobody's", async () => {
  for (const sub of [USER, null, "x"]) {
    assert.equal(await ask(withSecret, `Bearer ${await withClaims({ role: "service_role", sub })}`), 403);
  }
  for (const role of ["service_role ", "SERVICE_ROLE", "editor"]) {
    assert.equal(await ask(withSecret, `Bearer ${await withClaims({ role })}`), USER, role);
  }
});

Deno.test("each kind of key verifies its own tokens", async () => {
  const [ec, rsa, ed, stranger] = await Promise.all([
    pair("ES256", "ec"),
    pair("RS256", "rsa"),
    pair("EdDSA", "ed"),
    pair("ES256", "ec"),
  ]);
  const unusable = [
    { kty: "EC", crv: "P-521", kid: "p521", x: "AA", y: "AA" },
    { ...ec.jwk, kid: "enc", use: "enc" },
    7,
    {
      ...rsa.jwk,
      kid: "short",
      n: rsa.jwk.n!.slice(100),
    },
  ];
  const auth = await authenticator({ SUPABASE_JWKS: JSON.stringify({ keys: [...unusable, ec.jwk, rsa.jwk, ed.jwk] }) });
  for (const [kid, { signer }] of Object.entries({ ec, rsa, ed })) {
    assert.equal(await ask(auth, `Bearer ${await sign(signer, claims(), { kid })}`), USER, kid);
    assert.equal(await ask(auth, `Bearer ${await sign(signer)}`), USER, `${kid} without a key id`);
  }
  assert.equal(await ask(auth, `Bearer ${await sign(ec.signer, claims(), { kid: "rsa" })}`), 401, "another key's id");
  assert.equal(await ask(auth, `Bearer ${await sign(stranger.signer, claims(), { kid: "ec" })}`), 401);
  assert.equal(await ask(auth, `Bearer ${await sign(ec.signer, claims(), { alg: "RS256" })}`), 401);
});

/** The classic: the public key, which everybody knows, used as the secret of an HS256 token. */
Deno.test("a public key is no shared secret", async () => {
  const rsa = await pair("RS256", "rsa");
  const auth = await authenticator({
    SUPABASE_JWKS: JSON.stringify({ keys: [rsa.jwk] }),
    TWOTOWER_JWT_SECRET: SECRET,
  });
  for (const secret of [JSON.stringify(rsa.jwk), rsa.jwk.n!]) {
    assert.equal(await ask(auth, `Bearer ${await sign(await hmac(secret), claims(), { kid: "rsa" })}`), 401);
  }
});

Deno.test("a shared secret may stand in the environment's set", async () => {
  const secret = crypto.getRandomValues(new Uint8Array(32));
  const keys = [{ kty: "oct", kid: "s", alg: "HS256", k: base64Url(secret) }];
  const auth = await authenticator({ SUPABASE_JWKS: JSON.stringify({ keys }) });
  assert.equal(await ask(auth, `Bearer ${await sign(await hmac(secret), claims(), { kid: "s" })}`), USER);
});

/** Nothing but that a set was read tells an issuer without keys from one that is away. */
Deno.test("tokens of an issuer without keys are refused, and of one that is away are not judged", async () => {
  const signer = (await pair("ES256", "ec")).signer;
  const token = await sign(signer, claims(), { kid: "ec" });
  const away = await authenticator({});
  assert.equal(await ask(away, `Bearer ${token}`), 503);
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    return Response.json({ keys: [] });
  });
  const without = await authenticator({ SUPABASE_JWKS: `http://127.0.0.1:${server.addr.port}/jwks?apikey=s3cret` });
  const headers = { authorization: `Bearer ${token}` };
  const request = new Request("http://127.0.0.1/", { method: "POST", headers });
  await assert.rejects(
    without.authenticate(request, new AbortController().signal),
    (error) =>
      error instanceof ApiError && error.status === 401 &&
      error.reason === `the set of public keys at http://127.0.0.1:${server.addr.port}/jwks holds no usable key`,
  );
});

/**
 * A key without an id verifies tokens whatever their key id, so that none of them needs a fetch
 * once it is held.
 */
Deno.test("a key without an id needs no fetch", async () => {
  const { signer, jwk } = await pair("ES256", "none");
  const { kid: _, ...published } = jwk as Record<string, unknown>;
  const next = await pair("EdDSA", "next");
  let keys: unknown[] = [published], requests = 0, hangs = false;
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async () => {
    requests++;
    if (hangs) {
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    return Response.json({ keys });
  });
  const refresh = { ...REFRESH, minIntervalMs: 0, patienceMs: 50 };
  const variables = { SUPABASE_JWKS: `http://127.0.0.1:${server.addr.port}/jwks` };
  const auth = await authenticator(variables, refresh);
  const token = (kid: string) => sign(signer, claims(), { kid });
  assert.equal(await ask(auth, `Bearer ${await token("x")}`), USER, "fetched for the first token");
  assert.equal(requests, 1);
  hangs = true;
  for (const kid of ["x", "y", "z"]) {
    assert.equal(await ask(auth, `Bearer ${await token(kid)}`), USER);
  }
  assert.equal(requests, 1);
  // A token that no held key verifies still causes a fetch, by which keys are rotated. Its request
  // must wait for the fetch however slow this machine is.
  hangs = false;
  const patient = await authenticator(variables, { ...refresh, patienceMs: REFRESH.deadlineMs });
  assert.equal(await ask(patient, `Bearer ${await token("x")}`), USER);
  keys = [published, next.jwk];
  assert.equal(await ask(patient, `Bearer ${await sign(next.signer, claims(), { kid: "next" })}`), USER);
});
