use crate::import::FileKind;
use crate::import::cell::quote;
use crate::import::kind::video;
use csv::StringRecord;
use std::str::FromStr;
use thiserror::Error;

/// `--column [KIND.]COLUMN=HEADER`: the name of one of our columns in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRule {
    /// The kind of file it applies to; `None` for every kind with the column.
    pub kind: Option<FileKind>,
    /// Our name.
    pub column: String,
    /// The file's name.
    pub header: String,
}

/// Why the columns of a file cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The rule cannot be parsed.
    #[error("`{0}` is no column rule: write user_id=uid or likes.user_id=uid")]
    Spelling(String),
    /// The rule names a column that we do not have.
    #[error("there is no column `{column}`; the columns are {known}")]
    UnknownColumn {
        /// The name in the rule.
        column: String,
        /// Our columns.
        known: String,
    },
    /// A required column is missing.
    #[error(
        "{kind} need a column `{column}`, and the file has {headers}; if it goes by another name, add --column {kind}.{column}=NAME"
    )]
    MissingColumn {
        /// What the file holds.
        kind: FileKind,
        /// Our name.
        column: String,
        /// Names in the file's header.
        headers: String,
    },
    /// There is no time column, and no default time.
    #[error(
        "{kind} need a column `created_at`, and the file has {headers}; if it goes by another name, add --column {kind}.created_at=NAME, \
         and if there are no times, --default-time gives every row the same one (then their order is not learned from)"
    )]
    MissingTime {
        /// What the file holds.
        kind: FileKind,
        /// Names in the file's header.
        headers: String,
    },
    /// A rule names a column that the file does not have.
    #[error("--column {column}={header}: the file has no column `{header}`, but {headers}")]
    MissingHeader {
        /// Our name.
        column: String,
        /// The name in the rule.
        header: String,
        /// Names in the file's header.
        headers: String,
    },
    /// A name occurs twice in the header.
    #[error("the file has two columns `{0}`")]
    AmbiguousHeader(String),
}

impl FromStr for ColumnRule {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let spelling = || LayoutError::Spelling(text.to_owned());
        let (left, header) = text.split_once('=').ok_or_else(spelling)?;
        let (kind, column) = match left.split_once('.') {
            None => (None, left),
            Some((kind, column)) => {
                let kind = FileKind::ALL.into_iter().find(|k| k.to_string() == kind);
                (Some(kind.ok_or_else(spelling)?), column)
            }
        };
        if column.is_empty() || header.is_empty() {
            return Err(spelling());
        }
        let known: Vec<&str> = FileKind::ALL
            .into_iter()
            .filter(|k| kind.is_none_or(|kind| kind == *k))
            .filter(|k| *k != FileKind::Skips || kind.is_some())
            .flat_map(FileKind::columns)
            .copied()
            .collect();
        if !known.contains(&column) {
            return Err(LayoutError::UnknownColumn {
                column: left.to_owned(),
                known: known.join(", "),
            });
        }
        Ok(Self {
            kind,
            column: column.to_owned(),
            header: header.to_owned(),
        })
    }
}

/// Names of our columns in a file.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) kind: FileKind,
    /// The name of each of our columns in the file.
    of_columns: Vec<String>,
    /// Whether a rule sets that name.
    ruled: Vec<bool>,
    /// Whether rows without a time are accepted.
    time_optional: bool,
    /// Names of all columns of a file without a header, in order.
    header: Option<StringRecord>,
}

impl Names {
    /// Of two rules for a column the later one wins; one for the kind wins over one for all kinds.
    pub(crate) fn new(kind: FileKind, rules: &[ColumnRule], time_optional: bool) -> Self {
        let rule = |column: &str| {
            let of = |scope: Option<FileKind>| {
                let mut rules = rules.iter().rev();
                rules.find(|rule| rule.column == column && rule.kind == scope)
            };
            of(Some(kind)).or_else(|| of(None))
        };
        let columns = kind.columns();
        Self {
            kind,
            of_columns: columns
                .iter()
                .map(|column| {
                    rule(column).map_or_else(|| (*column).to_owned(), |r| r.header.clone())
                })
                .collect(),
            ruled: columns.iter().map(|c| rule(c).is_some()).collect(),
            time_optional,
            header: None,
        }
    }

    /// For a file without a header: `names` are its columns. If empty, the file has its own header.
    pub(crate) fn with_header(self, names: &[String]) -> Self {
        Self {
            header: (!names.is_empty()).then(|| names.iter().collect()),
            ..self
        }
    }

    /// The given header of a file without one.
    pub(crate) fn header(&self) -> Option<StringRecord> {
        self.header.clone()
    }

