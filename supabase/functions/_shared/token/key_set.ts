import { jwkKey, type Key } from "./key.ts";

/** Most keys read of a set. No issuer has more; a set that does is an attempt to waste our time. */
const MAX_KEYS = 32;
const MAX_BYTES = 256 * 1024;

/** How often keys at an address are fetched, and deadlines, in milliseconds. */
export interface Refresh {
  /** Shortest time between two fetches. A token with an unknown key id causes one. */
  readonly minIntervalMs: number;
  /**
   * Keys are fetched again after this time, so that a key is forgotten that its issuer has
   * withdrawn.
   */
  readonly maxAgeMs: number;
  /** Deadline of one fetch. */
  readonly deadlineMs: number;
  /** How long a request with an unknown key id waits for a fetch. */
  readonly patienceMs: number;
}

export const REFRESH: Refresh = { minIntervalMs: 60_000, maxAgeMs: 600_000, deadlineMs: 5000, patienceMs: 500 };

/**
 * The usable keys of a set, possibly none; keys of other kinds are ignored. `null` if the text is
 * not a set.
 */
export async function parseKeySet(text: string, symmetric: boolean): Promise<Key[] | null> {
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    return null;
  }
  const listed = (set as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(listed)) {
    return null;
  }
  const objects = listed.slice(0, MAX_KEYS).filter((jwk) => typeof jwk === "object" && jwk !== null);
  const keys = await Promise.all(objects.map((jwk) => jwkKey(jwk, symmetric)));
  return keys.filter((key) => key !== null);
}

/** Public keys at an address, kept in memory of the isolate. */
export class RemoteKeys {
  #keys: readonly Key[] = [];
  #attempt = -Infinity;
  #success = -Infinity;
  #fetching: Promise<void> | null = null;

  /** `now` returns milliseconds of a monotonic clock. */
  constructor(
    readonly url: string,
    readonly pace: Refresh = REFRESH,
    readonly now: () => number = () => performance.now(),
  ) {}

  /** The current keys. If they are too old, a fetch begins in the background. */
  get keys(): readonly Key[] {
    if (this.#keys.length > 0 && this.now() - this.#success >= this.pace.maxAgeMs) {
      this.#begin();
    }
    return this.#keys;
  }

  /** Whether a set was ever read, even one without a usable key. */
  get isRead(): boolean {
    return this.#success !== -Infinity;
  }

  /** The address without its possibly secret parts: user information and query. */
  get place(): string {
    const { origin, pathname } = new URL(this.url);
    return origin + pathname;
  }

  /** Sets keys from another source, which count as fetched now. */
  seed(keys: readonly Key[]): void {
    this.#keys = keys;
    this.#success = this.now();
  }

  /**
   * Fetches the keys for a token with an unknown key id, within the rate limit. False if the fetch
   * does not end in time.
   */
  async lookForUnknown(): Promise<boolean> {
    const fetching = this.#begin();
    if (fetching === null) {
      return true;
    }
    // Until a set was read, no token can be verified. Later, anybody can name a key that does not
    // exist, so the wait is short.
    const patienceMs = this.isRead ? this.pace.patienceMs : this.pace.deadlineMs;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), patienceMs));
    try {
      return await Promise.race([fetching.then(() => true), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The fetch under way, or a new one if one is due. */
  #begin(): Promise<void> | null {
    if (this.#fetching === null && this.now() - this.#attempt >= this.pace.minIntervalMs) {
      this.#attempt = this.now();
      this.#fetching = this.#fetch().finally(() => this.#fetching = null);
    }
    return this.#fetching;
  }

  /**
   * Keeps the old keys if no set can be read. A set without a usable key removes them, so that an
   * issuer can withdraw its last key.
   */
  async #fetch(): Promise<void> {
    try {
      // The address is configuration, and its server must not be able to change it.
      const response = await fetch(this.url, { redirect: "error", signal: AbortSignal.timeout(this.pace.deadlineMs) });
      const text = response.ok ? await readText(response, MAX_BYTES) : null;
      const keys = text === null ? null : await parseKeySet(text, false);
      if (keys !== null) {
        this.seed(keys);
      }
    } catch {
      // Late, refused or cut off. The next fetch may succeed.
    }
  }
}

/** The text of an answer, or `null` if it has more than `limit` bytes. */
export async function readText(response: Response, limit: number): Promise<string | null> {
  const decoder = new TextDecoder();
  let text = "", size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > limit) {
      return null;
    }
    text += decoder.decode(piece, { stream: true });
  }
  return text + decoder.decode();
}
