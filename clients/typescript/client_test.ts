import assert from "node:assert/strict";
import { TwoTower, TwoTowerError } from "./client.ts";
import { likeVideo, recommend, recommendVideos, RpcError, type SupabaseClientLike } from "./supabase.ts";

const LIST = {
  user_id: "0b000000-0000-4000-8000-000000000001",
  source: "two_tower",
  model_version: 7,
  recommendations: [],
  partial: false,
  cached: false,
  generated_at: "2026-11-24T17:30:05.123Z",
};

/**
 * Sends one request to a server that always gives `answer`. Returns the request and the outcome.
 */
async function asked(answer: () => Response, ask: (client: TwoTower) => Promise<unknown>) {
  const requests: { path: string; headers: Headers; body: unknown }[] = [];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    requests.push({ path: new URL(request.url).pathname, headers: request.headers, body: await request.json() });
    return answer();
  });
  const client = new TwoTower({
    baseUrl: `http://127.0.0.1:${server.addr.port}/`,
    accessToken: () => Promise.resolve("a.user's.token"),
    publishableKey: "sb_publishable_key",
  });
  const outcome = await ask(client).catch((error) => error);
  assert.equal(requests.length, 1);
  return { ...requests[0], outcome };
}

Deno.test("a call has the token, the key, the body and the address of its function", async () => {
  const answer = () => Response.json(LIST, { headers: { "X-Request-Id": "r1" } });
  const { path, headers, body, outcome } = await asked(answer, (client) => client.recommend({ limit: 3 }));
  assert.equal(path, "/functions/v1/two_tower_recommendations");
  assert.equal(headers.get("authorization"), "Bearer a.user's.token");
  assert.equal(headers.get("apikey"), "sb_publishable_key");
  assert.deepEqual(body, { limit: 3 });
  assert.deepEqual(outcome, { body: LIST, requestId: "r1" });

  const paths = [
    await asked(answer, (client) => client.similarVideos({ video_id: "v" })),
    await asked(answer, (client) => client.batchRecommendations({ user_ids: [] })),
    await asked(answer, (client) => client.recordEvents({ events: [] })),
  ].map(({ path }) => path.replace("/functions/v1/", ""));
  assert.deepEqual(paths, ["similar_videos", "batch_recommendations", "events"]);
});

Deno.test("a refusal says what a program and what a person needs", async () => {
  const refusal = { error: { code: "too_many_requests", message: "Slower, please.", request_id: "r2" } };
  const answer = () => Response.json(refusal, { status: 429, headers: { "Retry-After": "2" } });
  const { outcome } = await asked(answer, (client) => client.recommend());
  assert(outcome instanceof TwoTowerError);
  const { status, code, message, requestId, retryAfterSeconds } = outcome;
  assert.deepEqual(
    { status, code, message, requestId, retryAfterSeconds },
    { status: 429, code: "too_many_requests", message: "Slower, please.", requestId: "r2", retryAfterSeconds: 2 },
  );
});

Deno.test("what stands in front of the server is told from it", async () => {
  const answers: [number, string][] = [
    // Networks with a sign-in page answer like this.
    [200, "<html>Welcome</html>"],
    [401, '{"error":{"message":"No token"}}'],
    [429, '{"error":"Too many requests"}'],
    [502, "<html>Bad gateway</html>"],
    [503, "null"],
    [503, ""],
  ];
  for (const [status, body] of answers) {
    const answer = () => new Response(body, { status, headers: { "Retry-After": "3" } });
    const { outcome } = await asked(answer, (client) => client.recommend());
    assert(outcome instanceof TwoTowerError, `${body}: ${outcome}`);
    assert.deepEqual([outcome.status, outcome.code, outcome.retryAfterSeconds], [status, "unexpected", 3], body);
    assert.equal(outcome.message, `status ${status}: ${body}`);
  }
});

