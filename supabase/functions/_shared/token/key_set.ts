import { jwkKey, type Key } from "./key.ts";

/** More keys than this are no set of an issuer but an attempt to make us work. */
const MAX_KEYS = 32;
const MAX_BYTES = 256 * 1024;

/** How often keys at an address are asked for, in milliseconds. */
export interface Refresh {
  /** A token that names an unknown key makes us ask again, but no more often than this. */
  readonly minIntervalMs: number;
  /** Keys are asked for again after this time, so that one that its issuer has withdrawn is forgotten. */
  readonly maxAgeMs: number;
  /** For one answer of the issuer. */
  readonly deadlineMs: number;
  /** How long a request waits for a key that it names and that is not known. */
  readonly patienceMs: number;
}

export const REFRESH: Refresh = { minIntervalMs: 60_000, maxAgeMs: 600_000, deadlineMs: 5000, patienceMs: 500 };

/** The usable keys of a set, which may be none; one of another kind is passed over. `null` if the text is no set. */
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

  /** `now` gives milliseconds that never run backwards. */
  constructor(
    readonly url: string,
    readonly pace: Refresh = REFRESH,
    readonly now: () => number = () => performance.now(),
  ) {}

  /** The keys held now; those that have grown old are asked for again meanwhile. */
  get keys(): readonly Key[] {
    if (this.#keys.length > 0 && this.now() - this.#success >= this.pace.maxAgeMs) {
      this.#begin();
    }
    return this.#keys;
  }

  /** Whether a set was read at all, be it without a usable key. */
  get isRead(): boolean {
    return this.#success !== -Infinity;
  }

  /** The address without what may be secret of it: user information and query. */
  get place(): string {
    const { origin, pathname } = new URL(this.url);
    return origin + pathname;
  }

  /** Keys that came from elsewhere and count as fetched now. */
  seed(keys: readonly Key[]): void {
    this.#keys = keys;
    this.#success = this.now();
  }

  /** Looks for a key that a token names and that is not held, and not too often. False if it is not known in time. */
  async lookForUnknown(): Promise<boolean> {
    const fetching = this.#begin();
    if (fetching === null) {
      return true;
    }
    // While no set was read nothing else can be done; later on, anybody can name a key that does not exist.
    const patienceMs = this.isRead ? this.pace.patienceMs : this.pace.deadlineMs;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), patienceMs));
    try {
      return await Promise.race([fetching.then(() => true), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The fetch under way, or a new one if it is time for one. */
  #begin(): Promise<void> | null {
    if (this.#fetching === null && this.now() - this.#attempt >= this.pace.minIntervalMs) {
      this.#attempt = this.now();
      this.#fetching = this.#fetch().finally(() => this.#fetching = null);
    }
    return this.#fetching;
  }

  /** Keeps the old keys if no set can be read; one without a usable key takes them away, as an issuer means it that withdraws the last one. */
  async #fetch(): Promise<void> {
    try {
      // The address is configuration, and where it points to must not be able to change it.
      const response = await fetch(this.url, { redirect: "error", signal: AbortSignal.timeout(this.pace.deadlineMs) });
      const text = response.ok ? await readText(response, MAX_BYTES) : null;
      const keys = text === null ? null : await parseKeySet(text, false);
      if (keys !== null) {
        this.seed(keys);
      }
    } catch {
      // Late, refused or cut off: there is a next time.
    }
  }
}

/** The text of an answer, or `null` past `limit` bytes. */
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
