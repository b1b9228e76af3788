import type { Answer } from "./answer.ts";

/** How long an answer may be given again, in milliseconds. */
export const KEEP_MS = 5 * 60 * 1000;

/**
 * Characters of JSON that one isolate keeps, of one or two bytes each: 500 answers and more of ten videos. Those that were used longest
 * ago make room.
 */
const MAX_CHARACTERS = 1_000_000;

interface Kept {
  /** The answer as JSON: a few times smaller than the objects that it says. */
  readonly text: string;
  /** What it was made of. */
  readonly state: string;
  readonly madeAtMs: number;
}

/** An answer that was kept, and what it was made of. */
export interface Earlier {
  readonly state: string;
  answer(): Answer;
}

/**
 * Answers that this isolate gave in the last minutes, in front of the table.
 *
 * Whether one may be given again is decided by the state that the database names at the moment of the request, so an answer is never
 * older than the user's latest like.
 */
export class Answers {
  readonly #kept = new Map<string, Kept>();
  #characters = 0;

  constructor(readonly now: () => number = Date.now, readonly maxCharacters = MAX_CHARACTERS) {}

  /** The latest answer to `cacheKey` for `user`, whatever it was made of. */
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

  /** At the end: it was used just now. */
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

/** Ids have one length, so no name begins another user's. */
function nameOf(user: string, cacheKey: string): string {
  return `${user} ${cacheKey}`;
}
