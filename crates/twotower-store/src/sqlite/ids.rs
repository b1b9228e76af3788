//! Ids of the application's: which texts can be one of ours, and what becomes of rows with others.

use crate::snapshot::{LeftOut, tell_left_out, tidy};
use crate::{Source, StoreError};
use sqlx::{AssertSqlSafe, SqliteConnection};

/// A query of the source: its name, which of its columns are ids, and the others.
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

/// The 16 bytes of an id that is written as text. What is none stays as it is, for an error that names it.
pub(super) fn bytes(column: &str) -> String {
    format!(
        "CASE WHEN typeof({column}) IN ('text', 'blob') AND length({column}) <> 16
              THEN coalesce(unhex({column}, '-{{}}'), {column}) ELSE {column} END"
    )
}

/// Ids in a JSON list (?1) as they may be spelled: 16 bytes, or text that [`spells`] one.
pub(super) const SPELLED: &str = "
    SELECT unhex(value, '-') FROM json_each(?1)
    UNION ALL SELECT value FROM json_each(?1) UNION ALL SELECT upper(value) FROM json_each(?1)
    UNION ALL SELECT replace(value, '-', '') FROM json_each(?1) UNION ALL SELECT upper(replace(value, '-', '')) FROM json_each(?1)
    UNION ALL SELECT '{' || value || '}' FROM json_each(?1) UNION ALL SELECT '{' || upper(value) || '}' FROM json_each(?1)
    UNION ALL SELECT '{' || replace(value, '-', '') || '}' FROM json_each(?1)
    UNION ALL SELECT '{' || upper(replace(value, '-', '')) || '}' FROM json_each(?1)";

/// The condition that a column, if it is text, is a UUID in any spelling that PostgreSQL takes, and in some more.
///
/// A number or bytes are no text that anybody could put there, but a query that gives something else than ids.
fn is_id(column: &str) -> String {
    format!("(typeof({column}) <> 'text' OR length(unhex({column}, '-{{}}')) IS 16)")
}

/// The condition that a column, if it is text, is spelled as a UUID: with hyphens or without, in small letters or in capitals, in braces or not.
///
/// These are the spellings of [`SPELLED`], which an index over the column finds. Of those with letters of both cases there are too many to look
/// for: what cannot be served is not learned from either.
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

impl Query {
    /// The condition that holds for each of its ids.
    fn all(self, holds: fn(&str) -> String) -> String {
        let each: Vec<String> = self.ids.iter().map(|column| holds(column)).collect();
        each.join(" AND ")
    }

    /// `sql` without the rows of which an id is a text that [`spells`] none, and with ids as ours are.
    pub(super) fn sound(self, sql: &str) -> String {
        let id = |column: &&str| format!("{} AS {column}", bytes(column));
        let ids: Vec<String> = self.ids.iter().map(id).collect();
        format!(
            "SELECT {}, {} FROM (\n{}\n) WHERE {}",
            ids.join(", "),
            self.others,
            tidy(sql),
            self.all(spells)
        )
    }
}

/// A source without the rows of which an id is a text that is no UUID, or spelled as none is looked for: one user's like of something else is
/// not to end what is read of everybody.
pub(super) struct Sound {
    pub(super) source: Source,
    /// Query, and a statement that counts what is left out of it, what is no UUID and all; of those that read other tables than ours, which hold ids alone.
    odd: Vec<(&'static str, String)>,
    /// The same queries, each with a statement that reads no row of it.
    tried: Vec<(&'static str, String)>,
}

impl Sound {
    pub(super) fn of(source: &Source) -> Self {
        let elsewhere = source.mapping();
        let (mut odd, mut tried) = (Vec::new(), Vec::new());
        let mut sound = |query: Query, elsewhere: Option<String>, ours: &String| {
            let Some(sql) = elsewhere else {
                return ours.clone();
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
                    "SELECT coalesce(sum(NOT ({})), 0), count(*) FROM (\n{sql}\n) WHERE NOT ({})",
                    query.all(is_id),
                    query.all(spells)
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

    /// Tries each query, so that one which cannot be run is named.
    pub(super) async fn check(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        for (query, statement) in &self.tried {
            // Around the operator's own SQL, from the configuration.
            sqlx::query(AssertSqlSafe(statement.as_str()))
                .persistent(false)
                .execute(&mut *connection)
                .await
                .map_err(|error| StoreError::from(error).of_source(query))?;
        }
        Ok(())
    }

    /// Tries each query, and says how many rows are left out.
    pub(super) async fn tell(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        self.check(connection).await?;
        let mut left_out = Vec::with_capacity(self.odd.len());
        for (query, count) in &self.odd {
            // Around the operator's own SQL, from the configuration.
            let (no_ids, all): (i64, i64) = sqlx::query_as(AssertSqlSafe(count.as_str()))
                .persistent(false)
                .fetch_one(&mut *connection)
                .await?;
            left_out.push(LeftOut {
                query,
                no_ids,
                odd_spellings: all - no_ids,
            });
        }
        tell_left_out(&left_out);
        Ok(())
    }
}
