import assert from "node:assert/strict";
import { ApiError } from "../_shared/http/error.ts";
import { readAnswer } from "./answer.ts";
import { Answers, KEEP_MS } from "./answers.ts";
import { cacheKey, parseQuery } from "./query.ts";

Deno.test("every field is optional", () => {
  assert.deepEqual(parseQuery({}), { limit: 10, excludeLiked: true, minScore: null });
  const all = parseQuery({ limit: 100, exclude_liked: false, min_score: -0.5 });
  assert.deepEqual(all, { limit: 100, excludeLiked: false, minScore: -0.5 });
  assert.equal(cacheKey(all), "answer 100 f -0.5");
  assert.equal(cacheKey(parseQuery({})), "answer 10 t");
});

Deno.test("what is wrong is named", () => {
  const wrong: Record<string, unknown[]> = {
    limit: [0, -1, 101, 1e9, 1.5, "10", null, [1], NaN],
    exclude_liked: ["yes", 1, null],
    min_score: [2, -1.1, null, "0"],
    diversity: [0],
    filter: [{}],
    include_reasons: [false],
    seed: [1],
    user_id: ["x"],
    constructor: [1],
    ["__proto__"]: [1],
  };
  for (const [field, values] of Object.entries(wrong)) {
    for (const value of values) {
      assert.throws(
        () => parseQuery({ [field]: value }),
        (error) => error instanceof ApiError && error.status === 400 && error.message.includes(`\`${field}\``),
        `${field}: ${value}`,
      );
    }
  }
  assert.throws(() => parseQuery({ diversity: 0.5 }), /twotower serve/);
});

const USER = "0b000000-0000-4000-8000-000000000001";

function answer(changes: Record<string, unknown> = {}) {
  return {
    user_id: USER,
    source: "two_tower",
    model_version: 7,
    recommendations: [{ video_id: "v", title: "Bread, slowly", score: 0.5, reason: "skipped_before" }],
    partial: false,
    cached: false,
    generated_at: "2026-11-26T12:00:00.000Z",
    ...changes,
  };
}

/** Users may write their own rows of the cache. */
Deno.test("a kept answer is read field by field", () => {
  assert.deepEqual(readAnswer(answer(), USER), answer());
  assert.deepEqual(readAnswer({ ...answer(), more: 1 }, USER), answer());
  const changes: Record<string, unknown>[] = [
    { user_id: "0b000000-0000-4000-8000-000000000002" },
    { source: "stale_cache" },
    { model_version: "7" },
    { recommendations: null },
    { recommendations: [null] },
    { recommendations: [{ video_id: "v", title: 1, score: 0 }] },
    { reason: "because" },
    { generated_at: 1 },
  ];
  for (const change of changes) {
    assert.equal(readAnswer(answer(change), USER), null, JSON.stringify(change));
  }
  assert.equal(readAnswer(null, USER), null);
});

Deno.test("an isolate keeps a bounded number of characters for five minutes, each user's apart", () => {
  let nowMs = Date.now();
  const kept = readAnswer(answer({ generated_at: new Date(nowMs).toISOString() }), USER)!;
  const answers = new Answers(() => nowMs, 3 * JSON.stringify(kept).length);
  for (const key of ["a", "b", "c"]) {
    answers.keep(USER, key, kept, "state");
  }
  assert.equal(answers.latest(USER, "a")?.state, "state");
  answers.keep("another", "a", kept, "other");
  assert.equal(answers.latest(USER, "b"), null, "used longest ago");
  assert.equal(answers.latest("another", "a")?.state, "other");
  assert.deepEqual(answers.latest("another", "a")?.answer(), kept);
  // An answer that is kept again takes no more room, and one that takes all of the room leaves
  // none.
  answers.keep("another", "a", kept, "newer");
  assert.equal(answers.latest(USER, "c")?.state, "state");
  const [video] = kept.recommendations;
  answers.keep("another", "b", { ...kept, recommendations: Array(100).fill(video) }, "state");
  assert.equal(answers.latest("another", "b"), null);
  assert.equal(answers.latest("another", "a"), null);
  answers.keep("another", "a", kept, "other");
  answers.keep(USER, "a", kept, "state");
  answers.forget(USER);
  assert.equal(answers.latest(USER, "a"), null);
  nowMs += KEEP_MS;
  assert.equal(answers.latest("another", "a"), null);
});
