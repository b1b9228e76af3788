//! Ids of the application's: which texts can be one of ours, and what becomes of rows with others.

use crate::snapshot::{tell_left_out, tidy};
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

/// The condition that a column, if it is text, is spelled as a UUID: with hyphens or without, in small letters or in capitals, in braces.
///
/// A number or bytes are no text that anybody could put there, but a query that gives something else than ids.
pub(super) fn spells(column: &str) -> String {
    format!("(typeof({column}) <> 'text' OR length(unhex({column}, '-{{}}')) IS 16)")
}

impl Query {
    /// The condition that its ids are spelled so.
    fn spells(self) -> String {
        let each: Vec<String> = self.ids.iter().map(|column| spells(column)).collect();
        each.join(" AND ")
    }

    /// `sql` without the rows of which an id is a text that is no UUID, and with ids as ours are.
    pub(super) fn sound(self, sql: &str) -> String {
        let id = |column: &&str| format!("{} AS {column}", bytes(column));
        let ids: Vec<String> = self.ids.iter().map(id).collect();
        format!(
            "SELECT {}, {} FROM (\n{}\n) WHERE {}",
            ids.join(", "),
            self.others,
            tidy(sql),
            self.spells()
        )
    }
}

/// A source without the rows of which an id is a text that is no UUID: one user's like of something else is not to end what is read of
/// everybody.
pub(super) struct Sound {
    pub(super) source: Source,
    /// Query, and a statement that counts what is left out of it; of those that read other tables than ours, which hold ids alone.
    odd: Vec<(&'static str, String)>,
}

impl Sound {
    pub(super) fn of(source: &Source) -> Self {
        let elsewhere = source.mapping();
        let mut odd = Vec::new();
        let mut sound = |query: Query, elsewhere: Option<String>, ours: &String| {
            let Some(sql) = elsewhere else {
                return ours.clone();
            };
            odd.push((
                query.name,
                format!(
                    "SELECT count(*) FROM (\n{sql}\n) WHERE NOT ({})",
                    query.spells()
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
        Self { source, odd }
    }

    /// Says how many rows are left out.
    pub(super) async fn tell(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut left_out = Vec::with_capacity(self.odd.len());
        for (query, count) in &self.odd {
            // Around the operator's own SQL, from the configuration.
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count.as_str()))
                .persistent(false)
                .fetch_one(&mut *connection)
                .await?;
            left_out.push((*query, rows));
        }
        tell_left_out(&left_out);
        Ok(())
    }
}
