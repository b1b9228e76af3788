import assert from "node:assert/strict";
import { echo, parseObject, readBody } from "./body.ts";
import { endpoint } from "./endpoint.ts";
import { ApiError, unavailable } from "./error.ts";
import type { LogLine } from "./log.ts";
import { requestId } from "./request_id.ts";

const URL = "http://127.0.0.1/two_tower_recommendations";

function post(body: BodyInit | null, headers: HeadersInit = { "content-type": "application/json" }): Request {
  return new Request(URL, { method: "POST", body, headers });
}

async function readObject(request: Request): Promise<Record<string, unknown>> {
  return parseObject(request.headers, await readBody(request));
}

async function refusal(work: Promise<unknown>): Promise<ApiError> {
  const error = await work.then(() => null, (error) => error);
  assert.ok(error instanceof ApiError, `${error}`);
  return error;
}

Deno.test("a body is one JSON object of at most 64 KiB, or nothing", async () => {
  assert.deepEqual(await readObject(post(null)), {});
  assert.deepEqual(await readObject(post("", {})), {});
  assert.deepEqual(await readObject(post('{"limit":3}', { "content-type": "Application/JSON; charset=utf-8" })), {
    limit: 3,
  });
  for (const body of ["{", "[]", "null", "7", '"x"', new Uint8Array([0x22, 0xff, 0x22])]) {
    const error = await refusal(readObject(post(body)));
    assert.deepEqual([error.status, error.code], [400, "invalid_request"], `${body}`);
  }
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"]) {
    assert.match((await refusal(readObject(post("{}", { "content-type": type })))).message, /Content-Type/);
  }
  const large = JSON.stringify({ junk: "x".repeat(64 * 1024) });
  assert.equal((await refusal(readObject(post(large)))).status, 413);
  const pieces = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(16 * 1024)),
  });
  assert.equal((await refusal(readObject(post(pieces)))).status, 413, "of unknown length");
});

Deno.test("what is repeated of a request is short and plain", () => {
  assert.equal(echo("朝 limit"), "朝 limit");
  assert.equal(echo("\u202e\0`"), "\\u{202e}\\u{0}\\u{60}");
  assert.ok(echo("x".repeat(1000)).length === 40);
});

Deno.test("only plain ids are taken over", () => {
  const of = (text: string) => requestId(new Headers({ "x-request-id": text }));
  assert.equal(of("a-1_b.C"), "a-1_b.C");
  for (const bad of ["", "a b", '"', "<x>", "x".repeat(65)]) {
    assert.match(of(bad), /^[0-9a-f]{16}$/);
  }
  assert.notEqual(of(""), of(""));
});

Deno.test("every answer has an id, timings, CORS and a line of log", async () => {
  const lines: LogLine[] = [];
  const options = { name: "test", allowedOrigins: ["https://app.example"], log: (line: LogLine) => lines.push(line) };
  const handler = endpoint(options, async (request) => {
    const body = await readObject(request);
    if (body.fail === "known") {
      throw unavailable("the reason");
    }
    if (body.fail === "defect") {
      throw new TypeError("a secret text");
    }
    return { body: { done: true }, log: { source: "popular", cached: false } };
  });
  const ask = async (body: string, headers: Record<string, string> = {}, method = "POST") => {
    const init = method === "POST" ? { body } : {};
    const all = { "content-type": "application/json", "x-request-id": "id-1", ...headers };
    return await handler(new Request(URL, { method, headers: all, ...init }));
  };

  const answer = await ask("{}", { origin: "https://app.example" });
  assert.deepEqual([answer.status, await answer.json()], [200, { done: true }]);
  assert.equal(answer.headers.get("x-request-id"), "id-1");
  assert.match(answer.headers.get("server-timing")!, /total;dur=[\d.]+/);
  assert.equal(answer.headers.get("access-control-allow-origin"), "https://app.example");
  assert.deepEqual(
    { ...lines[0], ms: 0 },
    {
      level: "info",
      function: "test",
      request_id: "id-1",
      method: "POST",
      status: 200,
      ms: 0,
      source: "popular",
      cached: false,
    },
  );
  assert.equal((await ask("{}", { origin: "https://evil.example" })).headers.get("access-control-allow-origin"), null);

  const known = await ask('{"fail":"known"}');
  assert.deepEqual([known.status, known.headers.get("retry-after")], [503, "1"]);
  const message = "recommendations are not available at the moment";
  assert.deepEqual(await known.json(), { error: { code: "unavailable", message, request_id: "id-1" } });
  assert.equal(lines.at(-1)!.reason, "the reason");

  const defect = await ask('{"fail":"defect"}');
  assert.deepEqual([defect.status, (await defect.json()).error.code], [500, "internal"]);
  assert.match(lines.at(-1)!.reason!, /^TypeError at http_test\.ts:\d+:\d+$/);

  const preflight = await ask(
    "",
    { origin: "https://app.example", "access-control-request-method": "POST" },
    "OPTIONS",
  );
  assert.equal(preflight.status, 204);
  assert.match(preflight.headers.get("access-control-allow-headers")!, /authorization.*apikey/);
  assert.equal((await ask("", {}, "GET")).status, 405);
});

Deno.test("what hangs is given up", async () => {
  const options = { name: "test", allowedOrigins: [], log: () => {}, hardDeadlineMs: 20 };
  const handler = endpoint(
    options,
    (_request, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  );
  assert.equal((await handler(post(null))).status, 504);
});
