import { ApiError, erased, forbidden, internal, timeout, unauthorized, unavailable } from "../http/error.ts";
import type { Settings } from "../settings.ts";

/** The credentials with which a function of the database is called. */
export type Credentials = { readonly token: string } | "service";

/**
 * A function of the database refuses its arguments (SQLSTATE 22023). They come from this code, so
 * this is a defect, or another model version has become active.
 */
export class RefusedArguments extends ApiError {
  constructor() {
    super(500, "internal", "something went wrong on our side", "the database refuses the arguments");
  }
}

/** Calls functions of the database through PostgREST. */
export class Rest {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /**
   * Calls `public.name(parameters)` and returns the parsed result; `null` for a function that
   * returns nothing. Throws `ApiError`.
   */
  async call(
    name: string,
    parameters: Record<string, unknown>,
    credentials: Credentials,
    signal: AbortSignal,
  ): Promise<unknown> {
    try {
      const response = await fetch(`${this.#settings.url}/rest/v1/rpc/${name}`, {
        method: "POST",
        headers: { ...this.#keys(credentials), "content-type": "application/json" },
        body: JSON.stringify(parameters),
        redirect: "error",
        signal,
      });
      const text = await response.text();
      if (!response.ok) {
        throw refusal(response.status, text, name, credentials);
      }
      return text === "" ? null : JSON.parse(text);
    } catch (error) {
      throw translated(error, signal, name);
    }
  }

  #keys(credentials: Credentials): Record<string, string> {
    if (credentials !== "service") {
      return { apikey: this.#settings.publishableKey, authorization: `Bearer ${credentials.token}` };
    }
    if (this.#settings.secretKey === null) {
      throw internal("set SUPABASE_SECRET_KEYS or SUPABASE_SERVICE_ROLE_KEY: the service key is needed here");
    }
    return serviceHeaders(this.#settings.secretKey);
  }
}

/**
 * The legacy service key is a JWT and goes into both headers. The new kind is not, and the gateway
 * replaces it with a token.
 */
export function serviceHeaders(secretKey: string): Record<string, string> {
  return secretKey.startsWith("sb_")
    ? { apikey: secretKey }
    : { apikey: secretKey, authorization: `Bearer ${secretKey}` };
}

function translated(error: unknown, signal: AbortSignal, name: string): ApiError {
  if (error instanceof ApiError) {
    return error;
  }
  if (signal.aborted) {
    return signal.reason instanceof ApiError ? signal.reason : timeout("the database");
  }
  return error instanceof SyntaxError
    ? unavailable(`PostgREST answers ${name} with what is no JSON`)
    : unavailable(`PostgREST cannot be reached for ${name}`);
}

/** Converts an error response of PostgREST, whose `code` is a SQLSTATE or `PGRST…`. */
function refusal(status: number, text: string, name: string, credentials: Credentials): ApiError {
  const code = codeOf(text);
  if (code === "PT403") {
    return erased();
  }
  // A role that does not exist has the same SQLSTATE, but status 401.
  if (status === 400 && code === "22023") {
    return new RefusedArguments();
  }
  if (code === "57014" || status === 504) {
    return timeout("the database");
  }
  if (code === "PGRST202") {
    return unavailable(`the database has no function ${name} with these parameters: apply supabase/migrations`);
  }
  if (status === 401 || status === 403) {
    return credentials === "service"
      // The key is ours, so the caller can do nothing about it.
      ? unavailable(`PostgREST refuses the service key for ${name} (${code})`)
      : refusedToken(status, name, code);
  }
  return unavailable(`PostgREST answers ${name} with ${status} (${code})`);
}

/**
 * The gateway and PostgREST verify the token again, with keys of their own. Status 403 means a
 * valid token of a role without the right.
 */
function refusedToken(status: 401 | 403, name: string, code: string): ApiError {
  return status === 401
    ? unauthorized(`PostgREST refuses the token for ${name} (${code})`)
    : forbidden("the token's role may not ask for this", `the token's role has no right to ${name} (${code})`);
}

function codeOf(text: string): string {
  try {
    const code: unknown = JSON.parse(text)?.code;
    return typeof code === "string" && /^[A-Z0-9]{1,10}$/.test(code) ? code : "no code";
  } catch {
    return "no code";
  }
}
