/** How long a browser may go without asking again, in seconds. */
const MAX_AGE_S = 600;

/** `apikey` and `x-client-info` are what Supabase's client library adds to every request. */
const REQUEST_HEADERS = "authorization, content-type, x-request-id, apikey, x-client-info";
const RESPONSE_HEADERS = "x-request-id, retry-after, server-timing";

/** Marks an answer as readable by pages of the request's origin, if that is allowed. */
export function allowOrigin(request: Request, allowed: readonly string[], headers: Headers): void {
  const origin = request.headers.get("origin");
  headers.append("Vary", "Origin");
  if (origin === null || !(allowed.includes("*") || allowed.includes(origin))) {
    return;
  }
  // Cookies play no part, so credentials are never allowed, and every origin may be answered by its name.
  headers.set("Access-Control-Allow-Origin", origin);
  headers.set("Access-Control-Expose-Headers", RESPONSE_HEADERS);
}

/** The answer to a preflight. */
export function preflight(): Response {
  return new Response(null, {
    status: 204,
    headers: {
      "Access-Control-Allow-Methods": "POST",
      "Access-Control-Allow-Headers": REQUEST_HEADERS,
      "Access-Control-Max-Age": `${MAX_AGE_S}`,
    },
  });
}
