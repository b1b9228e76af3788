//! Bob and anonymous clients against all data of Ann's: random statements over every table and
//! function of the catalogue, as PostgREST would send them. None may reveal a field of hers or
//! change a row.
//!
//! `make test` tries 20,000, `make torture` (`TWOTOWER_TORTURE=full`) a million; the seed is
//! `TWOTOWER_TORTURE_SEED`, 1 by default.

use super::person::{ANN, BOB, Person, video};
use super::rows::{assert_no_secret, two_users};
use super::stand_in::Place;
use serde_json::{Value, json};
use std::fmt::Write;

/// Statements of one transaction, which is rolled back.
const BATCH: usize = 500;

/// Runs statements one by one and returns the answer of each as rows, or the full error.
const PROBER: &str = "
    CREATE SCHEMA probing;
    GRANT USAGE ON SCHEMA probing TO PUBLIC;
    CREATE FUNCTION probing.run(statements text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
    DECLARE
        statement text;
        answer text;
        detail text;
        hint text;
    BEGIN
        FOREACH statement IN ARRAY statements LOOP
            BEGIN
                IF statement LIKE 'TRUNCATE%' THEN
                    EXECUTE statement;
                    answer := 'done';
                ELSE
                    EXECUTE 'WITH answer_row AS (' || statement || ') SELECT coalesce(json_agg(answer_row)::text, '''') FROM answer_row'
                    INTO answer;
                END IF;
                RETURN NEXT answer;
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                RETURN NEXT concat_ws(' ', 'error', sqlstate, sqlerrm, detail, hint);
            END;
        END LOOP;
    END
    $$";

const COLUMNS: &str = "
    SELECT format('%I.%I', nspname, relname) AS name, array_agg(quote_ident(attname)) AS columns,
           array_agg(format_type(atttypid, NULL)) AS types
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace JOIN pg_attribute AS a ON attrelid = c.oid
    WHERE nspname IN ('public', 'twotower') AND relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0 AND NOT attisdropped
    GROUP BY 1 ORDER BY 1";

const FUNCTIONS: &str = "
    SELECT format('%I.%I', nspname, proname) AS name,
           ARRAY(SELECT format_type(type, NULL) FROM unnest(proargtypes) AS type) AS types
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace
    WHERE nspname IN ('public', 'twotower') AND prorettype <> 'trigger'::regtype
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND deptype = 'e') ORDER BY 1";

/// All rows of Ann's and of everybody's, as the owner sees them.
const CHECKSUM: &str = "
    SELECT string_agg(format('SELECT md5(string_agg(t::text, %L ORDER BY t::text)) AS sum FROM %I.%I AS t %s', '', nspname, relname,
        CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'user_id')
        THEN 'WHERE user_id = ''aaaaaaaa-0000-4000-8000-000000000000''' ELSE '' END), ' UNION ALL ') AS query
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE nspname IN ('public', 'twotower') AND relkind = 'r' AND relname NOT IN ('tombstones')";

fn probes() -> usize {
    match std::env::var("TWOTOWER_TORTURE") {
        Ok(size) if size == "full" => 1_000_000,
        _ => 20_000,
    }
}

/// `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A literal of a type, usually one that occurs in the data.
    fn literal(&mut self, kind: &str) -> String {
        if self.one_in(12) {
            return "NULL".into();
        }
        match kind {
            "uuid" => {
                let n = self.next();
                let ids = [
                    ANN,
                    ANN,
                    BOB,
                    video(u128::from(n % 14)),
                    video(u128::from(n)),
                ];
                format!("'{}'", self.pick(&ids))
            }
            "boolean" => (*self.pick(&["true", "false"])).into(),
            "jsonb" => (*self.pick(&["'{}'", "'\"x\"'", "'[1]'", "'null'"])).into(),
            "integer" | "bigint" | "smallint" => (*self.pick(&[
                "-1",
                "0",
                "1",
                "2",
                "6",
                "7",
                "10",
                "64",
                "100",
                "101",
                "2147483647",
            ]))
            .into(),
            "real" | "double precision" => {
                (*self.pick(&["-1", "0", "0.5", "1", "'NaN'", "'Infinity'"])).into()
            }
            "real[]" => (*self.pick(&["'{1,0}'", "'{0.6,0.8}'", "'{}'", "'{NaN}'"])).into(),
            "timestamp with time zone" => (*self.pick(&["now()", "'epoch'", "'-infinity'"])).into(),
            "bytea" => "'\\x00'".into(),
            "vector" | "extensions.vector" => "'[1,0]'".into(),
            _ => {
                let words = [
                    "'key'",
                    "'state'",
                    "'tag'",
                    "'tagged'",
                    "'video'",
                    "'aaaaaaaa%'",
                    "'%'",
                    "''",
                    "'PwAAAD8AAAA='",
                    "'active'",
                    "'SELECT 1'",
                    "'''; DROP TABLE public.likes; --'",
                ];
                (*self.pick(&words)).into()
            }
        }
    }
}

