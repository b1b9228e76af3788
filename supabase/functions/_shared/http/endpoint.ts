import { allowOrigin, preflight } from "./cors.ts";
import { ApiError, errorResponse, internal, methodNotAllowed, timeout } from "./error.ts";
import { type Log, type LogLine } from "./log.ts";
import { requestId } from "./request_id.ts";
import { Timing } from "./timing.ts";

/** The platform gives 150 s; callers are promised 30, answer included. */
const HARD_DEADLINE_MS = 25_000;

/** What a handler gets beside the request. */
export interface Exchange {
  readonly timing: Timing;
  /** Aborts when the caller has waited long enough. */
  readonly signal: AbortSignal;
}

/** A result, and what the log may say of it. */
export interface Result {
  readonly body: unknown;
  readonly log?: Pick<LogLine, "source" | "cached" | "partial">;
}

/** How a function is set up. */
export interface EndpointOptions {
  readonly name: string;
  readonly allowedOrigins: readonly string[];
  readonly log: Log;
  readonly hardDeadlineMs?: number;
}

/** What every function does around its own work: ids, CORS, deadline, errors, timing and one line of log a request. */
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

/** A defect's kind and place. Its message may quote what it stumbled over. */
function defect(thrown: unknown): string {
  if (!(thrown instanceof Error)) {
    return "something that is no error was thrown";
  }
  const place = thrown.stack?.split("\n").find((line) => /\.ts:\d+/.test(line))?.match(/[\w.]+\.ts:\d+:\d+/)?.[0];
  return `${thrown.name} at ${place ?? "an unknown place"}`;
}

/** Methods can be any text. */
function plainMethod(method: string): string {
  return ["POST", "GET", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"].includes(method) ? method : "other";
}
