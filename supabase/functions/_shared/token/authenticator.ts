import { ApiError, forbidden, unauthorized, unavailable } from "../http/error.ts";
import type { Settings } from "../settings.ts";
import { AuthServer } from "./auth_server.ts";
import { type Expected, subjectOf } from "./claims.ts";
import { type Jws, parseJws, parseObject } from "./jws.ts";
import { isSigned, type Key, secretKey } from "./key.ts";
import { parseKeySet, REFRESH, type Refresh, RemoteKeys } from "./key_set.ts";

/** The user of a valid token, and that token, under which the database is queried. */
export interface Caller {
  readonly user: string;
  readonly token: string;
}

/**
 * Identifies the caller, by nothing but a bearer token that one of the issuer's keys has signed.
 */
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
    // Public keys in the environment are those of the last deployment; the address may have newer
    // ones.
    const published = given.filter((key) => key.algorithm !== "HS256");
    if (published.length > 0) {
      remote.seed(published);
    }
    return new Authenticator(settings, own, remote);
  }

  /** The user of the token in the `Authorization` header. Throws `ApiError`. */
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
    // Before the signature, which may need a fetch. Claims that pass are not trusted until the
    // signature is verified.
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
    // Auth knows only users.
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
    // Before any fetch, so that a token is not refused meanwhile that a held key without an id
    // verifies.
    if (await isSigned(jws, held)) {
      return;
    }
    const known = held.length > 0 && (jws.keyId === null || held.some((key) => key.id === jws.keyId));
    if (known) {
      throw unauthorized("no key accepts the token");
    }
    if (!await this.#remote.lookForUnknown()) {
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

/**
 * The token of a header `Authorization: Bearer <token>`. Several headers arrive as one, joined by
 * commas, and are refused.
 */
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
