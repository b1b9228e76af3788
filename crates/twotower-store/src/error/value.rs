//! Values that the database could not convert.

use super::StoreError;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

impl StoreError {
    /// From an error of class 22, without its message, which quotes the value.
    pub(super) fn of_value(code: &str, error: &(dyn DatabaseError + 'static)) -> Self {
        let error = error.try_downcast_ref::<PgDatabaseError>();
        let part = |of: fn(&PgDatabaseError) -> Option<&str>| error.and_then(of);
        let table = part(PgDatabaseError::table).map(|table| format!(" of table {table}"));
        let column = part(PgDatabaseError::column).map(|column| format!(", column {column}"));
        Self::Value {
            code: code.to_owned(),
            place: [table, column].into_iter().flatten().collect(),
        }
    }

    /// Names the query of the source, unless a table is known.
    pub(crate) fn in_query(self, name: &str) -> Self {
        match self {
            Self::Value { code, place } if place.is_empty() => Self::Value {
                code,
                place: format!(" of the query for {name}"),
            },
            error => error,
        }
    }
}

/// PostgreSQL's name of the condition.
pub(super) fn condition(code: &str) -> &'static str {
    match code {
        "22001" => "string data right truncation",
        "22003" => "numeric value out of range",
        "22004" => "null value not allowed",
        "22007" => "invalid datetime format",
        "22008" => "datetime field overflow",
        "22012" => "division by zero",
        "22021" => "character not in repertoire",
        "22023" => "invalid parameter value",
        "22P02" => "invalid text representation",
        "22P03" => "invalid binary representation",
        _ => "data exception",
    }
}
