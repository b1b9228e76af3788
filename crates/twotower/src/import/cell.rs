use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use uuid::Uuid;

/// One value of a row as its format yields it, before it is interpreted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell<'a> {
    /// The file does not have the column.
    Absent,
    /// Null or an empty field: unknown.
    Missing,
    /// UTF-8 text.
    Text(Cow<'a, str>),
    /// An integer.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A typed time, microseconds since 1970 UTC.
    Time(i64),
    /// A typed UUID.
    Id(Uuid),
    /// A list of texts.
    List(Vec<Cow<'a, str>>),
    /// A value that no column accepts, described in words.
    Other(&'static str),
}

impl Cell<'_> {
    /// Description of the value for a message. Text is cut short; `private` text is not repeated.
    pub(crate) fn describe(&self, private: bool) -> String {
        match self {
            Self::Absent | Self::Missing => "nothing".to_owned(),
            Self::Text(_) if private => "text".to_owned(),
            Self::Integer(_) | Self::Float(_) if private => "a number".to_owned(),
            Self::Text(text) => quote(text),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Time(_) => "a time".to_owned(),
            Self::Id(_) => "a UUID".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

/// `text` in backquotes, with control characters escaped, cut after 40 characters.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut quoted: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| {
            let escape = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escape.into_iter().flatten().chain(plain)
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

/// What is wrong with a row, before the names of the file and its columns are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Defect {
    /// Position among our columns; `None` if the row as a whole is wrong.
    pub(crate) column: Option<usize>,
    /// What is expected.
    pub(crate) expected: Cow<'static, str>,
    /// What was found.
    pub(crate) found: String,
    /// Whether the rows after this one cannot be told apart, so that the number of rows lost with
    /// it is unknown.
    pub(crate) hides_rest: bool,
}

impl Defect {
    pub(crate) fn row(expected: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self {
            column: None,
            expected: expected.into(),
            found: found.into(),
            hides_rest: false,
        }
    }

    pub(crate) fn rest(expected: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self {
            hides_rest: true,
            ..Self::row(expected, found)
        }
    }

    pub(crate) fn at(
        column: usize,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            column: Some(column),
            ..Self::row(expected, found)
        }
    }
}

/// A row that cannot be imported: its place, what is expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, as the arguments name it.
    pub file: String,
    /// What the format counts: `line` or `row`.
    pub unit: &'static str,
    /// Line in the file (its header is line 1), or row of a Parquet file (the first is row 1).
    pub number: u64,
    /// The column's name in the file; `None` if the row as a whole is wrong.
    pub column: Option<String>,
    /// What is expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} {}", self.file, self.unit, self.number)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_short_and_printable() {
        assert_eq!(quote("a\0b\n"), "`a\\u{0}b\\n`");
        assert_eq!(quote("京都"), "`京都`");
        assert_eq!(quote(&"x".repeat(41)), format!("`{}…`", "x".repeat(40)));
    }
}