Deno.test("a time to wait is a number of seconds or none", async () => {
  const none = ["", "-1", "1.5", "0x10", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"].map((text) => [text, null] as const);
  for (const [header, seconds] of [["120", 120] as const, ["0", 0] as const, ...none]) {
    const answer = () => new Response("busy", { status: 503, headers: { "Retry-After": header } });
    const { outcome } = await asked(answer, (client) => client.recommend());
    assert(outcome instanceof TwoTowerError);
    assert.equal(outcome.retryAfterSeconds, seconds, header);
  }
});

Deno.test("a call ends at its deadline and when its caller wants it to", async () => {
  const never: typeof fetch = (_, { signal } = {}) =>
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  const options = { baseUrl: "http://127.0.0.1", accessToken: () => "t", fetch: never };
  const late = new TwoTower({ ...options, timeoutMs: 1 }).recommend();
  await assert.rejects(late, { name: "TimeoutError" });
  const given = new AbortController();
  const call = new TwoTower(options).recommend({}, given.signal);
  await Promise.resolve();
  given.abort();
  await assert.rejects(call, { name: "AbortError" });
});

Deno.test("a token that does not come keeps nobody beyond the deadline", async () => {
  const unsent: typeof fetch = () => assert.fail("nothing is sent without a token");
  const lost = { baseUrl: "http://127.0.0.1", accessToken: () => new Promise<string>(() => {}), fetch: unsent };
  await assert.rejects(new TwoTower({ ...lost, timeoutMs: 1 }).recommend(), { name: "TimeoutError" });
  const given = new AbortController();
  const call = new TwoTower(lost).recommend({}, given.signal);
  given.abort();
  await assert.rejects(call, { name: "AbortError" });
  await assert.rejects(new TwoTower(lost).recommend({}, given.signal), { name: "AbortError" });
  const failing = new TwoTower({ ...lost, accessToken: () => Promise.reject(new Error("signed out")) });
  await assert.rejects(failing.recommend(), { message: "signed out" });
});

Deno.test("supabase-js is called with the names and parameters of the functions", async () => {
  const calls: unknown[] = [];
  const supabase: SupabaseClientLike = {
    functions: {
      invoke(name, { body }) {
        calls.push([name, body]);
        return Promise.resolve({ data: LIST, error: null });
      },
    },
    rpc(name, parameters) {
      calls.push([name, parameters]);
      return Promise.resolve({ data: name === "like_video" ? true : [], error: null });
    },
  };
  assert.equal((await recommend(supabase, { limit: 3 })).model_version, 7);
  assert.equal(await likeVideo(supabase, "v"), true);
  assert.deepEqual(await recommendVideos(supabase, { limit: 3 }), []);
  assert.deepEqual(calls, [
    ["two_tower_recommendations", { limit: 3 }],
    ["like_video", { video_id: "v", liked: true }],
    ["recommend_videos", { limit: 3 }],
  ]);
});

Deno.test("errors of supabase-js keep what the server said", async () => {
  const refusal = { error: { code: "forbidden", message: "erased", request_id: "r3" } };
  const supabase: SupabaseClientLike = {
    functions: {
      invoke: () => Promise.resolve({ data: null, error: { context: Response.json(refusal, { status: 403 }) } }),
    },
    rpc: () => Promise.resolve({ data: null, error: { code: "PT403", message: "erased" } }),
  };
  await assert.rejects(recommend(supabase), (error) => error instanceof TwoTowerError && error.code === "forbidden");
  await assert.rejects(likeVideo(supabase, "v"), (error) => error instanceof RpcError && error.code === "PT403");
  // supabase-js has no code if the answer is not from PostgREST, or if there is none.
  for (const error of [{ message: "<html>Bad gateway</html>" }, { code: "", message: "TypeError: fetch failed" }]) {
    const away = { ...supabase, rpc: () => Promise.resolve({ data: null, error }) };
    await assert.rejects(likeVideo(away, "v"), (error) => error instanceof RpcError && error.code === "unexpected");
  }
});