struct Table {
    name: String,
    columns: Vec<(String, String)>,
}

struct Function {
    name: String,
    types: Vec<String>,
}

/// All objects that statements can use.
struct Surface {
    tables: Vec<Table>,
    functions: Vec<Function>,
}

fn strings(value: &Value) -> Vec<String> {
    let texts = value.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

impl Surface {
    async fn read(owner: &mut Person) -> Self {
        let tables = owner.rows(COLUMNS).await.unwrap();
        let functions = owner.rows(FUNCTIONS).await.unwrap();
        Self {
            tables: tables
                .iter()
                .map(|row| Table {
                    name: row["name"].as_str().unwrap().into(),
                    columns: std::iter::zip(strings(&row["columns"]), strings(&row["types"]))
                        .collect(),
                })
                .collect(),
            functions: functions
                .iter()
                .map(|row| Function {
                    name: row["name"].as_str().unwrap().into(),
                    types: strings(&row["types"]),
                })
                .collect(),
        }
    }

    fn statement(&self, random: &mut Random) -> String {
        match random.below(20) {
            0..8 => self.select(random),
            8..10 => self.join(random),
            10..12 => self.insert(random),
            12..14 => self.update(random),
            14..16 => {
                let table = self.table(random);
                format!(
                    "DELETE FROM {} {} RETURNING *",
                    table.name,
                    condition(table, random)
                )
            }
            16 if random.one_in(4) => format!("TRUNCATE {}", self.table(random).name),
            _ => self.call(random),
        }
    }

    /// Usually one that PostgREST exposes: the others refuse everything.
    fn table(&self, random: &mut Random) -> &Table {
        loop {
            let table = random.pick(&self.tables);
            if table.name.starts_with("public.") || random.one_in(8) {
                return table;
            }
        }
    }

    fn select(&self, random: &mut Random) -> String {
        let table = self.table(random);
        let columns = match random.below(4) {
            0 => "count(*)".into(),
            1 => random.pick(&table.columns).0.clone(),
            _ => "*".into(),
        };
        format!(
            "SELECT {columns} FROM {} AS t {} LIMIT {}",
            table.name,
            condition(table, random),
            random.pick(&["1", "10", "1000"])
        )
    }

    /// As an embedded resource is read.
    fn join(&self, random: &mut Random) -> String {
        let (a, b) = (self.table(random), self.table(random));
        let on = random.pick(&[
            "true",
            "a.user_id = b.user_id",
            "a.video_id = b.video_id",
            "a.id = b.video_id",
        ]);
        let join = random.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN"]);
        format!(
            "SELECT a.*, to_json(b) AS b FROM {} AS a {join} {} AS b ON {on} LIMIT 100",
            a.name, b.name
        )
    }

    fn insert(&self, random: &mut Random) -> String {
        let table = self.table(random);
        let chosen: Vec<_> = table.columns.iter().filter(|_| !random.one_in(4)).collect();
        let names: Vec<&str> = chosen.iter().map(|(name, _)| &**name).collect();
        let values: Vec<String> = chosen
            .iter()
            .map(|(_, kind)| random.literal(kind))
            .collect();
        let conflict = random.pick(&[
            "",
            "ON CONFLICT DO NOTHING",
            "ON CONFLICT (user_id, video_id) DO UPDATE SET user_id = excluded.user_id",
        ]);
        format!(
            "INSERT INTO {} ({}) VALUES ({}) {conflict} RETURNING *",
            table.name,
            names.join(", "),
            values.join(", ")
        )
    }

    fn update(&self, random: &mut Random) -> String {
        let table = self.table(random);
        let (column, kind) = random.pick(&table.columns);
        let value = random.literal(kind);
        format!(
            "UPDATE {} SET {column} = {value} {} RETURNING *",
            table.name,
            condition(table, random)
        )
    }

    fn call(&self, random: &mut Random) -> String {
        let function = loop {
            let function = random.pick(&self.functions);
            // Without Bob's token Bob has no data to read.
            if !function.name.contains("erase") || random.one_in(100) {
                break function;
            }
        };
        // Trailing arguments may have defaults.
        let given =
            function.types.len() - usize::from(random.one_in(4) && !function.types.is_empty());
        let arguments: Vec<String> = function.types[..given]
            .iter()
            .map(|kind| random.literal(kind))
            .collect();
        format!("SELECT * FROM {}({})", function.name, arguments.join(", "))
    }
}

/// `WHERE` with up to three filters, or nothing.
fn condition(table: &Table, random: &mut Random) -> String {
    let mut sql = String::new();
    for n in 0..random.below(4) {
        let (column, kind) = random.pick(&table.columns);
        let before = if n == 0 {
            "WHERE"
        } else {
            *random.pick(&["AND", "OR", "AND NOT", "OR NOT"])
        };
        let literal = random.literal(kind);
        let test = match random.below(6) {
            0 => format!("{column} IS NOT NULL"),
            1 => format!("{column} IN ({literal}, {})", random.literal(kind)),
            2 => format!("{column}::text LIKE {}", random.literal("text")),
            3 => format!("{column} <> {literal}"),
            4 => format!("{column} >= {literal}"),
            _ => format!("{column} = {literal}"),
        };
        write!(sql, " {before} ({test})").unwrap();
    }
    sql
}

#[tokio::test]
async fn heavy_torture_reaches_nothing_of_somebody_elses() {
    let seed = std::env::var("TWOTOWER_TORTURE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = Random(seed);
    let url = two_users(Place::OlderSupabase).await;
    let mut person = Person::owner(&url).await;
    person.run(PROBER).await.unwrap();
    let surface = Surface::read(&mut person).await;
    let checksum = person.value(&CHECKSUM.replace('\n', " ")).await.unwrap();
    let checksum = checksum.as_str().unwrap().to_owned();
    let before = person.rows(&checksum).await.unwrap();
    let (mut answered, mut refused) = (0, 0);
    for batch in 0..probes() / BATCH {
        let statements: Vec<String> = (0..BATCH).map(|_| surface.statement(&mut random)).collect();
        let (role, claims) = match random.below(10) {
            0 => ("anon", json!({"role": "anon"})),
            1 => ("authenticated", json!({"role": "authenticated"})),
            _ => (
                "authenticated",
                json!({"sub": BOB, "role": "authenticated"}),
            ),
        };
        person
            .run(&format!(
                "BEGIN; SELECT set_config('request.jwt.claims', '{claims}', true); SET LOCAL ROLE {role}"
            ))
            .await
            .unwrap();
        let quoted: Vec<String> = statements
            .iter()
            .map(|one| format!("$probe${one}$probe$"))
            .collect();
        let run = format!(
            "SELECT answer FROM probing.run(ARRAY[{}]) AS answer",
            quoted.join(", ")
        );
        let answers = person.rows(&run).await.unwrap();
        assert_eq!(answers.len(), BATCH);
        for (statement, answer) in statements.iter().zip(&answers) {
            let answer = answer["answer"].as_str().unwrap();
            assert_no_secret(
                answer,
                &format!("seed {seed}, batch {batch}, {role} {claims}: {statement}"),
            );
            if answer.starts_with("error") {
                refused += 1;
            } else {
                answered += 1;
            }
        }
        person.run("RESET ROLE").await.unwrap();
        let after = person.rows(&checksum).await.unwrap();
        assert_eq!(
            before, after,
            "seed {seed}, batch {batch}, {role} {claims}: {statements:#?}"
        );
        person.run("ROLLBACK").await.unwrap();
    }
    // Both outcomes occur, or the statements would be meaningless.
    assert!(
        answered > refused / 10,
        "{answered} answered, {refused} refused"
    );
    eprintln!("{answered} answered, {refused} refused: 0 rows, 0 fields");
}
