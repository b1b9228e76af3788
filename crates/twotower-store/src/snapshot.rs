mod builder;

mod hash;

mod last_seen;

mod left_out;

pub(crate) use builder::{SnapshotBuilder, check_time, oldest_us};
pub use hash::{hex, sha256, snapshot_sha256};
pub(crate) use last_seen::LastSeenBuilder;
pub(crate) use left_out::{LeftOut, tell_left_out};

use crate::InteractionKind;
use twotower_core::interaction::Dataset;
use uuid::Uuid;

/// The queries that rows are read with, one SELECT each, so that an application with other names
/// needs no copy of its tables. Columns are matched by name, not by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Columns `id, title, description, genre, maker, price, duration_seconds, published_at,
    /// thumbnail_url`.
    pub videos: String,
    /// Columns `video_id, name`.
    pub video_tags: String,
    /// Columns `video_id, name`.
    pub video_performers: String,
    /// Columns `user_id, video_id, created_at`.
    pub likes: String,
    /// Columns `user_id, video_id, created_at`.
    pub skips: String,
}

impl Default for Source {
    /// The application tables of the schema.
    fn default() -> Self {
        Self {
            videos: "SELECT id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url FROM videos".into(),
            video_tags: "SELECT vt.video_id, t.name FROM video_tags vt JOIN tags t ON t.id = vt.tag_id".into(),
            video_performers: "SELECT vp.video_id, p.name FROM video_performers vp JOIN performers p ON p.id = vp.performer_id".into(),
            likes: "SELECT user_id, video_id, created_at FROM likes".into(),
            skips: "SELECT user_id, video_id, created_at FROM skips".into(),
        }
    }
}

/// One value for each query of a [`Source`]; `None` where our own table is read without a query.
#[derive(Debug, Clone)]
pub(crate) struct Mapping<T> {
    pub(crate) videos: Option<T>,
    pub(crate) video_tags: Option<T>,
    pub(crate) video_performers: Option<T>,
    pub(crate) likes: Option<T>,
    pub(crate) skips: Option<T>,
}

impl Source {
    /// Whether `sql` is the query of this name that reads our own tables.
    pub fn is_ours(name: &str, sql: &str) -> bool {
        let ours = Self::default();
        let ours = match name {
            "videos" => &ours.videos,
            "video_tags" => &ours.video_tags,
            "video_performers" => &ours.video_performers,
            "likes" => &ours.likes,
            "skips" => &ours.skips,
            _ => return false,
        };
        spelled(tidy(sql)) == spelled(ours)
    }

    /// The queries other than our own, ready to stand in parentheses.
    pub(crate) fn mapping(&self) -> Mapping<String> {
        let mapped = |name: &str, sql: &str| {
            let is_ours = Self::is_ours(name, sql);
            (!is_ours).then(|| tidy(sql).to_owned())
        };
        Mapping {
            videos: mapped("videos", &self.videos),
            video_tags: mapped("video_tags", &self.video_tags),
            video_performers: mapped("video_performers", &self.video_performers),
            likes: mapped("likes", &self.likes),
            skips: mapped("skips", &self.skips),
        }
    }
}

impl<T> Mapping<T> {
    /// The value for likes or skips.
    pub(crate) fn interactions(&self, kind: InteractionKind) -> Option<&T> {
        match kind {
            InteractionKind::Like => self.likes.as_ref(),
            InteractionKind::Skip => self.skips.as_ref(),
        }
    }

    /// Whether videos, tags or performers have one.
    pub(crate) fn catalogue(&self) -> bool {
        self.videos.is_some() || self.video_tags.is_some() || self.video_performers.is_some()
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        !self.catalogue() && self.likes.is_none() && self.skips.is_none()
    }
}

/// A query in a normal form: small letters, single blanks, and our tables without their schema.
fn spelled(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    words
        .join(" ")
        .to_lowercase()
        .replace(" from public.", " from ")
}

