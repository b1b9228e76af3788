import type { Answer } from "./answer.ts";

/** How long an answer may be given again, in milliseconds. */
export const KEEP_MS = 5 * 60 * 1000;

/** Answers kept in one isolate, about 2 KB each at ten videos; those that were used longest ago make room. */
const MAX_ANSWERS = 500;

interface Kept {
  readonly answer: Answer;
  /** What it was made of. */
  readonly state: string;
  readonly madeAtMs: number;
}

/**
 * Answers that this isolate gave in the last minutes, in front of the table.
 *
 * Whether one may be given again is decided by the state that the database names at the moment of the request, so an answer is never
 * older than the user's latest like.
 */
export class Answers {
  readonly #kept = new Map<string, Kept>();

  constructor(readonly now: () => number = Date.now, readonly maxAnswers = MAX_ANSWERS) {}

  /** The latest answer to `cacheKey` for `user`, whatever it was made of. */
  latest(user: string, cacheKey: string): { readonly answer: Answer; readonly state: string } | null {
    const key = nameOf(user, cacheKey);
    const kept = this.#kept.get(key);
    if (kept === undefined) {
      return null;
    }
    this.#kept.delete(key);
    if (this.now() - kept.madeAtMs >= KEEP_MS) {
      return null;
    }
    this.#kept.set(key, kept);
    return kept;
  }

  keep(user: string, cacheKey: string, answer: Answer, state: string): void {
    const key = nameOf(user, cacheKey);
    const madeAtMs = Date.parse(answer.generated_at);
    this.#kept.delete(key);
    this.#kept.set(key, { answer, state, madeAtMs: Math.min(madeAtMs, this.now()) });
    if (this.#kept.size > this.maxAnswers) {
      const [oldest] = this.#kept.keys();
      this.#kept.delete(oldest);
    }
  }

  /** Forgets all answers of a user. */
  forget(user: string): void {
    for (const key of this.#kept.keys()) {
      if (key.startsWith(nameOf(user, ""))) {
        this.#kept.delete(key);
      }
    }
  }
}

/** Ids have one length, so no name begins another user's. */
function nameOf(user: string, cacheKey: string): string {
  return `${user} ${cacheKey}`;
}
