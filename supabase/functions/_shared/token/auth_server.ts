import { timeout, unauthorized, unavailable } from "../http/error.ts";

/** Deadline of one answer of Auth. */
const DEADLINE_MS = 5000;

/**
 * Asks Auth for the user of a token, in projects whose tokens are signed with a secret that the
 * function does not have.
 */
export class AuthServer {
  constructor(readonly url: string, readonly publishableKey: string) {}

  /** The id of the token's user. Throws `ApiError`. */
  async user(token: string, signal: AbortSignal): Promise<string> {
    const response = await this.#ask(token, signal);
    if (response.status >= 500 || response.status === 429) {
      await response.body?.cancel();
      throw unavailable(`Auth answers ${response.status}`, "tokens cannot be verified at the moment");
    }
    if (!response.ok) {
      await response.body?.cancel();
      throw unauthorized("Auth refuses the token");
    }
    const user = await response.json().catch(() => null) as { id?: unknown } | null;
    if (typeof user?.id !== "string") {
      throw unavailable("Auth answers without an id", "tokens cannot be verified at the moment");
    }
    return user.id.toLowerCase();
  }

  async #ask(token: string, signal: AbortSignal): Promise<Response> {
    try {
      return await fetch(`${this.url}/auth/v1/user`, {
        headers: { apikey: this.publishableKey, authorization: `Bearer ${token}` },
        redirect: "error",
        signal: AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]),
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "TimeoutError" || signal.aborted) {
        throw timeout("Auth");
      }
      throw unavailable("Auth cannot be reached", "tokens cannot be verified at the moment");
    }
  }
}
