import { TwoTowerError } from "./client.ts";
import type { Recommendations, RecommendationsRequest } from "./types.ts";

export { TwoTowerError };
export type * from "./types.ts";

/** As much of a supabase-js client as is used here. It sends the signed-in user's token by itself. */
export interface SupabaseClientLike {
  functions: {
    // deno-lint-ignore no-explicit-any
    invoke(name: string, options: { body: Record<string, any> }): Promise<{ data: any; error: any }>;
  };
  // deno-lint-ignore no-explicit-any
  rpc(name: any, parameters: any): PromiseLike<{ data: any; error: DatabaseError | null }>;
}

/** What PostgREST says of a call that failed. */
export interface DatabaseError {
  /**
   * SQLSTATE, or one of PostgREST's own. `PT401`: nobody is signed in. `PT403`: the user was erased. None if something else answered, or
   * nothing.
   */
  code?: string;
  message: string;
}

/** A row of `recommend_videos` and `similar_videos`. */
export interface RecommendedVideo {
  video_id: string;
  title: string;
  /** To compare within one list only. */
  score: number;
  source: "two_tower" | "popular";
  /** The user skipped it before, and there was nothing else left. */
  skipped_before: boolean;
  model_version: number | null;
}

/** A call of a database function that failed. */
export class RpcError extends Error {
  override name = "RpcError";

  constructor(
    /** As in `DatabaseError`, and `unexpected` where there is none. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** What the signed-in user should see next, from the Edge Function. */
export async function recommend(
  supabase: SupabaseClientLike,
  request: RecommendationsRequest = {},
): Promise<Recommendations> {
  const { data, error } = await supabase.functions.invoke("two_tower_recommendations", { body: { ...request } });
  // supabase-js puts the answer that it did not like here; what never became an answer has none.
  if (error?.context instanceof Response) throw await TwoTowerError.of(error.context);
  if (error) throw error;
  return data as Recommendations;
}

/** The same from the database alone, without the Edge Function. */
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

/** What is like a video. */
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

/** Likes a video, or takes the like back; says whether that changed something. */
export function likeVideo(supabase: SupabaseClientLike, videoId: string, liked = true): Promise<boolean> {
  return call(supabase, "like_video", { video_id: videoId, liked });
}

/** Erases the signed-in user: likes, skips, vectors, events. There is no way back. */
export function eraseMe(supabase: SupabaseClientLike): Promise<Record<string, unknown>> {
  return call(supabase, "erase_me", {});
}

/** Absent parameters keep the function's own defaults. */
async function call<T>(supabase: SupabaseClientLike, name: string, parameters: Record<string, unknown>): Promise<T> {
  const given = Object.fromEntries(Object.entries(parameters).filter(([, value]) => value !== undefined));
  const { data, error } = await supabase.rpc(name, given);
  if (error) throw new RpcError(error.code || "unexpected", error.message);
  return data as T;
}
