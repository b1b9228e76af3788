use super::Sqlite;
use crate::StoreError;
use sqlx::{AssertSqlSafe, SqliteConnection};

/// Version n is the n-th entry. The file's `user_version` is the last version applied.
const MIGRATIONS: [&str; 7] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
];

/// The last version; with it the schema is complete.
pub(super) const LAST: usize = MIGRATIONS.len();

impl Sqlite {
    pub(crate) async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.write().await?;
        let pending = pending(&mut transaction).await?;
        for &version in &pending {
            sqlx::raw_sql(MIGRATIONS[version - 1])
                .execute(&mut *transaction)
                .await?;
            // A pragma takes no parameters.
            let stamp = AssertSqlSafe(format!("PRAGMA user_version = {version}"));
            sqlx::raw_sql(stamp).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(names(pending))
    }

    pub(crate) async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(names(pending(&mut connection).await?))
    }
}

async fn pending(connection: &mut SqliteConnection) -> Result<Vec<usize>, StoreError> {
    let applied: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(connection)
        .await?;
    Ok((applied as usize + 1..=MIGRATIONS.len()).collect())
}

fn names(versions: Vec<usize>) -> Vec<String> {
    versions
        .into_iter()
        .map(|version| version.to_string())
        .collect()
}