/// Whether a query returns rows of `table`, one of ours, and no others. What is written there is
/// then read by it.
pub(crate) fn chooses_from(sql: &str, table: &str) -> bool {
    let sql = spelled(sql);
    let Some((columns, rest)) = sql.split_once(" from ") else {
        return false;
    };
    let tables = rest.split(" where ").next().unwrap_or_default();
    let has = |part: &str, words: &[&str]| {
        part.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| words.contains(&word))
    };
    let is_first = tables.strip_prefix(table);
    // A condition can only take rows away. Anything else might add others.
    is_first.is_some_and(|after| after.is_empty() || after.starts_with(' '))
        && !tables.contains([',', '('])
        && !has(tables, &["join"])
        && columns.starts_with("select ")
        && !has(&columns["select ".len()..], &["select"])
        && !has(&sql, &["union", "intersect", "except"])
        && !sql.contains("--")
        && !sql.contains("/*")
}

/// Whether a query reads `table` as one of ours, with these ids passed on unchanged. A query that
/// computes them, or renames other columns to them, reads a table of the application that happens
/// to have this name.
pub(crate) fn passes_on(sql: &str, table: &str, ids: &[&str]) -> bool {
    let sql = spelled(tidy(sql));
    let is_name = |c: char| c.is_alphanumeric() || ['_', '.', '*'].contains(&c);
    sql.split("select ").skip(1).any(|part| {
        let Some((columns, rest)) = part.split_once(" from ") else {
            return false;
        };
        let tables = rest.split(" where ").next().unwrap_or_default();
        let mut names = tables.split(|c: char| !is_name(c) && c != '"');
        let as_it_is = |id: &str| {
            columns.split(',').any(|column| {
                let column = column.trim();
                let column = column.strip_suffix(&format!(" as {id}")).unwrap_or(column);
                let column = column.strip_prefix("distinct ").unwrap_or(column);
                let last = column.rsplit('.').next().unwrap_or_default();
                column.chars().all(is_name) && [id, "*"].contains(&last)
            })
        };
        names.any(|name| name.strip_prefix("public.").unwrap_or(name) == table)
            && ids.iter().all(|id| as_it_is(id))
    })
}

/// The table, or view, of which a query reads every row, as it is named there in small letters.
/// `None` unless the query only names columns.
pub(crate) fn whole_table(sql: &str) -> Option<String> {
    let sql = spelled(tidy(sql));
    let (columns, table) = sql.split_once(" from ")?;
    let words: Vec<&str> = table.split(' ').collect();
    let is_name = |c: char| c.is_alphanumeric() || ['_', '.', '"'].contains(&c);
    // Anything else might leave rows out: a condition, a join, a limit, ONLY.
    let table = match words[..] {
        [table] | [table, _] | [table, "as", _] if table != "only" => table.replace('"', ""),
        _ => return None,
    };
    let is_whole = columns.starts_with("select ") && words.join("").chars().all(is_name);
    is_whole.then_some(table)
}

/// An operator's query without the semicolon that would keep it from standing in parentheses.
pub(crate) fn tidy(sql: &str) -> &str {
    sql.trim().trim_end_matches(';').trim_end()
}

/// Which interactions are read, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Leave out likes and skips more than this many days older than the latest one.
    pub max_age_days: Option<u32>,
    /// Whether users get pseudonyms in place of their ids: numbers in the order of the ids, so that
    /// the data set is the same. PostgreSQL computes them, and no id of a user leaves the server.
    /// SQLite runs in this process anyway and keeps the ids.
    pub pseudonyms: bool,
}

