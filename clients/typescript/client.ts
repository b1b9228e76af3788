import type {
  Batch,
  BatchRequest,
  ErrorBody,
  ErrorCode,
  EventsRecorded,
  EventsRequest,
  Recommendations,
  RecommendationsRequest,
  SimilarVideos,
  SimilarVideosRequest,
} from "./types.ts";

export type * from "./types.ts";

export interface ClientOptions {
  /** Where `twotower serve` is reached, or `https://<ref>.supabase.co`. */
  baseUrl: string;
  /** The access token of whom the lists are for; asked for before each call, so that it may be renewed in between. */
  accessToken: () => string | Promise<string>;
  /** Of a Supabase project. `twotower serve` asks for none. */
  publishableKey?: string;
  /** Milliseconds for the whole of a call; 10,000 if absent. */
  timeoutMs?: number;
  /** Instead of the global one. */
  fetch?: typeof fetch;
}

/** An answer together with what names it in the server's log and in the events that are sent about it. */
export interface Answer<T> {
  body: T;
  /** `X-Request-Id`; events take it as `request_id`. */
  requestId: string | null;
}

/** A refusal. What did not get as far as an answer is an error of `fetch`, of which `TimeoutError` is one. */
export class TwoTowerError extends Error {
  override name = "TwoTowerError";

  constructor(
    /** HTTP status. */
    readonly status: number,
    /** `unexpected` if the answer is not one of twotower's, but of something in front of it. */
    readonly code: ErrorCode | "unexpected",
    message: string,
    readonly requestId: string | null,
    /** When to try again, if the server says so. */
    readonly retryAfterSeconds: number | null,
  ) {
    super(message);
  }

  /** Reads a refusal. */
  static async of(answer: Response): Promise<TwoTowerError> {
    const requestId = answer.headers.get("x-request-id");
    const retryAfter = Number(answer.headers.get("retry-after") ?? NaN);
    const retryAfterSeconds = Number.isFinite(retryAfter) ? retryAfter : null;
    const text = await answer.text();
    try {
      const { code, message, request_id } = (JSON.parse(text) as ErrorBody).error;
      return new TwoTowerError(answer.status, code, message, request_id ?? requestId, retryAfterSeconds);
    } catch {
      const message = `status ${answer.status}: ${text.slice(0, 200)}`;
      return new TwoTowerError(answer.status, "unexpected", message, requestId, retryAfterSeconds);
    }
  }
}

/** The HTTP API, of `twotower serve` and, as far as a project has the functions deployed, of Supabase. */
export class TwoTower {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** What the token's user should see next. */
  recommend(request: RecommendationsRequest = {}, signal?: AbortSignal): Promise<Answer<Recommendations>> {
    return this.#call("two_tower_recommendations", request, signal);
  }

  /** What is like a video. */
  similarVideos(request: SimilarVideosRequest, signal?: AbortSignal): Promise<Answer<SimilarVideos>> {
    return this.#call("similar_videos", request, signal);
  }

  /** Lists for many users, with a token of the service role: never in an app. */
  batchRecommendations(request: BatchRequest, signal?: AbortSignal): Promise<Answer<Batch>> {
    return this.#call("batch_recommendations", request, signal);
  }

  /** What the token's user was shown, watched, liked and skipped. */
  recordEvents(request: EventsRequest, signal?: AbortSignal): Promise<Answer<EventsRecorded>> {
    return this.#call("events", request, signal);
  }

  async #call<T>(name: string, request: object, signal?: AbortSignal): Promise<Answer<T>> {
    const { baseUrl, accessToken, publishableKey, timeoutMs = 10_000 } = this.#options;
    const headers = new Headers({ "content-type": "application/json" });
    headers.set("authorization", `Bearer ${await accessToken()}`);
    if (publishableKey) headers.set("apikey", publishableKey);
    const deadline = AbortSignal.timeout(timeoutMs);
    const send = this.#options.fetch ?? fetch;
    const answer = await send(`${baseUrl.replace(/\/+$/, "")}/functions/v1/${name}`, {
      method: "POST",
      headers,
      body: JSON.stringify(request),
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
    if (!answer.ok) throw await TwoTowerError.of(answer);
    return { body: await answer.json() as T, requestId: answer.headers.get("x-request-id") };
  }
}
