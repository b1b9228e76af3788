import { TwoTowerError } from "./client.ts";
import type { Recommendations, RecommendationsRequest } from "./types.ts";

export { TwoTowerError };
export type * from "./types.ts";

/**
 * The part of a supabase-js client that is used here. It sends the signed-in user's token by
 * itself.
 */
export interface SupabaseClientLike {
  functions: {
    // deno-lint-ignore no-explicit-any
    invoke(name: string, options: { body: Record<string, any> }): Promise<{ data: any; error: any }>;
  };
  // deno-lint-ignore no-explicit-any
  rpc(name: any, parameters: any): PromiseLike<{ data: any; error: DatabaseError | null }>;
}

/** The error of a failed call, from PostgREST. */
export interface DatabaseError {
  /**
   * SQLSTATE, or a code of PostgREST. `PT401`: no user is signed in. `PT403`: the user was erased.
   * Absent if there was no response, or one from something else.
   */
  code?: string;
  message: string;
}

/** A row of `recommend_videos` and `similar_videos`. */
export interface RecommendedVideo {
  video_id: string;
  title: string;
  /** Comparable within one list only. */
  score: number;
  source: "two_tower" | "popular";
  /** The user skipped it before, and no other videos were left. */
  skipped_before: boolean;
  model_version: number | null;
}

/** A failed call of a database function. */
export class RpcError extends Error {
  override name = "RpcError";

  constructor(
    /** As in `DatabaseError`, or `unexpected` if there is none. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Recommendations for the signed-in user, from the Edge Function. */
export async function recommend(
  supabase: SupabaseClientLike,
  request: RecommendationsRequest = {},
): Promise<Recommendations> {
  const { data, error } = await supabase.functions.invoke("two_tower_recommendations", { body: { ...request } });
  // supabase-js puts an error response here. Without any response, there is none.
  if (error?.context instanceof Response) throw await TwoTowerError.of(error.context);
  if (error) throw error;
  return data as Recommendations;
}

/** Recommendations from the database alone, without the Edge Function. */
export function recommendVideos(
  supabase: SupabaseClientLike,
  options: { limit?: number; excludeLiked?: boolean; minScore?: number } = {},
): Promise<RecommendedVideo[]> {
  return call(supabase, "recommend_videos", {
    limit: options.limit,
    exclude_liked: options.excludeLiked,
    min_score: options.minScore,
  });
}

/** Videos that are similar to a given one. */
export function similarVideos(
  supabase: SupabaseClientLike,
  videoId: string,
  options: { limit?: number; excludeLiked?: boolean } = {},
): Promise<RecommendedVideo[]> {
  return call(supabase, "similar_videos", {
    video_id: videoId,
    limit: options.limit,
    exclude_liked: options.excludeLiked,
  });
}

/** Likes a video, or takes the like back. Returns whether that changed anything. */
export function likeVideo(supabase: SupabaseClientLike, videoId: string, liked = true): Promise<boolean> {
  return call(supabase, "like_video", { video_id: videoId, liked });
}

/** Erases the signed-in user: likes, skips, vectors, events. This cannot be undone. */
export function eraseMe(supabase: SupabaseClientLike): Promise<Record<string, unknown>> {
  return call(supabase, "erase_me", {});
}

/** Calls a database function. Absent parameters keep the function's defaults. */
async function call<T>(supabase: SupabaseClientLike, name: string, parameters: Record<string, unknown>): Promise<T> {
  const given = Object.fromEntries(Object.entries(parameters).filter(([, value]) => value !== undefined));
  const { data, error } = await supabase.rpc(name, given);
  if (error) throw new RpcError(error.code || "unexpected", error.message);
  return data as T;
}
