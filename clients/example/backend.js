import { baseUrl, publishableKey } from "./config.js";

const TIMEOUT_MS = 10_000;

/** A failed request, with a message for people. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function send(path, body, token) {
  const headers = { "Content-Type": "application/json" };
  if (publishableKey) headers.apikey = publishableKey;
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer, said;
  try {
    answer = await fetch(baseUrl + path, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    said = parse(await answer.text());
  } catch {
    throw new Refused(0, "The server cannot be reached. Try again in a moment.");
  }
  if (answer.ok) return { said, requestId: answer.headers.get("X-Request-Id") };
  throw new Refused(answer.status, said?.error?.message ?? said?.msg ?? said?.message ?? `Status ${answer.status}`);
}

/** Parses JSON. Something in front of a server may answer with a page instead. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Whether the base URL is that of a Supabase project, rather than `twotower serve`. */
export const onSupabase = publishableKey !== "";

/** Gets an access token for e-mail and password from Supabase Auth. */
export async function signIn(email, password) {
  const { said } = await send("/auth/v1/token?grant_type=password", { email, password });
  return said.access_token;
}

/** Recommendations for the token's user. The call is the same for both servers. */
export async function recommend(token, limit) {
  const { said, requestId } = await send(
    "/functions/v1/two_tower_recommendations",
    { limit, exclude_liked: true },
    token,
  );
  return { ...said, requestId };
}

/** Records that the token's user likes or skips a video of a list. */
export async function react(token, kind, video, list) {
  if (!onSupabase) {
    const event = {
      event_id: crypto.randomUUID(),
      kind,
      video_id: video.video_id,
      position: list.recommendations.indexOf(video) + 1,
    };
    if (list.model_version) event.model_version = list.model_version;
    if (list.requestId) event.request_id = list.requestId;
    await send("/functions/v1/events", { events: [event] }, token);
  } else if (kind === "like") {
    await send("/rest/v1/rpc/like_video", { video_id: video.video_id, liked: true }, token);
  } else {
    try {
      await send("/rest/v1/skips", { user_id: list.user_id, video_id: video.video_id }, token);
    } catch (error) {
      // The video was already skipped, which is fine.
      if (error.status !== 409) throw error;
    }
  }
}