/// One consistent view of catalogue, likes and skips.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Rows as indices.
    pub dataset: Dataset,
    /// Id (or pseudonym) by user number. Never written to a file.
    pub users: Vec<Uuid>,
    /// Time of the latest like or skip that is not dated in the future (of all, where each is),
    /// microseconds since 1970; `None` without any.
    pub cut_off_us: Option<i64>,
    /// Number of rows of missing videos, which were left out.
    pub orphans: u64,
    /// Number of the last erasure that it takes account of: it has no rows of users who were erased
    /// until then. 0 before the first.
    pub erasures_seen: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_of_our_own_query_maps_nothing() {
        let ours = Source::default();
        for likes in [
            format!("{};", ours.likes),
            "select user_id,\n  video_id".to_owned()
                + &ours.likes["SELECT user_id, video_id".len()..],
            ours.likes.replace("FROM likes", "\nFROM public.likes\n"),
        ] {
            let source = Source {
                likes,
                ..ours.clone()
            };
            assert!(source.mapping().is_empty(), "{}", source.likes);
        }
        let quoted = ours.likes.replace("likes", "\"Likes\"");
        let source = Source {
            likes: quoted,
            ..ours
        };
        assert!(source.mapping().likes.is_some());
    }

    #[test]
    fn it_is_known_whether_a_query_only_chooses_among_our_rows() {
        for (rest, chooses) in [
            ("likes WHERE created_at > '2020-01-01'", true),
            (
                "public.likes AS own\nWHERE user_id IN (SELECT id FROM members WHERE consent)",
                true,
            ),
            ("likes", true),
            ("likes, favourites", false),
            ("likes JOIN members ON id = user_id", false),
            (
                "likes UNION ALL SELECT member, film, since FROM favourites",
                false,
            ),
            ("app.likes", false),
            ("likes_of_all", false),
            ("(SELECT * FROM favourites) AS likes", false),
            ("favourites WHERE kind = 'likes'", false),
            ("likes -- and more", false),
        ] {
            let sql = format!("SELECT user_id, video_id, created_at FROM {rest}");
            assert_eq!(chooses_from(&sql, "likes"), chooses, "{sql}");
        }
        let inner = "SELECT user_id, (SELECT id FROM likes WHERE true) AS video_id, created_at FROM favourites";
        assert!(!chooses_from(inner, "likes"));
        assert!(!chooses_from("TABLE likes", "likes"));
    }

    #[test]
    fn a_table_of_our_name_is_ours_where_its_ids_are_passed_on() {
        for (likes, ours) in [
            (
                "SELECT user_id, video_id, created_at FROM likes WHERE created_at > '2020-01-01'",
                true,
            ),
            (
                "SELECT l.user_id, l.video_id AS video_id, l.created_at\nFROM public.likes l JOIN members ON id = user_id",
                true,
            ),
            ("SELECT * FROM likes", true),
            (
                "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites UNION ALL SELECT user_id, video_id, created_at FROM likes",
                true,
            ),
            (
                "SELECT lpad(to_hex(user_id), 32, '0')::uuid AS user_id, video_id, created_at FROM likes",
                false,
            ),
            (
                "SELECT member AS user_id, video_id, created_at FROM likes",
                false,
            ),
            ("SELECT user_id, video_id, created_at FROM app.likes", false),
            (
                "SELECT user_id, video_id, likes AS created_at FROM favourites",
                false,
            ),
            (
                "SELECT user_id, video_id, created_at FROM favourites WHERE EXISTS (SELECT FROM members)",
                false,
            ),
            ("TABLE likes", false),
        ] {
            let passes = passes_on(likes, "likes", &["user_id", "video_id"]);
            assert_eq!(passes, ours, "{likes}");
        }
    }

    #[test]
    fn it_is_known_whether_a_query_reads_every_row() {
        for (rest, table) in [
            ("favourites", Some("favourites")),
            ("public.favourites f;", Some("favourites")),
            ("App.\"Favourites\"\n AS f", Some("app.favourites")),
            ("favourites WHERE kind = 'video'", None),
            ("favourites\nWHERE kind = 'video'", None),
            ("favourites/**/WHERE kind = 'video'", None),
            ("favourites LIMIT 5", None),
            ("favourites f LIMIT 5", None),
            ("ONLY favourites", None),
            ("favourites, members", None),
            ("favourites JOIN members USING (member)", None),
            (
                "favourites UNION ALL SELECT member, film, since FROM hearts",
                None,
            ),
            ("(SELECT * FROM favourites WHERE kind = 'video') AS f", None),
            ("of('video')", None),
        ] {
            let sql = format!(
                "SELECT member AS user_id, film AS video_id, since AS created_at FROM {rest}"
            );
            assert_eq!(whole_table(&sql).as_deref(), table, "{sql}");
        }
        let chosen = "WITH f AS (SELECT * FROM favourites WHERE kind = 'video') SELECT * FROM f";
        assert_eq!(whole_table(chosen), None);
        assert_eq!(whole_table("TABLE favourites"), None);
    }
}
