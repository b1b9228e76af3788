//! Ids in tables of the application: the texts that are read as UUIDs. Rows that are left out of a
//! source, for their ids or times.

use crate::snapshot::{LeftOut, tell_left_out, tidy};
use crate::{Source, StoreError};
use sqlx::{AssertSqlSafe, SqliteConnection};

/// A query of the source: its name, the columns that hold ids, and the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    name: &'static str,
    ids: &'static [&'static str],
    others: &'static str,
}

pub(super) const VIDEOS: Query = Query {
    name: "videos",
    ids: &["id"],
    others: "title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url",
};

pub(super) const fn names(name: &'static str) -> Query {
    Query {
        name,
        ids: &["video_id"],
        others: "name",
    }
}

pub(super) const fn interactions(name: &'static str) -> Query {
    Query {
        name,
        ids: &["user_id", "video_id"],
        others: "created_at",
    }
}

/// The 16 bytes of an id that is text. Anything else is passed on as it is, so that the error names
/// it.
pub(super) fn bytes(column: &str) -> String {
    format!(
        "CASE WHEN typeof({column}) IN ('text', 'blob') AND length({column}) <> 16
              THEN coalesce(unhex({column}, '-{{}}'), {column}) ELSE {column} END"
    )
}

/// The ids in a JSON list (?1) in each form: 16 bytes, or a text for which [`spells`] holds.
pub(super) const SPELLED: &str = "
    SELECT unhex(value, '-') FROM json_each(?1)
    UNION ALL SELECT value FROM json_each(?1) UNION ALL SELECT upper(value) FROM json_each(?1)
    UNION ALL SELECT replace(value, '-', '') FROM json_each(?1) UNION ALL SELECT upper(replace(value, '-', '')) FROM json_each(?1)
    UNION ALL SELECT '{' || value || '}' FROM json_each(?1) UNION ALL SELECT '{' || upper(value) || '}' FROM json_each(?1)
    UNION ALL SELECT '{' || replace(value, '-', '') || '}' FROM json_each(?1)
    UNION ALL SELECT '{' || upper(replace(value, '-', '')) || '}' FROM json_each(?1)";

/// The condition that a column, if it is text, is a UUID in any form that PostgreSQL reads. It
/// holds for some more.
///
/// A number or bytes pass: they do not come from a user's text, but from a query that returns
/// something other than ids, which is an error.
pub(super) fn is_id(column: &str) -> String {
    format!("(typeof({column}) <> 'text' OR length(unhex({column}, '-{{}}')) IS 16)")
}

/// The condition that a column, if it is text, is a usual form of a UUID: with hyphens or without,
/// all small letters or all capitals, in braces or not.
///
/// These are the forms of [`SPELLED`], which an index over the column finds. Forms with letters of
/// both cases are too many to look for. Serving cannot find them, so training does not read them
/// either.
pub(super) fn spells(column: &str) -> String {
    const HYPHENS: &str = "????????-????-????-????-????????????";
    format!(
        "({} AND (typeof({column}) <> 'text' OR ({column} IN (lower({column}), upper({column})) AND (
             length({column}) = 32 OR {column} GLOB '{HYPHENS}' OR {column} GLOB '{{{HYPHENS}}}'
             OR (length({column}) = 34 AND {column} GLOB '{{*}}')
         ))))",
        is_id(column)
    )
}

/// The condition that a like or skip of our own table has a time that counts: seconds since 1970 in
/// 32 bits. An application that writes to the file may have written another number.
macro_rules! in_time {
    () => {
        "created_at BETWEEN 0 AND 4294967295999999"
    };
}
pub(super) use in_time;

/// The same for any table.
///
/// Text and bytes pass: they do not come from an odd time, but from a query that returns something
/// other than times, which is an error.
const TIME: &str = concat!(
    "(typeof(created_at) IN ('text', 'blob') OR ",
    in_time!(),
    ")"
);

