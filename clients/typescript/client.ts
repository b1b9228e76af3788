import type {
  Batch,
  BatchRequest,
  ErrorBody,
  ErrorCode,
  ErrorDetails,
  EventsRecorded,
  EventsRequest,
  Recommendations,
  RecommendationsRequest,
  SimilarVideos,
  SimilarVideosRequest,
} from "./types.ts";

export type * from "./types.ts";

export interface ClientOptions {
  /** Address of `twotower serve`, or `https://<ref>.supabase.co`. */
  baseUrl: string;
  /**
   * The access token of the user whom the lists are for. Called before each request, so that it can
   * be renewed in between.
   */
  accessToken: () => string | Promise<string>;
  /** The publishable key of a Supabase project. `twotower serve` needs none. */
  publishableKey?: string;
  /** Deadline of a whole call, including `accessToken`, in milliseconds; 10,000 if absent. */
  timeoutMs?: number;
  /** Used instead of the global `fetch`. */
  fetch?: typeof fetch;
}

/** An answer, with the id that identifies it in the server's log and in events about it. */
export interface Answer<T> {
  body: T;
  /** `X-Request-Id`; events take it as `request_id`. */
  requestId: string | null;
}

/**
 * An error response. A request without any response fails with an error of `fetch`, such as
 * `TimeoutError`.
 */
export class TwoTowerError extends Error {
  override name = "TwoTowerError";

  constructor(
    /** HTTP status. */
    readonly status: number,
    /** `unexpected` if the response comes not from twotower but from something in front of it. */
    readonly code: ErrorCode | "unexpected",
    message: string,
    readonly requestId: string | null,
    /** Seconds after which to try again, if the server or a proxy states it in seconds. */
    readonly retryAfterSeconds: number | null,
  ) {
    super(message);
  }

  /** Reads an error response. */
  static async of(answer: Response): Promise<TwoTowerError> {
    return refusal(answer, await answer.text());
  }
}

/** The error for a response that is not the expected result. */
function refusal({ status, headers }: Response, text: string): TwoTowerError {
  const retryAfter = headers.get("retry-after") ?? "";
  // Proxies may send a date instead; that is ignored.
  const retryAfterSeconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : null;
  const requestId = headers.get("x-request-id");
  const body = parsed(text) as Partial<ErrorBody> | null | undefined;
  // A proxy may use `error` with another meaning.
  const { code, message, request_id }: Partial<ErrorDetails> = body?.error ?? {};
  if (typeof code === "string" && typeof message === "string") {
    return new TwoTowerError(status, code, message, request_id ?? requestId, retryAfterSeconds);
  }
  const beginning = `status ${status}: ${text.slice(0, 200)}`;
  return new TwoTowerError(status, "unexpected", beginning, requestId, retryAfterSeconds);
}

/**
 * The result of `work`, unless `end` aborts first: renewing a token may take long, or never end.
 */
async function before<T>(end: AbortSignal, work: () => T | Promise<T>): Promise<T> {
  let stop = () => {};
  const ended = new Promise<never>((_, reject) => stop = () => reject(end.reason));
  end.addEventListener("abort", stop);
  try {
    end.throwIfAborted();
    const done = await Promise.race([work(), ended]);
    end.throwIfAborted();
    return done;
  } finally {
    end.removeEventListener("abort", stop);
  }
}

/** Parses JSON; `undefined` if the text is not JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * A client of the HTTP API of `twotower serve` and, for the functions that a project has deployed,
 * of Supabase.
 */
export class TwoTower {
  readonly #options: ClientOptions;

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  /** Recommendations for the token's user. */
  recommend(request: RecommendationsRequest = {}, signal?: AbortSignal): Promise<Answer<Recommendations>> {
    return this.#call("two_tower_recommendations", request, signal);
  }

  /** Videos that are similar to a given one. */
  similarVideos(request: SimilarVideosRequest, signal?: AbortSignal): Promise<Answer<SimilarVideos>> {
    return this.#call("similar_videos", request, signal);
  }

  /** Lists for many users. Needs a token of the service role: never use it in an app. */
  batchRecommendations(request: BatchRequest, signal?: AbortSignal): Promise<Answer<Batch>> {
    return this.#call("batch_recommendations", request, signal);
  }

  /** Records what the token's user was shown, watched, liked and skipped. */
  recordEvents(request: EventsRequest, signal?: AbortSignal): Promise<Answer<EventsRecorded>> {
    return this.#call("events", request, signal);
  }

  async #call<T>(name: string, request: object, signal?: AbortSignal): Promise<Answer<T>> {
    const { baseUrl, accessToken, publishableKey, timeoutMs = 10_000 } = this.#options;
    const deadline = AbortSignal.timeout(timeoutMs);
    const end = signal ? AbortSignal.any([signal, deadline]) : deadline;
    const headers = new Headers({ "content-type": "application/json" });
    headers.set("authorization", `Bearer ${await before(end, accessToken)}`);
    if (publishableKey) headers.set("apikey", publishableKey);
    const send = this.#options.fetch ?? fetch;
    const answer = await send(`${baseUrl.replace(/\/+$/, "")}/functions/v1/${name}`, {
      method: "POST",
      headers,
      body: JSON.stringify(request),
      signal: end,
    });
    const text = await answer.text();
    const body = parsed(text);
    if (!answer.ok || body === undefined) throw refusal(answer, text);
    return { body: body as T, requestId: answer.headers.get("x-request-id") };
  }
}
