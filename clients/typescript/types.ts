// From docs/openapi.json by clients/generate.py; changes belong there.

/** The body of an answer: one result for each user, in the order asked for. */
export interface Batch {
  /** At most 100 items. */
  results: BatchResult[];
}

/** What the caller asks for. Every field may be absent, and so may the body. */
export interface BatchRequest {
  /** 0: best scores first; 1: as different from each other as possible. 0 to 1; 0 if absent. */
  diversity?: number;
  /** Leave out videos that the user has liked. True if absent. */
  exclude_liked?: boolean;
  filter?: Filter;
  /** Name the likes behind each recommendation. False if absent. */
  include_reasons?: boolean;
  /** Maximum number of videos. 1 to 100; 10 if absent. */
  limit?: number;
  /** Leave out videos with a lower score. -1 to 1. */
  min_score?: number;
  /** Seed of random draws: the same seed gives the same draw. 0 to 9007199254740991. */
  seed?: number;
  /** The users to make lists for. 1 to 100 items. */
  user_ids: string[];
}

export interface BatchResultError {
  error: Failure;
  user_id: string;
}

/** A list, or why there is none. */
export type BatchResult = Recommendations | BatchResultError;

/** A like behind a recommendation. */
export interface Because {
  /** By how much the score would fall without that like. */
  contribution: number;
  title: string;
  video_id: string;
}

/** Names of which a video must have at least one, and names of which it must have none. */
export interface Choice {
  /** At least one of these; empty for no such condition. At most 50 items. */
  any?: Name[];
  /** None of these. At most 50 items. */
  none?: Name[];
}

/** The body of every error answer. */
export interface ErrorBody {
  error: ErrorDetails;
}

/** For programs. */
export type ErrorCode =
  | "invalid_request"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "payload_too_large"
  | "too_many_requests"
  | "overloaded"
  | "unavailable"
  | "timeout"
  | "internal";

export interface ErrorDetails {
  code: ErrorCode;
  /** For people. */
  message: string;
  /** As in the header `X-Request-Id`, and in the log. */
  request_id: string;
}

/** One event. */
export interface Event {
  /** Time of the event, at most 7 days ago and 5 minutes ahead; now if not given. */
  at?: string;
  /** Made by the sender, a new one for each event. An event that is sent again with the same id counts once. */
  event_id: string;
  kind: EventKind;
  /** The `model_version` of the list in which the video was shown. At least 1. */
  model_version?: number;
  /** Place in that list, from 1. 1 to 100. */
  position?: number;
  /** The `X-Request-Id` of that list. 1 to 64 characters. */
  request_id?: string;
  video_id: string;
  /** Share of the video that was watched; for views only. 0 to 1. */
  watch_fraction?: number;
}

export type EventKind = "impression" | "view" | "like" | "skip";

/** Outcome of the call. */
export interface EventsRecorded {
  /** Number of events that were recorded. At least 0. */
  accepted: number;
  /** Number of events that had been recorded before. At least 0. */
  duplicates: number;
}

/** Events on an app's screens. */
export interface EventsRequest {
  /** 1 to 100 items. */
  events: Event[];
}

/** As in the body of an error. */
export interface Failure {
  code: ErrorCode;
  message: string;
}

/** Conditions that videos must meet, all of them. */
export interface Filter {
  /** Days since publication. */
  age_days?: Range;
  /** Genres. */
  genres?: Choice;
  /** Makers. */
  makers?: Choice;
  /** Names of performers. */
  performers?: Choice;
  /** Price in the application's currency; a video without one is outside every range. */
  price?: Range;
  /** Names of tags. */
  tags?: Choice;
}

/** 1 to 100 characters. */
export type Name = string;

/** Inclusive bounds. If `min` exceeds `max`, nothing matches. */
export interface Range {
  /** -1000000000000 to 1000000000000. */
  max?: number;
  /** -1000000000000 to 1000000000000. */
  min?: number;
}

/** Why a video is in a list. */
export type Reason = "because_you_liked" | "popular" | "new" | "skipped_before";

export interface Recommendation {
  /** Likes behind the recommendation, the most important one first. At most 3 items. */
  because?: Because[];
  /** Probability with which it was drawn, if it was drawn at random. 0 to 1. */
  propensity?: number;
  /** Why it is here. */
  reason?: Reason;
  /** Only comparable within one list. */
  score: number;
  title: string;
  video_id: string;
}

/** A list of videos for one user. The Supabase Edge Function answers in the same form. */
export interface Recommendations {
  /** Whether it was made for an earlier request. */
  cached: boolean;
  generated_at: string;
  /** The model version that answered. */
  model_version: number | null;
  /** Whether it was made without knowledge of the latest likes of the user. */
  partial: boolean;
  /** Why there are fewer videos than asked for. */
  reason?: Shortfall;
  /** In the order to show them. At most 100 items. */
  recommendations: Recommendation[];
  source: Source;
  /** The user whom it is for. */
  user_id: string;
}

/** What the caller asks for. Every field may be absent, and so may the body. */
export interface RecommendationsRequest {
  /** 0: best scores first; 1: as different from each other as possible. 0 to 1; 0 if absent. */
  diversity?: number;
  /** Leave out videos that the user has liked. True if absent. */
  exclude_liked?: boolean;
  filter?: Filter;
  /** Name the likes behind each recommendation. False if absent. */
  include_reasons?: boolean;
  /** Maximum number of videos. 1 to 100; 10 if absent. */
  limit?: number;
  /** Leave out videos with a lower score. -1 to 1. */
  min_score?: number;
  /** Seed of random draws: the same seed gives the same draw. 0 to 9007199254740991. */
  seed?: number;
}

/** Why a list is shorter than asked for. */
export type Shortfall = "catalogue_exhausted" | "min_score";

/** Videos that are similar to another one. */
export interface SimilarVideos {
  generated_at: string;
  /** The model version that answered. */
  model_version: number | null;
  /** Whether it was made without knowledge of the latest likes of the user. */
  partial: boolean;
  /** Why there are fewer videos than asked for. */
  reason?: Shortfall;
  /** In the order to show them. At most 100 items. */
  recommendations: Recommendation[];
  source: Source;
  /** The video that they are similar to. */
  video_id: string;
}

/** What the caller asks for. Every field may be absent, and so may the body. */
export interface SimilarVideosRequest {
  /** 0: best scores first; 1: as different from each other as possible. 0 to 1; 0 if absent. */
  diversity?: number;
  /** Leave out videos that the user has liked. True if absent. */
  exclude_liked?: boolean;
  filter?: Filter;
  /** Maximum number of videos. 1 to 100; 10 if absent. */
  limit?: number;
  /** Leave out videos with a lower score. -1 to 1. */
  min_score?: number;
  /** The video to find similar ones for. */
  video_id: string;
}

/** Where a list comes from. */
export type Source = "two_tower" | "popular" | "stale_cache";
