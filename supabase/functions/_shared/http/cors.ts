/** How long a browser may cache a preflight response, seconds. */
const MAX_AGE_S = 600;

/** Supabase's client library adds `apikey` and `x-client-info` to every request. */
const REQUEST_HEADERS = "authorization, content-type, x-request-id, apikey, x-client-info";
const RESPONSE_HEADERS = "x-request-id, retry-after, server-timing";

/** Marks a response as readable by pages of the request's origin, if that is allowed. */
export function allowOrigin(request: Request, allowed: readonly string[], headers: Headers): void {
  const origin = request.headers.get("origin");
  headers.append("Vary", "Origin");
  if (origin === null || !(allowed.includes("*") || allowed.includes(origin))) {
    return;
  }
  // Cookies are not used, so credentials are never allowed, and any allowed origin may be named.
  headers.set("Access-Control-Allow-Origin", origin);
  headers.set("Access-Control-Expose-Headers", RESPONSE_HEADERS);
}

/** The response to a preflight request. */
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
