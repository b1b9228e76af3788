import { afterAnswer } from "../_shared/http/after_answer.ts";
import type { Exchange } from "../_shared/http/endpoint.ts";
import { ApiError, erased } from "../_shared/http/error.ts";
import type { Log } from "../_shared/http/log.ts";
import type { Database, RecommendationContext, RecommendedVideo } from "../_shared/project/database.ts";
import { RefusedArguments } from "../_shared/project/rest.ts";
import type { Caller } from "../_shared/token/authenticator.ts";
import type { UserTowers } from "../_shared/tower/user_towers.ts";
import { userVector } from "../_shared/tower/user_vector.ts";
import { again, type Answer, answerOf, readAnswer, type Shortfall } from "./answer.ts";
import type { Answers } from "./answers.ts";
import { cacheKey, type Query } from "./query.ts";

/** Deadline of keeping an answer, after it was given. */
const KEEP_DEADLINE_MS = 5000;

/** The parts needed to make lists. */
export interface Parts {
  readonly name: string;
  readonly database: Database;
  readonly towers: UserTowers;
  readonly answers: Answers;
  readonly log: Log;
}

/**
 * The list for a database that lacks the active version's user tower. The tower from the bucket
 * computes the vector here. If that cannot be loaded either, the database makes a vector of its
 * own.
 */
export async function computed(parts: Parts, caller: Caller, query: Query, exchange: Exchange): Promise<Answer> {
  const key = cacheKey(query);
  let context = await contextOf(parts, caller, key, exchange);
  const kept = context.cachedAnswer === null ? null : readAnswer(context.cachedAnswer, caller.user);
  if (kept) {
    parts.answers.keep(caller.user, key, kept, context.state);
    return again(kept);
  }
  const made = await userVector(parts.towers, context, exchange.timing);
  const vector = made.kind === "vector" ? made.vector : null;
  let list = await rankedBy(parts, caller, query, context, vector, exchange);
  if (list === null) {
    // Another version became active meanwhile, and vectors of two versions must not be mixed. The
    // database makes its own vector for the version that it reads.
    context = await contextOf(parts, caller, null, exchange);
    list = await rankedBy(parts, caller, query, context, null, exchange) ?? [];
  }
  const shortfall = await shortfallOf(parts, caller, query, list, exchange);
  const popular = list.length === 0 ? context.modelVersion === null : list[0].source === "popular";
  const version = list[0]?.modelVersion ?? context.modelVersion;
  const answer = answerOf(caller.user, version, popular ? "popular" : "two_tower", list, shortfall);
  parts.answers.keep(caller.user, key, answer, context.state);
  afterAnswer(keepForOthers(parts, caller, key, context.state, answer));
  return answer;
}

async function contextOf(
  parts: Parts,
  caller: Caller,
  key: string | null,
  exchange: Exchange,
): Promise<RecommendationContext> {
  const asked = () => parts.database.context(caller.token, key, exchange.signal);
  const context = await exchange.timing.measure("db", asked);
  if (context.erased) {
    parts.answers.forget(caller.user);
    throw erased();
  }
  return context;
}

/**
 * The rows for a vector of the context's version, or `null` if the database reads another version
 * meanwhile.
 */
async function rankedBy(
  parts: Parts,
  caller: Caller,
  query: Query,
  context: RecommendationContext,
  vector: string | null,
  exchange: Exchange,
): Promise<RecommendedVideo[] | null> {
  const asked = () => parts.database.recommend(caller.token, { ...query, query: vector }, exchange.signal);
  try {
    const rows = await exchange.timing.measure("rank", asked);
    const other = rows.find((row) => row.modelVersion !== context.modelVersion);
    return vector !== null && other !== undefined ? null : rows;
  } catch (error) {
    if (vector !== null && error instanceof RefusedArguments) {
      parts.log({ level: "warn", function: parts.name, reason: "the database refuses the user's vector" });
      return null;
    }
    throw error;
  }
}

/**
 * Why there are fewer videos than asked for. A second call without `min_score` shows whether any
 * were left out because of their score.
 */
async function shortfallOf(
  parts: Parts,
  caller: Caller,
  query: Query,
  rows: readonly RecommendedVideo[],
  exchange: Exchange,
): Promise<Shortfall | null> {
  if (rows.length >= query.limit) {
    return null;
  }
  if (query.minScore === null) {
    return "catalogue_exhausted";
  }
  const asked = { limit: query.limit, excludeLiked: query.excludeLiked, minScore: null, query: null };
  const all = await exchange.timing.measure(
    "rank",
    () => parts.database.recommend(caller.token, asked, exchange.signal),
  );
  return all.length > rows.length ? "min_score" : "catalogue_exhausted";
}

/**
 * Keeps the answer where other isolates find it. The user already has it, so a failure is only
 * logged.
 */
async function keepForOthers(parts: Parts, caller: Caller, key: string, state: string, answer: Answer): Promise<void> {
  try {
    await parts.database.keep(caller.token, key, state, answer, AbortSignal.timeout(KEEP_DEADLINE_MS));
  } catch (error) {
    const reason = error instanceof ApiError ? error.reason : "a defect";
    parts.log({ level: "warn", function: parts.name, reason: `the answer was not kept: ${reason}` });
  }
}
