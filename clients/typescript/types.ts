// From docs/openapi.json by clients/generate.py; changes belong there.

/** The body of an answer: one result for each user, in the order asked for. */
export interface Batch {
  /** At most 100 items. */
  results: BatchResult[];
}

/** What the caller asks for. Every field may be absent, and so may the body. */
export interface BatchRequest {
  /** 0: best scores first; 1: as unlike each other as can be. 0 to 1; 0 if absent. */
  diversity?: number;
  /** Leave out what the user has liked. True if absent. */
  exclude_liked?: boolean;
  filter?: Filter;
  /** Say which likes a recommendation is owed to. False if absent. */
  include_reasons?: boolean;
  /** Most videos. 1 to 100; 10 if absent. */
  limit?: number;
  /** Leave out what scores less. -1 to 1. */
  min_score?: number;
  /** Makes what is drawn at random the same each time. 0 to 9007199254740991. */
  seed?: number;
  /** Whom lists are for. 1 to 100 items. */
  user_ids: string[];
}

export interface BatchResultError {
  error: Failure;
  user_id: string;
}

/** A list, or why there is none. */
export type BatchResult = Recommendations | BatchResultError;

/** A like that a recommendation is owed to. */
export interface Because {
  /** What the score would lose without that like. */
  contribution: number;
  title: string;
  video_id: string;
}

/** Names of which a video must have one, and names of which it may have none. */
export interface Choice {
  /** At least one of these; empty for no such condition. At most 50 items. */
  any?: Name[];
  /** None of these. At most 50 items. */
  none?: Name[];
}

/** The body of every answer that is none. */
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

/** One thing that happened. */
export interface Event {
  /** At most 7 days ago and 5 minutes ahead; now, if it is not given. */
  at?: string;
  /** Made by the sender, a new one for each event; what is sent again with the same one counts once. */
  event_id: string;
  kind: EventKind;
  /** The `model_version` of the list that the video was shown in. At least 1. */
  model_version?: number;
  /** Place in that list, from 1. 1 to 100. */
  position?: number;
  /** The `X-Request-Id` of that list. 1 to 64 characters. */
  request_id?: string;
  video_id: string;
  /** How much of the video was watched; of views only. 0 to 1. */
  watch_fraction?: number;
}

export type EventKind = "impression" | "view" | "like" | "skip";

/** What came of events. */
export interface EventsRecorded {
  /** Taken. At least 0. */
  accepted: number;
  /** Of those sent, the ones that had been sent before. At least 0. */
  duplicates: number;
}

/** What happened on an app's screens. */
export interface EventsRequest {
  /** 1 to 100 items. */
  events: Event[];
}

/** As in the body of an error. */
export interface Failure {
  code: ErrorCode;
  message: string;
}

/** What videos must be like, all of it. */
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

/** Bounds, both inclusive; nothing is inside those that exclude each other. */
export interface Range {
  /** -1000000000000 to 1000000000000. */
  max?: number;
  /** -1000000000000 to 1000000000000. */
  min?: number;
}

/** Why a video is in a list. */
export type Reason = "because_you_liked" | "popular" | "new" | "skipped_before";

export interface Recommendation {
  /** Likes that it is owed to, the most important one first. At most 3 items. */
  because?: Because[];
  /** How likely it was to be drawn, where it was drawn at random. 0 to 1. */
  propensity?: number;
  /** Why it is here. */
  reason?: Reason;
  /** To compare within one list only. */
  score: number;
  title: string;
  video_id: string;
}

/** A list of videos for one user: the body of an answer, that of the Supabase Edge Function. */
export interface Recommendations {
  /** Whether it was made for an earlier request. */
  cached: boolean;
  generated_at: string;
  /** The model version that answered. */
  model_version: number | null;
  /** Whether it was made without knowing what the user has liked by now. */
  partial: boolean;
  /** Why there are fewer than asked for. */
  reason?: Shortfall;
  /** In the order to show them. At most 100 items. */
  recommendations: Recommendation[];
  source: Source;
  /** Whom it is for. */
  user_id: string;
}

/** What the caller asks for. Every field may be absent, and so may the body. */
export interface RecommendationsRequest {
  /** 0: best scores first; 1: as unlike each other as can be. 0 to 1; 0 if absent. */
  diversity?: number;
  /** Leave out what the user has liked. True if absent. */
  exclude_liked?: boolean;
  filter?: Filter;
  /** Say which likes a recommendation is owed to. False if absent. */
  include_reasons?: boolean;
  /** Most videos. 1 to 100; 10 if absent. */
  limit?: number;
  /** Leave out what scores less. -1 to 1. */
  min_score?: number;
  /** Makes what is drawn at random the same each time. 0 to 9007199254740991. */
  seed?: number;
}

/** Why a list is shorter than asked for. */
export type Shortfall = "catalogue_exhausted" | "min_score";

/** Videos that are like another one. */
export interface SimilarVideos {
  generated_at: string;
  /** The model version that answered. */
  model_version: number | null;
  /** Whether it was made without knowing what the user has liked by now. */
  partial: boolean;
  /** Why there are fewer than asked for. */
  reason?: Shortfall;
  /** In the order to show them. At most 100 items. */
  recommendations: Recommendation[];
  source: Source;
  /** The video asked about. */
  video_id: string;
}

/** What the caller asks for. Every field may be absent, and so may the body. */
export interface SimilarVideosRequest {
  /** 0: best scores first; 1: as unlike each other as can be. 0 to 1; 0 if absent. */
  diversity?: number;
  /** Leave out what the user has liked. True if absent. */
  exclude_liked?: boolean;
  filter?: Filter;
  /** Most videos. 1 to 100; 10 if absent. */
  limit?: number;
  /** Leave out what scores less. -1 to 1. */
  min_score?: number;
  /** The video asked about. */
  video_id: string;
}

/** Where a list comes from. */
export type Source = "two_tower" | "popular" | "stale_cache";