    /// Warns if a file of likes or skips has a rating, which import ignores.
    pub(crate) fn warn_of_ratings<'h>(&self, mut headers: impl Iterator<Item = &'h str>) {
        const RATINGS: [&str; 4] = ["rating", "ratings", "score", "stars"];
        let rates = |header: &&str| RATINGS.iter().any(|it| header.eq_ignore_ascii_case(it));
        if self.kind != FileKind::Videos
            && let Some(rating) = headers.find(rates)
        {
            tracing::warn!(
                "all rows become {}, whatever their column {} says: where that is not meant, keep those that are in a file of their own (docs/import.md, Ratings)",
                self.kind,
                quote(rating)
            );
        }
    }

    /// The name of each of our columns in the file.
    pub(crate) fn all(&self) -> &[String] {
        &self.of_columns
    }

    /// Name of a column for messages: the file's, and ours if that differs.
    pub(crate) fn label(&self, column: usize) -> String {
        let (name, ours) = (&self.of_columns[column], self.kind.columns()[column]);
        if name.eq_ignore_ascii_case(ours) {
            format!("`{name}`")
        } else {
            format!("`{name}` ({ours})")
        }
    }

    /// Finds each of our columns among a file's `headers`. Letter case is ignored unless two
    /// headers differ only in it.
    pub(crate) fn locate<'h>(
        &self,
        headers: &(impl Iterator<Item = &'h str> + Clone),
    ) -> Result<Vec<Option<usize>>, LayoutError> {
        let find = |name: &str, exact: bool| {
            let found: Vec<usize> = headers
                .clone()
                .enumerate()
                .filter(|(_, header)| {
                    if exact {
                        *header == name
                    } else {
                        header.eq_ignore_ascii_case(name)
                    }
                })
                .map(|(index, _)| index)
                .collect();
            match found[..] {
                [] => Ok(None),
                [index] => Ok(Some(index)),
                _ => Err(LayoutError::AmbiguousHeader(name.to_owned())),
            }
        };
        let mut located = Vec::with_capacity(self.of_columns.len());
        for (column, name) in self.of_columns.iter().enumerate() {
            let index = match find(name, true)? {
                Some(index) => Some(index),
                None => find(name, false)?,
            };
            if index.is_none() {
                self.refuse_without(column, headers)?;
            }
            located.push(index);
        }
        Ok(located)
    }

    /// Columns that must occur in at least one row of a file whose rows have their own columns.
    /// Such a file may update videos without giving their titles.
    pub(crate) fn somewhere(&self) -> impl Iterator<Item = usize> {
        (0..self.of_columns.len()).filter(|&column| {
            let title = self.kind == FileKind::Videos && column == video::TITLE;
            self.ruled[column] || !title && self.may_be_missing(column, String::new).is_err()
        })
    }

    /// Refuses a file with these `headers`, which lack our column, if it is required.
    pub(crate) fn refuse_without<'h>(
        &self,
        column: usize,
        headers: &(impl Iterator<Item = &'h str> + Clone),
    ) -> Result<(), LayoutError> {
        self.may_be_missing(column, || list(headers.clone()))
    }

    fn may_be_missing(
        &self,
        column: usize,
        headers: impl Fn() -> String,
    ) -> Result<(), LayoutError> {
        let ours = self.kind.columns()[column];
        let kind = self.kind;
        if self.ruled[column] {
            return Err(LayoutError::MissingHeader {
                column: ours.to_owned(),
                header: self.of_columns[column].clone(),
                headers: headers(),
            });
        }
        if kind.requires(column) {
            return Err(LayoutError::MissingColumn {
                kind,
                column: ours.to_owned(),
                headers: headers(),
            });
        }
        if ours == "created_at" && !self.time_optional {
            return Err(LayoutError::MissingTime {
                kind,
                headers: headers(),
            });
        }
        Ok(())
    }
}

fn list<'h>(headers: impl Iterator<Item = &'h str>) -> String {
    const MOST: usize = 30;
    let mut quoted: Vec<String> = headers.map(quote).collect();
    if quoted.len() > MOST {
        quoted.truncate(MOST);
        quoted.push("…".to_owned());
    }
    if quoted.is_empty() {
        return "none".to_owned();
    }
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(rules: &[&str], headers: &str) -> Result<Vec<Option<usize>>, LayoutError> {
        let rules: Result<Vec<ColumnRule>, _> = rules.iter().map(|rule| rule.parse()).collect();
        Names::new(FileKind::Likes, &rules?, false).locate(&headers.split(','))
    }

    #[test]
    fn columns_are_found_by_name_whatever_their_order() {
        let found = [Some(2), Some(0), Some(1)];
        assert_eq!(locate(&[], "video_id,created_at,user_id").unwrap(), found);
        assert_eq!(locate(&[], "Video_ID,Created_At,USER_ID,x").unwrap(), found);
        let rules = [
            "user_id=nobody",
            "likes.user_id=uid",
            "skips.user_id=other",
            "created_at=ts",
        ];
        assert_eq!(locate(&rules, "video_id,ts,uid").unwrap(), found);
    }

    #[test]
    fn a_layout_that_does_not_fit_says_what_would() {
        let message =
            |rules: &[&str], headers: &str| locate(rules, headers).unwrap_err().to_string();
        assert_eq!(
            message(&[], "uid,video_id"),
            "likes need a column `user_id`, and the file has `uid`, `video_id`; if it goes by another name, add --column likes.user_id=NAME"
        );
        assert!(message(&[], "user_id,video_id").contains("--default-time"));
        let long = "x".repeat(41);
        let error = message(&[], &format!("\u{1b}[31mid,{long}"));
        let short = format!("`\\u{{1b}}[31mid`, `{}…`;", &long[1..]);
        assert!(error.contains(&short), "{error}");
        assert!(
            message(&["user_id=uid"], "user_id,video_id,created_at").contains("no column `uid`")
        );
        assert!(message(&[], "user_id,user_id,video_id").contains("two columns `user_id`"));
        assert!(message(&["likes.price=p"], "").contains("there is no column `likes.price`"));
        assert!(message(&["user_id"], "").contains("no column rule"));
        assert!(message(&["clicks.user_id=u"], "").contains("no column rule"));
    }
}
