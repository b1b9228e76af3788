import { invalid, tooLarge } from "./error.ts";

const MAX_BODY_BYTES = 64 * 1024;
const READ_DEADLINE_MS = 5000;

/** At most this many characters of a request are repeated in an answer. */
const MAX_ECHO_CHARS = 40;

/**
 * Reads a whole body. To be called before anything else is done with the request: answering while
 * the body is still arriving may reset the connection. Throws `ApiError`.
 */
export async function readBody(request: Request): Promise<Uint8Array> {
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) {
    throw tooLarge(MAX_BODY_BYTES);
  }
  if (request.body === null) {
    return new Uint8Array();
  }
  const body = request.headers.has("content-length") ? wholeBody(request) : collect(request.body.getReader());
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(invalid("the body did not arrive in time")), READ_DEADLINE_MS);
  });
  try {
    return await Promise.race([body, late]);
  } catch (error) {
    // The body may fail when it is no longer awaited.
    body.catch(() => {});
    throw error instanceof TypeError ? invalid("the body broke off") : error;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Reads a body with a stated, and so bounded, length. As a stream it would cost 64 KiB for each
 * chunk, however small.
 */
async function wholeBody(request: Request): Promise<Uint8Array> {
  return new Uint8Array(await request.arrayBuffer());
}

async function collect(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    size += value.length;
    if (size > MAX_BODY_BYTES) {
      await reader.cancel();
      throw tooLarge(MAX_BODY_BYTES);
    }
    pieces.push(value);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

/** Parses a body that is one JSON object; an empty body is an empty object. Throws `ApiError`. */
export function parseObject(headers: Headers, bytes: Uint8Array): Record<string, unknown> {
  if (bytes.length === 0) {
    return {};
  }
  const mediaType = headers.get("content-type")?.split(";")[0].trim().toLowerCase();
  if (mediaType !== "application/json") {
    throw invalid("the Content-Type must be application/json");
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw invalid("the body is not valid JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("the body must be a JSON object");
  }
  return value as Record<string, unknown>;
}

/**
 * The beginning of a piece of a request, safe to repeat: control and formatting characters are
 * escaped.
 */
export function echo(text: string): string {
  const begin = Array.from(text).slice(0, MAX_ECHO_CHARS).join("");
  return begin.replace(
    /[\p{C}\p{Z}"'\\`]/gu,
    (char) => char === " " ? char : `\\u{${char.codePointAt(0)!.toString(16)}}`,
  );
}
