//! Looking for an id in every table.

use super::Sqlite;
use crate::StoreError;
use crate::erasure::SearchedRows;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

impl Sqlite {
    /// Looks at every column of every table, whatever it is declared to hold.
    pub(crate) async fn search_rows(&self, user: Uuid) -> Result<SearchedRows, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Bytes are looked at as digits and, like text, as letters.
        let tables: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT tables.name, json_group_array(columns.name ORDER BY cid),
                    'SELECT ' || group_concat(format(
                        'count(*) FILTER (WHERE instr(replace(upper(CAST(\"%w\" AS TEXT)), ''-'', ''''), ?1)
                                          OR (typeof(\"%w\") = ''blob'' AND instr(hex(\"%w\"), ?1)))',
                        columns.name, columns.name, columns.name
                    ), ', ' ORDER BY cid) || format(' FROM \"%w\"', tables.name)
             FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
             WHERE tables.type = 'table' GROUP BY tables.name ORDER BY tables.name",
        )
        .fetch_all(&mut *transaction)
        .await?;
        let digits = user.simple().to_string().to_uppercase();
        let mut rows = SearchedRows::default();
        for (name, columns, statement) in tables {
            let columns: Vec<String> =
                serde_json::from_str(&columns).map_err(|error| StoreError::Row {
                    query: "sqlite_master",
                    column: "name",
                    reason: error.to_string(),
                })?;
            // SQLite has written the statement, and quoted the names in it.
            let row = sqlx::query(AssertSqlSafe(statement))
                .persistent(false)
                .bind(&digits)
                .fetch_one(&mut *transaction)
                .await?;
            let counts: Vec<i64> = (0..columns.len())
                .map(|column| row.try_get(column))
                .collect::<Result<_, _>>()?;
            rows.add(&name, &columns, &counts);
        }
        Ok(rows)
    }
}
