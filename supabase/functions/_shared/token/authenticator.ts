import { ApiError, forbidden, unauthorized, unavailable } from "../http/error.ts";
import type { Settings } from "../settings.ts";
import { AuthServer } from "./auth_server.ts";
import { type Expected, subjectOf } from "./claims.ts";
import { type Jws, parseJws, parseObject } from "./jws.ts";
import { isSigned, type Key, secretKey } from "./key.ts";
import { parseKeySet, REFRESH, type Refresh, RemoteKeys } from "./key_set.ts";

/** A user whose token holds, with that token: the database is asked under it. */
export interface Caller {
  readonly user: string;
  readonly token: string;
}

/** Finds out who is calling: a bearer token that one of the issuer's keys has signed, and nothing else, names the user. */
export class Authenticator {
  readonly #expected: Expected;
  readonly #own: readonly Key[];
  readonly #remote: RemoteKeys;
  readonly #authServer: AuthServer;

  private constructor(settings: Settings, own: readonly Key[], remote: RemoteKeys) {
    this.#expected = settings.tokens;
    this.#own = own;
    this.#remote = remote;
    this.#authServer = new AuthServer(settings.url, settings.publishableKey);
  }

  static async create(settings: Settings, refresh: Refresh = REFRESH): Promise<Authenticator> {
    const { jwks, jwksUrl, secret } = settings.tokens;
    const own: Key[] = [];
    if (secret !== null) {
      own.push(await secretKey(new TextEncoder().encode(secret)));
    }
    const remote = new RemoteKeys(jwksUrl, refresh);
    const given = jwks === null ? [] : await parseKeySet(jwks, true) ?? [];
    own.push(...given.filter((key) => key.algorithm === "HS256"));
    // Public keys of the environment are those of the last deployment: newer ones are at the address.
    const published = given.filter((key) => key.algorithm !== "HS256");
    if (published.length > 0) {
      remote.seed(published);
    }
    return new Authenticator(settings, own, remote);
  }

  /** The user that the request's `Authorization` header names. Throws `ApiError`. */
  async authenticate(request: Request, signal: AbortSignal): Promise<Caller> {
    const token = bearer(request.headers);
    const jws = parseJws(token);
    if (typeof jws === "string") {
      throw unauthorized(jws);
    }
    const claims = parseObject(jws.payload);
    if (claims === null) {
      throw unauthorized("the token's payload cannot be read");
    }
    // Before the signature, which may take a fetch: whatever these claims say, only a signature makes them count.
    const subject = subjectOf(claims, this.#expected, Date.now() / 1000);
    if (subject.kind === "refused") {
      throw unauthorized(subject.reason);
    }
    if (jws.algorithm === "HS256" && !this.#own.some((key) => key.algorithm === "HS256")) {
      return await this.#askAuth(subject, token, signal);
    }
    await this.#verify(jws);
    if (subject.kind === "service") {
      throw serviceToken();
    }
    return { user: subject.user, token };
  }

  async #askAuth(subject: ReturnType<typeof subjectOf>, token: string, signal: AbortSignal): Promise<Caller> {
    // Auth knows users alone.
    const stated = subject.kind === "user" ? subject.user : null;
    const user = await this.#authServer.user(token, signal);
    if (user !== stated) {
      throw unauthorized("Auth names another user than the token");
    }
    return { user, token };
  }

  async #verify(jws: Jws): Promise<void> {
    if (await isSigned(jws, this.#own)) {
      return;
    }
    if (jws.algorithm === "HS256") {
      throw unauthorized("no key accepts the token");
    }
    const held = this.#remote.keys;
    const known = held.length > 0 && (jws.keyId === null || held.some((key) => key.id === jws.keyId));
    if (!known && !await this.#remote.lookForUnknown()) {
      throw cannotVerify("the token's key is not known, and the keys are being fetched");
    }
    if (this.#remote.keys.length === 0) {
      throw this.#remote.isRead
        ? unauthorized(`the set of public keys at ${this.#remote.place} holds no usable key`)
        : cannotVerify("no public key could be fetched yet");
    }
    if (!await isSigned(jws, this.#remote.keys)) {
      throw unauthorized("no key accepts the token");
    }
  }
}

/** The token of a header `Authorization: Bearer <token>`. Several headers arrive as one, joined by commas, and are none. */
function bearer(headers: Headers): string {
  const value = headers.get("authorization");
  if (value === null) {
    throw unauthorized("no Authorization header");
  }
  const token = /^bearer ([^\s,]+)$/i.exec(value)?.[1];
  if (token === undefined) {
    throw unauthorized("the Authorization header is not one `Bearer <token>`");
  }
  return token;
}

function serviceToken(): ApiError {
  return forbidden("this address is for users, and the token is one of the service role");
}

function cannotVerify(reason: string): ApiError {
  return unavailable(reason, "tokens cannot be verified at the moment");
}
