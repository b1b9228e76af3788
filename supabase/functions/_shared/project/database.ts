import { unavailable } from "../http/error.ts";
import type { Rest } from "./rest.ts";

/** The data that a user's list depends on, from `recommendation_context`. */
export interface RecommendationContext {
  /** The active version; `null` without one. */
  readonly modelVersion: number | null;
  /** Dimension of its vectors. */
  readonly dim: number | null;
  /** The checksum that the manifest of its model states. */
  readonly manifestSha256: string | null;
  /** Whether the user was erased. */
  readonly erased: boolean;
  /** Changes with the active version and with the user's likes, skips and blocks. */
  readonly state: string;
  /** The moment of the history that the vectors come from, as the database writes it. */
  readonly asOf: string;
  /**
   * A kept answer of the same state, all of whose videos may still be shown; `null` without one.
   */
  readonly cachedAnswer: unknown;
  /** Vectors of the likes that count, oldest first: big-endian float32 in base64. */
  readonly likes: string | null;
  readonly skips: string | null;
}

/** The result of `recommendation_answer`. */
export interface PresentAnswer {
  /**
   * `made` now, or `kept` from before; `unchanged`: the kept answer is the one that the caller has;
   * `no_tower`: the database has no user tower of the active version.
   */
  readonly outcome: "made" | "kept" | "unchanged" | "no_tower" | "erased";
  /** Identifies the answer and the data that it was made from; empty for an erased user. */
  readonly state: string;
  /** `null` unless `made` or `kept`. */
  readonly answer: unknown;
}

/** Parameters of `recommendation_answer`. */
export interface AskedAnswer {
  readonly limit: number;
  readonly excludeLiked: boolean;
  readonly minScore: number | null;
}

/** A row of `recommend_videos`. */
export interface RecommendedVideo {
  readonly videoId: string;
  readonly title: string;
  readonly score: number;
  readonly source: string;
  readonly skippedBefore: boolean;
  readonly modelVersion: number | null;
}

/** Parameters of `recommend_videos`. */
export interface RecommendVideos extends AskedAnswer {
  /** The user's vector; without it, the database computes one. */
  readonly query: string | null;
}

type Row = Record<string, unknown>;

const OUTCOMES: readonly unknown[] = ["made", "kept", "unchanged", "no_tower", "erased"];

/**
 * The functions in supabase/migrations that the edge functions call, with their types. Each throws
 * `ApiError`.
 */
export class Database {
  readonly #rest: Rest;

  constructor(rest: Rest) {
    this.#rest = rest;
  }

  /**
   * A whole answer, which the database keeps for five minutes. Omitted if its state is
   * `knownState`.
   */
  async answer(
    token: string,
    asked: AskedAnswer,
    knownState: string | null,
    signal: AbortSignal,
  ): Promise<PresentAnswer> {
    const parameters = {
      limit: asked.limit,
      exclude_liked: asked.excludeLiked,
      min_score: asked.minScore,
      known_state: knownState,
    };
    const row = await this.#rest.call("recommendation_answer", parameters, { token }, signal) as Row | null;
    if (!OUTCOMES.includes(row?.outcome)) {
      throw unavailable("recommendation_answer answers with another shape: apply supabase/migrations");
    }
    return {
      outcome: row?.outcome as PresentAnswer["outcome"],
      state: textOrNull(row?.state) ?? "",
      answer: row?.answer ?? null,
    };
  }

  async context(
    token: string,
    cacheKey: string | null,
    signal: AbortSignal,
  ): Promise<RecommendationContext> {
    const parameters = { cache_key: cacheKey };
    const row = await this.#rest.call("recommendation_context", parameters, { token }, signal) as Row | null;
    if (row === null || typeof row !== "object" || typeof row.erased !== "boolean" || !("as_of" in row)) {
      throw unavailable("recommendation_context answers with another shape: apply supabase/migrations");
    }
    return {
      modelVersion: numberOrNull(row.model_version),
      dim: numberOrNull(row.dim),
      manifestSha256: textOrNull(row.manifest_sha256),
      erased: row.erased,
      state: String(row.state),
      asOf: String(row.as_of),
      cachedAnswer: (row.cached as Row | null)?.answer ?? null,
      likes: textOrNull(row.likes),
      skips: textOrNull(row.skips),
    };
  }

  async recommend(token: string, asked: RecommendVideos, signal: AbortSignal): Promise<RecommendedVideo[]> {
    const parameters = {
      limit: asked.limit,
      exclude_liked: asked.excludeLiked,
      min_score: asked.minScore,
      query: asked.query,
    };
    const rows = await this.#rest.call("recommend_videos", parameters, { token }, signal);
    if (!Array.isArray(rows)) {
      throw unavailable("recommend_videos answers with another shape: apply supabase/migrations");
    }
    return (rows as Row[]).map((row) => ({
      videoId: String(row.video_id),
      title: String(row.title),
      score: Number(row.score),
      source: String(row.source),
      skippedBefore: row.skipped_before === true,
      modelVersion: numberOrNull(row.model_version),
    }));
  }

  /** Keeps an answer for the user's next requests, in any isolate. */
  async keep(token: string, cacheKey: string, state: string, answer: unknown, signal: AbortSignal): Promise<void> {
    await this.#rest.call("keep_recommendations", { cache_key: cacheKey, state, answer }, { token }, signal);
  }

  /**
   * Writes a user's vector with the rights of the service, unless one of a later history than
   * `asOf` is already there. Returns false for an erased user, or if `version` is no longer active.
   */
  async writeUserEmbedding(
    user: string,
    { modelVersion, asOf }: Pick<RecommendationContext, "modelVersion" | "asOf">,
    embedding: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const parameters = { user_id: user, model_version: modelVersion, embedding, as_of: asOf };
    return await this.#rest.call("write_user_embedding", parameters, "service", signal) === true;
  }
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
