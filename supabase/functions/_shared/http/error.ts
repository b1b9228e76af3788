/** Error codes, for programs. */
export type ErrorCode =
  | "invalid_request"
  | "unauthorized"
  | "forbidden"
  | "method_not_allowed"
  | "payload_too_large"
  | "unavailable"
  | "timeout"
  | "internal";

/** All errors of the functions, with the statuses, codes and messages of `twotower serve`. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  /**
   * `message` is for the caller. `reason` is for the log and is written here: never a piece of the
   * request or of another service's answer, which may contain what must not be logged.
   */
  constructor(readonly status: number, readonly code: ErrorCode, message: string, readonly reason: string = message) {
    super(message);
  }
}

export function invalid(message: string): ApiError {
  return new ApiError(400, "invalid_request", message, "the request is not valid");
}

/** No valid token. The caller is not told why. */
export function unauthorized(reason: string): ApiError {
  return new ApiError(401, "unauthorized", "a valid bearer token is required", reason);
}

/** A valid token of a user who was erased. */
export function erased(): ApiError {
  return new ApiError(401, "unauthorized", "the user of this token was erased");
}

/** A valid token that may not be used for this request. */
export function forbidden(message: string, reason = message): ApiError {
  return new ApiError(403, "forbidden", message, reason);
}

export function methodNotAllowed(): ApiError {
  return new ApiError(405, "method_not_allowed", "this address does not take this method");
}

export function tooLarge(limit: number): ApiError {
  return new ApiError(413, "payload_too_large", `the body is larger than ${limit} bytes`);
}

/** Database, storage or keys cannot be used now. */
export function unavailable(reason: string, message = "recommendations are not available at the moment"): ApiError {
  return new ApiError(503, "unavailable", message, reason);
}

export function timeout(stage: string): ApiError {
  return new ApiError(504, "timeout", "the answer took too long", `the deadline for ${stage} has passed`);
}

/** A defect: something that cannot happen has happened. */
export function internal(reason: string): ApiError {
  return new ApiError(500, "internal", "something went wrong on our side", reason);
}

/** The response for `error`. */
export function errorResponse(error: ApiError, requestId: string): Response {
  const headers = new Headers();
  if (error.status === 401) {
    headers.set("WWW-Authenticate", "Bearer");
  }
  if (error.status === 503) {
    headers.set("Retry-After", "1");
  }
  const { code, message } = error;
  return Response.json({ error: { code, message, request_id: requestId } }, { status: error.status, headers });
}
