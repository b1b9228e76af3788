import type { Sql } from "postgres";

/** A function of schema `public` as the catalogue describes it. */
export interface DatabaseFunction {
  readonly statement: string;
  readonly result: "rows" | "value" | "nothing";
  /** PostgREST calls what is stable in a transaction that cannot write. */
  readonly readOnly: boolean;
}

interface Described {
  readonly names: string[];
  readonly types: string[];
  readonly defaults: number;
  readonly rows: boolean;
  readonly composite: boolean;
  readonly nothing: boolean;
  readonly volatility: string;
}

/** Functions found so far: a schema cache, as PostgREST has one. */
export class Functions {
  readonly #found = new Map<string, DatabaseFunction | null>();

  constructor(readonly sql: Sql) {}

  /** The function that takes exactly these parameters, or some of its own with defaults. */
  async find(name: string, parameters: readonly string[]): Promise<DatabaseFunction | null> {
    const key = JSON.stringify([name, [...parameters].sort()]);
    if (!this.#found.has(key)) {
      this.#found.set(key, await this.#describe(name, parameters));
    }
    return this.#found.get(key) ?? null;
  }

  async #describe(name: string, parameters: readonly string[]): Promise<DatabaseFunction | null> {
    const overloads = await this.sql<Described[]>`
      select coalesce(proargnames[:pronargs], '{}') as names,
             array(select format_type(t, null) from unnest(proargtypes) with ordinality as a (t, n) order by n) as types,
             pronargdefaults as defaults, proretset as rows,
             typtype = 'c' as composite, typname = 'void' as nothing, provolatile as volatility
      from pg_proc join pg_type on pg_type.oid = prorettype
      where pronamespace = 'public'::regnamespace and proname = ${name} and prokind = 'f'`;
    const described = overloads.find(({ names, defaults }) =>
      parameters.every((parameter) => names.includes(parameter)) &&
      names.slice(0, names.length - defaults).every((required) => parameters.includes(required))
    );
    return described === undefined ? null : called(name, parameters, described);
  }
}

function called(name: string, parameters: readonly string[], described: Described): DatabaseFunction {
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const columns = parameters.map((it) => `${quoted(it)} ${described.types[described.names.indexOf(it)]}`);
  const call = `public.${quoted(name)}(${parameters.map((it) => `${quoted(it)} => given.${quoted(it)}`).join(", ")})`;
  const given = columns.length === 0
    ? "(select) as given"
    : `json_to_record($1::text::json) as given (${columns.join(", ")})`;
  const rows = described.rows || described.composite;
  const statement = rows
    ? `select coalesce(json_agg(answered), '[]')::text as body from (select called.* from ${given}, lateral ${call} as called) as answered`
    : `select to_json(${call})::text as body from ${given}`;
  return {
    statement: described.nothing ? `select ${call} from ${given}` : statement,
    result: described.nothing ? "nothing" : rows ? "rows" : "value",
    readOnly: described.volatility !== "v",
  };
}
