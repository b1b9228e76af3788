/** The caller's id of the request, if it is short and plain; otherwise a random one. */
export function requestId(headers: Headers): string {
  const stated = headers.get("x-request-id");
  if (stated !== null && /^[A-Za-z0-9\-_.]{1,64}$/.test(stated)) {
    return stated;
  }
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
