import assert from "node:assert/strict";
import { ApiError } from "../http/error.ts";
import { readSettings } from "../settings.ts";
import { type Credentials, Rest } from "./rest.ts";

const SECRET_KEY = "sb_secret_x";

/** A PostgREST that answers every call alike, and remembers what the last one brought along. */
class Project implements AsyncDisposable {
  headers = new Headers();
  answer: () => Response = () => Response.json(null);
  readonly #server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    this.headers = request.headers;
    return this.answer();
  });

  /** The result of `Rest` for an answer. */
  async called(credentials: Credentials, answer: () => Response): Promise<unknown> {
    const environment: Record<string, string> = {
      SUPABASE_URL: `http://127.0.0.1:${this.#server.addr.port}`,
      SUPABASE_ANON_KEY: "public",
      SUPABASE_SERVICE_ROLE_KEY: SECRET_KEY,
      TWOTOWER_JWT_SECRET: "s".repeat(32),
    };
    this.answer = answer;
    const rest = new Rest(readSettings((name) => environment[name]));
    return await rest.call("recommendation_answer", {}, credentials, AbortSignal.timeout(10_000));
  }

  /** Status, code and message of the error that `Rest` makes of a refusal. */
  async refused(credentials: Credentials, status: number, code: string): Promise<[number, string, string]> {
    const body = { code, message: "secret", details: null, hint: null };
    const answer = () => Response.json(body, { status });
    const error = await this.called(credentials, answer).then(() => null, (error) => error);
    assert.ok(error instanceof ApiError, `${error}`);
    assert.ok(!`${error.message}${error.reason}`.includes("secret"));
    return [error.status, error.code, error.message];
  }

  async [Symbol.asyncDispose]() {
    await this.#server.shutdown();
  }
}

Deno.test("a token that does not hold is 401, one of a role without the right is 403", async () => {
  await using project = new Project();
  const user = { token: "t" };
  assert.deepEqual(await project.called(user, () => Response.json({ a: 1 })), { a: 1 });
  assert.equal(project.headers.get("authorization"), "Bearer t");
  const nobody = [401, "unauthorized", "a valid bearer token is required"];
  const noRight = [403, "forbidden", "the token's role may not ask for this"];
  // PostgREST answers SQLSTATE 42501 with 401 if the role is that of callers without a token.
  const refusals = [
    [401, "PGRST301", nobody],
    [401, "42501", nobody],
    [401, "22023", nobody],
    [403, "42501", noRight],
    [403, "0P000", noRight],
    [403, "PT403", [401, "unauthorized", "the user of this token was erased"]],
  ] as const;
  for (const [status, code, expected] of refusals) {
    assert.deepEqual(await project.refused(user, status, code), expected, `${status} ${code}`);
  }
});

Deno.test("a service key that is refused is not the caller's fault", async () => {
  await using project = new Project();
  for (const status of [401, 403]) {
    const [answered, code] = await project.refused("service", status, "42501");
    assert.deepEqual([answered, code], [503, "unavailable"]);
    assert.equal(project.headers.get("apikey"), SECRET_KEY);
  }
});

Deno.test("what is no refusal of a token keeps its own status", async () => {
  await using project = new Project();
  const failures = [
    [400, "22023", 500],
    [404, "PGRST202", 503],
    [500, "57014", 504],
    [504, "", 504],
    [503, "PGRST000", 503],
  ] as const;
  for (const [status, code, expected] of failures) {
    assert.equal((await project.refused({ token: "t" }, status, code))[0], expected, `${status} ${code}`);
  }
});
