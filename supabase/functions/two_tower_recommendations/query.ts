import { echo } from "../_shared/http/body.ts";
import { invalid } from "../_shared/http/error.ts";

const DEFAULT_LIMIT = 10;

/** At most this many videos in one answer, which also limits the work of one request. */
const MAX_LIMIT = 100;

const FIELDS = ["limit", "exclude_liked", "min_score"];

/** Fields of the HTTP API that require the whole catalogue in memory. */
const FIELDS_OF_THE_SERVER = ["diversity", "filter", "include_reasons", "seed"];

/** The list that the caller asks for. The user comes from the token alone. */
export interface Query {
  readonly limit: number;
  readonly excludeLiked: boolean;
  /** Leave out videos with a lower score. */
  readonly minScore: number | null;
}

/** Reads the fields of a request. Throws `ApiError`. */
export function parseQuery(fields: Record<string, unknown>): Query {
  for (const name of Object.keys(fields)) {
    if (FIELDS_OF_THE_SERVER.includes(name)) {
      throw invalid(
        `the edge function does not take \`${name}\`: \`twotower serve\` answers requests with it at the same path`,
      );
    }
    if (!FIELDS.includes(name)) {
      const known = FIELDS.map((field) => `\`${field}\``).join(", ");
      throw invalid(`unknown field \`${echo(name)}\`; known: ${known}`);
    }
  }
  const { limit = DEFAULT_LIMIT, exclude_liked: excludeLiked = true, min_score: minScore } = fields;
  if (typeof limit !== "number" || !Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw invalid(`\`limit\` must be a whole number from 1 to ${MAX_LIMIT}`);
  }
  if (typeof excludeLiked !== "boolean") {
    throw invalid("`exclude_liked` must be true or false");
  }
  if (minScore !== undefined && !(typeof minScore === "number" && minScore >= -1 && minScore <= 1)) {
    throw invalid("`min_score` must be a number from -1 to 1");
  }
  return { limit, excludeLiked, minScore: minScore ?? null };
}

/**
 * The key of a query in caches: equal for queries that ask for the same list.
 * `recommendation_answer` keeps its answers under the same key, and so finds those that were made
 * here.
 */
export function cacheKey({ limit, excludeLiked, minScore }: Query): string {
  const parts = ["answer", limit, excludeLiked ? "t" : "f"];
  return (minScore === null ? parts : [...parts, minScore]).join(" ");
}
