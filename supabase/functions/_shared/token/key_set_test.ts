import assert from "node:assert/strict";
import { parseJws } from "./jws.ts";
import { isSigned } from "./key.ts";
import { REFRESH, RemoteKeys } from "./key_set.ts";
import { base64Url, claims, pair, sign } from "../testing/sign.ts";

type Behaviour = (keys: unknown[]) => Response | Promise<Response>;

/** An issuer whose answers a test chooses, and a clock that it turns. */
class Issuer implements AsyncDisposable {
  requests = 0;
  nowMs = 0;
  keys: unknown[] = [];
  behaviour: Behaviour = (keys) => Response.json({ keys });
  readonly #server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    this.requests++;
    return this.behaviour(this.keys);
  });

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/jwks`;
  }

  remote(changes = {}): RemoteKeys {
    return new RemoteKeys(this.url, { ...REFRESH, ...changes }, () => this.nowMs);
  }

  async [Symbol.asyncDispose]() {
    await this.#server.shutdown();
  }
}

Deno.test("a set is fetched once, again for an unknown key a minute later, and again when it is old", async () => {
  await using issuer = new Issuer();
  const [first, second] = await Promise.all([pair("ES256", "first"), pair("EdDSA", "second")]);
  issuer.keys = [first.jwk];
  const remote = issuer.remote();
  await Promise.all(Array.from({ length: 20 }, () => remote.lookForUnknown()));
  assert.deepEqual(remote.keys.map((key) => key.id), ["first"]);
  assert.equal(issuer.requests, 1, "one fetch, however many ask");

  issuer.keys = [first.jwk, second.jwk];
  assert.equal(await remote.lookForUnknown(), true);
  assert.equal(issuer.requests, 1, "not twice in a minute");
  issuer.nowMs += REFRESH.minIntervalMs;
  await remote.lookForUnknown();
  assert.deepEqual(remote.keys.map((key) => key.id), ["first", "second"]);
  const jws = parseJws(await sign(second.signer, claims(), { kid: "second" }));
  assert.ok(typeof jws !== "string" && await isSigned(jws, remote.keys));

  issuer.keys = [second.jwk];
  issuer.nowMs += REFRESH.maxAgeMs;
  assert.equal(remote.keys.length, 2, "requests go on with those held");
  await remote.lookForUnknown();
  assert.deepEqual(remote.keys.map((key) => key.id), ["second"], "a withdrawn key is forgotten");
});

/**
 * An issuer that has lost its keys publishes none, and whoever has stolen one is not to be let in
 * with it for ever.
 */
Deno.test("the last key can be withdrawn, too", async () => {
  await using issuer = new Issuer();
  const [stolen, next] = await Promise.all([pair("ES256", "stolen"), pair("ES256", "next")]);
  const remote = issuer.remote();
  const ids = async () => {
    issuer.nowMs += REFRESH.minIntervalMs;
    await remote.lookForUnknown();
    return remote.keys.map((key) => key.id);
  };
  const unusable = [{ kty: "oct", kid: "stolen", k: base64Url("x".repeat(32)) }, { ...stolen.jwk, use: "enc" }];
  for (const withdrawn of [[], unusable]) {
    issuer.keys = [stolen.jwk];
    assert.deepEqual(await ids(), ["stolen"]);
    issuer.keys = withdrawn;
    assert.deepEqual(await ids(), []);
    issuer.behaviour = () => new Response(null, { status: 500 });
    assert.deepEqual(await ids(), [], "what cannot be read brings none back");
    issuer.behaviour = (keys) => Response.json({ keys });
  }
  issuer.keys = [next.jwk];
  assert.deepEqual(await ids(), ["next"]);
});

Deno.test("whatever an issuer does, the keys held stay", async () => {
  await using elsewhere = new Issuer();
  await using issuer = new Issuer();
  const held = await pair("ES256", "held");
  issuer.keys = elsewhere.keys = [held.jwk];
  const remote = issuer.remote({ deadlineMs: 200, patienceMs: 100 });
  await remote.lookForUnknown();
  const behaviours: Record<string, Behaviour> = {
    nonsense: () => new Response('{"keys":'),
    null: () => Response.json(null),
    error: () => Response.json({ keys: [] }, { status: 500 }),
    redirect: () => Response.redirect(elsewhere.url),
    huge: (keys) => Response.json({ keys, junk: "x".repeat(1 << 20) }),
    hang: () => new Promise((resolve) => setTimeout(() => resolve(new Response()), 400)),
  };
  for (const [what, behaviour] of Object.entries(behaviours)) {
    issuer.behaviour = behaviour;
    issuer.nowMs += REFRESH.minIntervalMs;
    const known = await remote.lookForUnknown();
    assert.equal(known, what !== "hang", what);
    assert.deepEqual(remote.keys.map((key) => [key.id, key.algorithm]), [["held", "ES256"]], what);
  }
  assert.equal(elsewhere.requests, 0, "redirects are not followed");
  // What hangs is given up by its own deadline.
  await new Promise((resolve) => setTimeout(resolve, 500));
});