impl Query {
    /// The condition that a row has a time that counts, if its time says whether it does.
    pub(super) fn time(self) -> &'static str {
        if self.others == "created_at" {
            TIME
        } else {
            "true"
        }
    }

    /// `ours`, the query of our own table, without the rows of which the time does not count. Its
    /// ids are 16 bytes.
    fn own(self, ours: &str) -> String {
        if self.others != "created_at" {
            return ours.to_owned();
        }
        format!(
            "SELECT user_id, video_id, created_at FROM (\n{}\n) WHERE {}",
            tidy(ours),
            in_time!()
        )
    }

    /// The condition that `holds` is true of each id.
    fn all(self, holds: fn(&str) -> String) -> String {
        let each: Vec<String> = self.ids.iter().map(|column| holds(column)).collect();
        each.join(" AND ")
    }

    /// `sql` without rows in which an id is a text for which [`spells`] does not hold, or of which
    /// the time does not count, with ids as 16 bytes.
    pub(super) fn sound(self, sql: &str) -> String {
        let id = |column: &&str| format!("{} AS {column}", bytes(column));
        let ids: Vec<String> = self.ids.iter().map(id).collect();
        format!(
            "SELECT {}, {} FROM (\n{}\n) WHERE {} AND {}",
            ids.join(", "),
            self.others,
            tidy(sql),
            self.all(spells),
            self.time()
        )
    }
}

/// A source without rows in which an id is a text for which [`spells`] does not hold, and without
/// likes and skips whose times do not count. One such row must not fail the reading of all others.
pub(super) struct Sound {
    pub(super) source: Source,
    /// For each query of another table than ours: its name, and a statement that counts the rows
    /// that are left out, in the order of [`LeftOut`]. Our own tables are not read once more for
    /// that: they hold ids alone, and few write to them but us.
    odd: Vec<(&'static str, String)>,
    /// The same queries, each with a statement that reads no row.
    tried: Vec<(&'static str, String)>,
}

impl Sound {
    pub(super) fn of(source: &Source) -> Self {
        let elsewhere = source.mapping();
        let (mut odd, mut tried) = (Vec::new(), Vec::new());
        let mut sound = |query: Query, elsewhere: Option<String>, ours: &String| {
            let Some(sql) = elsewhere else {
                return query.own(ours);
            };
            tried.push((
                query.name,
                format!(
                    "SELECT {}, {} FROM (\n{sql}\n) LIMIT 0",
                    query.ids.join(", "),
                    query.others
                ),
            ));
            odd.push((
                query.name,
                format!(
                    "SELECT count(*) FILTER (WHERE NOT ({is_id})),
                            count(*) FILTER (WHERE ({is_id}) AND NOT ({spells})),
                            count(*) FILTER (WHERE ({spells}))
                     FROM (\n{sql}\n) WHERE (({spells}) AND {time}) IS NOT TRUE",
                    is_id = query.all(is_id),
                    spells = query.all(spells),
                    time = query.time()
                ),
            ));
            query.sound(&sql)
        };
        let source = Source {
            videos: sound(VIDEOS, elsewhere.videos, &source.videos),
            video_tags: sound(
                names("video_tags"),
                elsewhere.video_tags,
                &source.video_tags,
            ),
            video_performers: sound(
                names("video_performers"),
                elsewhere.video_performers,
                &source.video_performers,
            ),
            likes: sound(interactions("likes"), elsewhere.likes, &source.likes),
            skips: sound(interactions("skips"), elsewhere.skips, &source.skips),
        };
        Self { source, odd, tried }
    }

    /// Tries each query. An error names the query.
    pub(super) async fn check(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        for (query, statement) in &self.tried {
            // It contains the operator's SQL from the configuration.
            sqlx::query(AssertSqlSafe(statement.as_str()))
                .persistent(false)
                .execute(&mut *connection)
                .await
                .map_err(|error| StoreError::from(error).of_source(query))?;
        }
        Ok(())
    }

    /// Tries each query, and logs how many rows are left out.
    pub(super) async fn tell(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        self.check(connection).await?;
        let mut left_out = Vec::with_capacity(self.odd.len());
        for (query, count) in &self.odd {
            // It contains the operator's SQL from the configuration.
            let counts = sqlx::query_as(AssertSqlSafe(count.as_str()))
                .persistent(false)
                .fetch_one(&mut *connection)
                .await?;
            left_out.push(LeftOut::new(query, counts));
        }
        tell_left_out(&left_out);
        Ok(())
    }
}
