import postgres, { type Sql } from "postgres";
import { Functions } from "./function.ts";
import type { Claims } from "./token.ts";

/** Milliseconds that a statement may take; that of role `authenticated` in a new project of Supabase. */
const STATEMENT_TIMEOUT_MS = 8000;

/** `POST /rest/v1/rpc/NAME` on a real PostgreSQL, as PostgREST answers it. See README.md. */
export class Rest {
  readonly #sql: Sql;
  readonly #functions: Functions;

  constructor(database: string, connections = 10) {
    this.#sql = postgres(database, { max: connections, onnotice: () => {} });
    this.#functions = new Functions(this.#sql);
  }

  /** `claims`: those of the request's token, `null` if it does not hold. */
  async answer(request: Request, name: string, claims: Claims | null): Promise<Response> {
    if (claims === null) {
      return failure(401, "PGRST301", "JWT is not valid");
    }
    if (request.method !== "POST") {
      return failure(405, "PGRST101", "only POST is stood in for");
    }
    const text = await request.text();
    const parameters = parsed(text || "{}");
    if (parameters === null) {
      return failure(400, "PGRST102", "the body is no JSON object");
    }
    const called = await this.#functions.find(name, Object.keys(parameters));
    if (called === null) {
      return failure(404, "PGRST202", `no function public.${name} with these parameters in the schema cache`);
    }
    try {
      const mode = `isolation level read committed read ${called.readOnly ? "only" : "write"}`;
      const body = await this.#sql.begin(mode, async (transaction) => {
        const settings = transaction`
          select set_config('role', ${String(claims.role ?? "anon")}, true),
                 set_config('request.jwt.claims', ${JSON.stringify(claims)}, true),
                 set_config('statement_timeout', ${`${STATEMENT_TIMEOUT_MS}`}, true)`.execute();
        const values = called.statement.includes("$1") ? [JSON.stringify(parameters)] : [];
        const rows = transaction.unsafe(called.statement, values, { prepare: true }).execute();
        const [, [row]] = await Promise.all([settings, rows]);
        return row.body as string | null;
      });
      return called.result === "nothing"
        ? new Response(null, { status: 204 })
        : new Response(body ?? "null", { headers: { "content-type": "application/json; charset=utf-8" } });
    } catch (error) {
      console.error(error instanceof postgres.PostgresError ? "" : error);
      return error instanceof postgres.PostgresError
        ? refusal(error, claims.role !== "anon")
        : failure(503, "PGRST000", "the database cannot be reached");
    }
  }

  async close(): Promise<void> {
    await this.#sql.end({ timeout: 1 });
  }
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function failure(status: number, code: string, message: string): Response {
  return Response.json({ code, message, details: null, hint: null }, { status });
}

/** SQLSTATE to status, as PostgREST documents it ("Errors", PostgREST 12). */
function refusal(error: postgres.PostgresError, hasToken: boolean): Response {
  const { code, message, detail = null, hint = null } = error;
  console.error(code, message);
  const body = { code, message, details: detail, hint };
  const custom = /^PT([2345]\d\d)$/.exec(code)?.[1];
  return Response.json(body, { status: custom === undefined ? statusOf(code, message, hasToken) : Number(custom) });
}

function statusOf(code: string, message: string, hasToken: boolean): number {
  const denied = hasToken ? 403 : 401;
  if (code === "22023" && /^role .* does not exist$/.test(message)) {
    return 401;
  }
  const exact: Record<string, number> = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42501": denied,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "57P01": 503,
    P0001: 400,
  };
  const byClass: Record<string, number> = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    F0: 500,
    HV: 500,
    P0: 500,
    XX: 500,
  };
  return exact[code] ?? byClass[code.slice(0, 2)] ?? 400;
}
