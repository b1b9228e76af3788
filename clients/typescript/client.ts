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
  /** Where `twotower serve` is reached, or `https://<ref>.supabase.co`. */
  baseUrl: string;
  /** The access token of whom the lists are for; asked for before each call, so that it may be renewed in between. */
  accessToken: () => string | Promise<string>;
  /** Of a Supabase project. `twotower serve` asks for none. */
  publishableKey?: string;
  /** Milliseconds for the whole of a call, that for the token included; 10,000 if absent. */
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
    /** When to try again, if the server, or what stands in front of it, says so in seconds. */
    readonly retryAfterSeconds: number | null,
  ) {
    super(message);
  }

  /** Reads a refusal. */
  static async of(answer: Response): Promise<TwoTowerError> {
    return refusal(answer, await answer.text());
  }
}

/** What an answer without the body that was asked for says. */
function refusal({ status, headers }: Response, text: string): TwoTowerError {
  const retryAfter = headers.get("retry-after") ?? "";
  // A date, which proxies may send as well, is left to the caller's own patience.
  const retryAfterSeconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : null;
  const requestId = headers.get("x-request-id");
  const body = parsed(text) as Partial<ErrorBody> | null | undefined;
  // Others in front of the server may say `error` and mean something else.
  const { code, message, request_id }: Partial<ErrorDetails> = body?.error ?? {};
  if (typeof code === "string" && typeof message === "string") {
    return new TwoTowerError(status, code, message, request_id ?? requestId, retryAfterSeconds);
  }
  const beginning = `status ${status}: ${text.slice(0, 200)}`;
  return new TwoTowerError(status, "unexpected", beginning, requestId, retryAfterSeconds);
}

/** What `work` gives, unless `end` comes first: a renewal of the token may take its time, or be lost. */
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

/** `undefined` of what is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
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
