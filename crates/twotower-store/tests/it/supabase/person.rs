//! A client that comes through PostgREST.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use uuid::Uuid;

pub(super) const ANN: Uuid = Uuid::from_u128(0xaaaa_aaaa << 96 | 0x4000_8000_0000_0000_0000);
pub(super) const BOB: Uuid = Uuid::from_u128(0xbbbb_bbbb << 96 | 0x4000_8000_0000_0000_0000);

/// Video `n`.
pub(super) fn video(n: u128) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 | n)
}

/// A connection with the role of a token, and its claims.
pub(super) struct Person {
    connection: PgConnection,
}

impl Person {
    /// The owner, bypassing all policies.
    pub(super) async fn owner(url: &str) -> Self {
        let connection = PgConnection::connect(url).await.unwrap();
        Self { connection }
    }

    pub(super) async fn user(url: &str, user: Uuid) -> Self {
        Self::with_claims(
            url,
            "authenticated",
            &json!({"sub": user, "role": "authenticated"}),
        )
        .await
    }

    /// Without a token.
    pub(super) async fn anonymous(url: &str) -> Self {
        Self::with_claims(url, "anon", &json!({"role": "anon"})).await
    }

    pub(super) async fn with_claims(url: &str, role: &str, claims: &Value) -> Self {
        let mut person = Self::owner(url).await;
        person
            .run(&format!(
                "SELECT set_config('request.jwt.claims', '{claims}', false); SET ROLE {role}"
            ))
            .await
            .unwrap();
        person
    }

    /// Runs statements without a result.
    pub(super) async fn run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        let done = self.connection.execute(AssertSqlSafe(sql)).await?;
        Ok(done.rows_affected())
    }

    /// The rows of a query, as PostgREST would return them.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Value>, sqlx::Error> {
        let wrapped =
            format!("SELECT coalesce(json_agg(answer_row), '[]')::text FROM ({sql}) AS answer_row");
        let row = self.connection.fetch_one(AssertSqlSafe(wrapped)).await?;
        Ok(serde_json::from_str(row.get(0)).unwrap())
    }

    /// The single value of a query.
    pub(super) async fn value(&mut self, sql: &str) -> Result<Value, sqlx::Error> {
        let rows = self.rows(&format!("SELECT ({sql}) AS value")).await?;
        Ok(rows[0]["value"].clone())
    }

    /// The first column of each row, one per line, for statements that are not queries.
    pub(super) async fn lines(&mut self, sql: &str) -> Result<String, sqlx::Error> {
        let rows = self.connection.fetch_all(AssertSqlSafe(sql)).await?;
        let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(lines.join("\n"))
    }

    /// Whatever is refused: the code and the message.
    pub(super) async fn refused(&mut self, sql: &str) -> (String, String) {
        match self.rows(sql).await {
            Err(sqlx::Error::Database(error)) => (
                error.code().unwrap_or_default().into_owned(),
                error.message().to_owned(),
            ),
            other => panic!("{sql}: {other:?}"),
        }
    }
}
