import type { Exchange } from "../_shared/http/endpoint.ts";
import { ApiError, erased, timeout } from "../_shared/http/error.ts";
import type { Caller } from "../_shared/token/authenticator.ts";
import { again, type Answer, readAnswer, unverified } from "./answer.ts";
import { computed, type Parts } from "./computed.ts";
import { cacheKey, type Query } from "./query.ts";

/**
 * The list for the caller: kept from the same query and state, or made now. While the database is
 * late or away, an earlier list of popular videos, if this isolate has one. Otherwise the request
 * waits until its hard deadline. Throws `ApiError`.
 */
export async function recommend(
  parts: Parts & { readonly softDeadlineMs: number },
  caller: Caller,
  query: Query,
  exchange: Exchange,
): Promise<Answer> {
  const abandoned = new AbortController();
  const signal = AbortSignal.any([exchange.signal, abandoned.signal]);
  const work = current(parts, caller, query, { ...exchange, signal });
  try {
    const inTime = await within(parts.softDeadlineMs - exchange.timing.elapsedMs(), work);
    if (inTime !== null) {
      return inTime;
    }
    const earlier = popularBefore(parts, caller, query);
    if (earlier === null) {
      return await work;
    }
    abandoned.abort(timeout("an answer"));
    return earlier;
  } catch (error) {
    const earlier = isOutage(error) ? popularBefore(parts, caller, query) : null;
    if (earlier === null) {
      throw error;
    }
    return earlier;
  }
}

/**
 * An earlier list of popular videos for the caller, to be given while the database is late or away;
 * `null` without one. Isolates do not hear of erasures, so a list that was made from a user's likes
 * is given only after the database has confirmed that the user still exists.
 */
function popularBefore(parts: Parts, caller: Caller, query: Query): Answer | null {
  const earlier = parts.answers.latest(caller.user, cacheKey(query))?.answer();
  return earlier?.source === "popular" ? unverified(earlier) : null;
}

/** The result of `work`, or `null` if it takes longer than `ms`. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | null> {
  // It may fail when its result is no longer awaited.
  work.catch(() => {});
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => timer = setTimeout(() => resolve(null), Math.max(ms, 0)));
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function isOutage(error: unknown): boolean {
  return error instanceof ApiError && (error.code === "unavailable" || error.code === "timeout");
}

/**
 * The list for the current state of the database: made by the database, or computed here if the
 * database has no user tower.
 */
async function current(parts: Parts, caller: Caller, query: Query, exchange: Exchange): Promise<Answer> {
  const key = cacheKey(query);
  const earlier = parts.answers.latest(caller.user, key);
  const present = await exchange.timing.measure(
    "db",
    () => parts.database.answer(caller.token, query, earlier?.state ?? null, exchange.signal),
  );
  if (present.outcome === "erased") {
    parts.answers.forget(caller.user);
    throw erased();
  }
  if (earlier !== null && present.outcome === "unchanged") {
    return again(earlier.answer());
  }
  const answer = readAnswer(present.answer, caller.user);
  if (answer === null) {
    return await computed(parts, caller, query, exchange);
  }
  parts.answers.keep(caller.user, key, answer, present.state);
  return present.outcome === "kept" ? again(answer) : answer;
}
