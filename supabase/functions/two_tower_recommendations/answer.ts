import type { RecommendedVideo } from "../_shared/project/database.ts";

/** A list of videos for one user: the body of an answer, as that of `twotower serve`. */
export interface Answer {
  readonly user_id: string;
  readonly source: Source;
  readonly model_version: number | null;
  readonly recommendations: readonly Recommendation[];
  /** Whether it was made without knowing the user's current likes. */
  readonly partial: boolean;
  /** Whether it was made for an earlier request. */
  readonly cached: boolean;
  readonly generated_at: string;
  /** Why there are fewer videos than asked for. */
  readonly reason?: Shortfall;
}

export type Source = "two_tower" | "popular";
export type Shortfall = "catalogue_exhausted" | "min_score";

export interface Recommendation {
  readonly video_id: string;
  readonly title: string;
  /** Comparable within one list only. */
  readonly score: number;
  readonly reason?: "skipped_before";
}

/** A list made for this request. */
export function answerOf(
  user: string,
  version: number | null,
  source: Source,
  rows: readonly RecommendedVideo[],
  shortfall: Shortfall | null,
): Answer {
  return {
    user_id: user,
    source,
    model_version: version,
    recommendations: rows.map((row) => ({
      video_id: row.videoId,
      title: row.title,
      score: row.score,
      ...(row.skippedBefore ? { reason: "skipped_before" } : {}),
    })),
    partial: false,
    cached: false,
    generated_at: new Date().toISOString(),
    ...(shortfall === null ? {} : { reason: shortfall }),
  };
}

/** The same list, for another request. */
export function again(answer: Answer): Answer {
  return { ...answer, cached: true };
}

/** The same list, for a request during which the database is late or away. */
export function unverified(answer: Answer): Answer {
  return { ...answer, cached: true, partial: true };
}

/**
 * Reads a kept answer from the database; `null` if it is not a valid answer for this user, since
 * users may write their own rows. Copies field by field, so that nothing else gets into an answer.
 */
export function readAnswer(value: unknown, user: string): Answer | null {
  const kept = value as Partial<Answer> | null;
  const list = kept?.recommendations;
  if (
    kept?.user_id !== user || !Array.isArray(list) || !list.every(isRecommendation) ||
    !(kept.source === "two_tower" || kept.source === "popular") ||
    !(kept.model_version === null || typeof kept.model_version === "number") ||
    typeof kept.generated_at !== "string" ||
    !(kept.reason === undefined || kept.reason === "catalogue_exhausted" || kept.reason === "min_score")
  ) {
    return null;
  }
  return {
    user_id: user,
    source: kept.source,
    model_version: kept.model_version,
    recommendations: list.map(({ video_id, title, score, reason }) => ({
      video_id,
      title,
      score,
      ...(reason === undefined ? {} : { reason }),
    })),
    partial: false,
    cached: false,
    generated_at: kept.generated_at,
    ...(kept.reason === undefined ? {} : { reason: kept.reason }),
  };
}

function isRecommendation(value: unknown): value is Recommendation {
  const it = value as Partial<Recommendation> | null;
  return typeof it?.video_id === "string" && typeof it.title === "string" && typeof it.score === "number" &&
    (it.reason === undefined || it.reason === "skipped_before");
}
