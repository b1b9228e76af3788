import type { Answer } from "./answer.ts";

/** How long an answer may be given again, milliseconds. */
export const KEEP_MS = 5 * 60 * 1000;

/**
 * At most this many characters of JSON in one isolate, of one or two bytes each: more than 500
 * answers of ten videos. The least recently used answers make room.
 */
const MAX_CHARACTERS = 1_000_000;

interface Kept {
  /** The answer as JSON, which is several times smaller than the parsed objects. */
  readonly text: string;
  /** The state that it was made from. */
  readonly state: string;
  readonly madeAtMs: number;
}

/** A kept answer, and the state that it was made from. */
export interface Earlier {
  readonly state: string;
  answer(): Answer;
}

/**
 * The answers that this isolate gave in the last minutes: a first-level cache in front of the
 * table.
 *
 * Whether an answer may be given again depends on the state that the database returns for the
 * request, so an answer is never older than the user's latest like.
 */
export class Answers {
  readonly #kept = new Map<string, Kept>();
  #characters = 0;

  constructor(readonly now: () => number = Date.now, readonly maxCharacters = MAX_CHARACTERS) {}

  /** The latest answer to `cacheKey` for `user`, whatever state it was made from. */
  latest(user: string, cacheKey: string): Earlier | null {
    const key = nameOf(user, cacheKey);
    const kept = this.#remove(key);
    if (kept === undefined || this.now() - kept.madeAtMs >= KEEP_MS) {
      return null;
    }
    this.#add(key, kept);
    return { state: kept.state, answer: () => JSON.parse(kept.text) };
  }

  keep(user: string, cacheKey: string, answer: Answer, state: string): void {
    const key = nameOf(user, cacheKey);
    const madeAtMs = Math.min(Date.parse(answer.generated_at), this.now());
    this.#remove(key);
    this.#add(key, { text: JSON.stringify(answer), state, madeAtMs });
    for (const oldest of this.#kept.keys()) {
      if (this.#characters <= this.maxCharacters) {
        break;
      }
      this.#remove(oldest);
    }
  }

  /** Forgets all answers of a user. */
  forget(user: string): void {
    for (const key of this.#kept.keys()) {
      if (key.startsWith(nameOf(user, ""))) {
        this.#remove(key);
      }
    }
  }

  /** Adds the entry as the most recently used one. */
  #add(key: string, kept: Kept): void {
    this.#kept.set(key, kept);
    this.#characters += kept.text.length;
  }

  #remove(key: string): Kept | undefined {
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#kept.delete(key);
      this.#characters -= kept.text.length;
    }
    return kept;
  }
}

/**
 * The key of an entry. All user ids have the same length, so no key of one user is a prefix of
 * another user's.
 */
function nameOf(user: string, cacheKey: string): string {
  return `${user} ${cacheKey}`;
}
