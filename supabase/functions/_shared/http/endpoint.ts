import { allowOrigin, preflight } from "./cors.ts";
import { ApiError, errorResponse, internal, methodNotAllowed, timeout } from "./error.ts";
import { type Log, type LogLine } from "./log.ts";
import { requestId } from "./request_id.ts";
import { Timing } from "./timing.ts";

/** The platform allows 150 s; callers are promised 30 s, including the transfer of the answer. */
const HARD_DEADLINE_MS = 25_000;

/** The context that a handler gets besides the request. */
export interface Exchange {
  readonly timing: Timing;
  /** Aborts at the hard deadline. */
  readonly signal: AbortSignal;
}

/** A result, and fields for the log. */
export interface Result {
  readonly body: unknown;
  readonly log?: Pick<LogLine, "source" | "cached" | "partial">;
}

/** Options of a function. */
export interface EndpointOptions {
  readonly name: string;
  readonly allowedOrigins: readonly string[];
  readonly log: Log;
  readonly hardDeadlineMs?: number;
}

/**
 * Wraps the work of a function: request id, CORS, deadline, errors, timing and one log line for
 * each request.
 */
export function endpoint(
  options: EndpointOptions,
  handle: (request: Request, exchange: Exchange) => Promise<Result>,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const timing = new Timing();
    const id = requestId(request.headers);
    const { response, line } = await respond(options, handle, request, id, timing);
    response.headers.set("X-Request-Id", id);
    response.headers.set("Server-Timing", timing.header());
    allowOrigin(request, options.allowedOrigins, response.headers);
    options.log({
      level: response.status >= 500 ? "error" : "info",
      function: options.name,
      request_id: id,
      method: plainMethod(request.method),
      status: response.status,
      ms: Math.round(timing.elapsedMs() * 100) / 100,
      ...line,
    });
    return response;
  };
}

async function respond(
  options: EndpointOptions,
  handle: (request: Request, exchange: Exchange) => Promise<Result>,
  request: Request,
  id: string,
  timing: Timing,
): Promise<{ response: Response; line: Partial<LogLine> }> {
  if (request.method === "OPTIONS") {
    return { response: preflight(), line: {} };
  }
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(timeout("the request")), options.hardDeadlineMs ?? HARD_DEADLINE_MS);
  try {
    if (request.method !== "POST") {
      throw methodNotAllowed();
    }
    const { body, log } = await handle(request, { timing, signal: deadline.signal });
    return { response: Response.json(body), line: { ...log } };
  } catch (thrown) {
    const error = thrown instanceof ApiError ? thrown : internal(defect(thrown));
    return { response: errorResponse(error, id), line: { reason: error.reason } };
  } finally {
    clearTimeout(timer);
  }
}

/** Type and location of a defect. Its message is left out, since it may quote data. */
function defect(thrown: unknown): string {
  if (!(thrown instanceof Error)) {
    return "something that is no error was thrown";
  }
  const place = thrown.stack?.split("\n").find((line) => /\.ts:\d+/.test(line))?.match(/[\w.]+\.ts:\d+:\d+/)?.[0];
  return `${thrown.name} at ${place ?? "an unknown place"}`;
}

/** The method for the log, since clients can send any text as method. */
function plainMethod(method: string): string {
  return ["POST", "GET", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"].includes(method) ? method : "other";
}
