use super::erasure::{any_tombstone, erased_among, is_table};
use super::ids::{Sound, bytes, is_id};
use super::snapshot::{each, uuid};
use super::{Sqlite, json_numbers, migrations, now_us, packed};
use crate::backup::{
    ACTIVATIONS, BLOCKS, Backup, BackupError, Column, EVENTS, EXPERIMENTS, JOB_RUNS, Kind, MODELS,
    RestorePlan, Restored, TOMBSTONES, Table, Target, Tombstone, VectorRow,
};
use crate::snapshot::tidy;
use crate::{Lease, Source, StoreError, VectorTable};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Sqlite as Database, Transaction};
use std::collections::HashMap;
use uuid::Uuid;

/// Inserts vectors of one version (?2) with this many bytes each (?4): concatenated ids (?1) and
/// vectors (?3), and pairs of fingerprint and time (?5).
macro_rules! insert_vectors {
    ($table:literal, $id:literal) => {
        concat!(
            "INSERT INTO ", $table, " (", $id, ", model_version, embedding, fingerprint, updated_at)
             SELECT substr(?1, key * 16 + 1, 16), ?2, substr(?3, key * ?4 + 1, ?4), json_extract(value, '$[0]'), json_extract(value, '$[1]')
             FROM json_each(?5)"
        )
    };
}

impl Sqlite {
    pub(crate) async fn has_nothing_of_ours(&self) -> Result<bool, StoreError> {
        Ok(self.pending_migrations().await?.len() == migrations::LAST)
    }

    pub(crate) async fn restore_target(
        &self,
        versions: &[i64],
        taken_at_us: i64,
    ) -> Result<Target, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let models =
            sqlx::query_as("SELECT version, manifest_sha256 FROM twotower_models ORDER BY version")
                .fetch_all(&mut *transaction)
                .await?;
        let activations = sqlx::query_as(
            "SELECT version, activated_at FROM twotower_model_activations ORDER BY id",
        )
        .fetch_all(&mut *transaction)
        .await?;
        let experiments = sqlx::query_as(
            "SELECT id, started_at, ended_at IS NOT NULL FROM twotower_experiments ORDER BY id",
        )
        .fetch_all(&mut *transaction)
        .await?;
        let facts = sqlx::query_as(
            "SELECT (SELECT lower(hex(salt)) FROM twotower_tombstone_salt), (SELECT count(*) FROM twotower_tombstones),
                    (SELECT count(*) FROM video_embeddings
                     WHERE model_version IN (SELECT value FROM json_each(?1)) AND updated_at > ?2)
                    + (SELECT count(*) FROM user_embeddings
                       WHERE model_version IN (SELECT value FROM json_each(?1)) AND updated_at > ?2)",
        )
        .bind(json_numbers(versions.iter().copied()))
        .bind(taken_at_us)
        .fetch_one(&mut *transaction)
        .await?;
        Ok(Target::new(models, activations, experiments, facts))
    }

    /// In one transaction: readers see either the old state or the whole backup.
    pub(crate) async fn restore(
        &self,
        lease: Option<Lease>,
        backup: &Backup,
        plan: &RestorePlan,
    ) -> Result<Restored, BackupError> {
        let mut restoration = Restoration {
            transaction: self.publish(lease).await?,
            backup,
            plan,
            restored: Restored::default(),
        };
        restoration.tombstones().await?;
        let any_erased = restoration.delete_erased().await?;
        for table in VectorTable::ALL {
            restoration.vectors(table).await?;
        }
        restoration.table(&BLOCKS, 0).await?;
        restoration.registry().await?;
        restoration.experiments().await?;
        restoration.table(&EVENTS, 0).await?;
        restoration.job_runs().await?;
        restoration.switch().await?;
        restoration.transaction.commit().await?;
        // The file cannot be rewritten within a transaction. It is rewritten even if nothing was
        // deleted: an earlier restoration can have been interrupted here, after its commit.
        if any_erased {
            self.rewrite().await?;
        }
        Ok(restoration.restored)
    }

    /// Number of likes and skips of `source` that belong to erased users.
    pub(crate) async fn erased_interactions(&self, source: &Source) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        if !any_tombstone(&mut transaction).await? {
            return Ok(0);
        }
        Sound::of(source).check(&mut transaction).await?;
        let mut rows: HashMap<Uuid, u64> = HashMap::new();
        for (table, sql) in [("likes", &source.likes), ("skips", &source.skips)] {
            // Ids that are text count in every spelling.
            let sql = format!(
                "SELECT {} AS user_id FROM (\n{}\n) WHERE {}",
                bytes("user_id"),
                tidy(sql),
                is_id("user_id")
            );
            each(&mut transaction, "user_id", &sql, |row| {
                *rows.entry(uuid(row, table, 0)?).or_default() += 1;
                Ok::<_, StoreError>(())
            })
            .await?;
        }
        let users: Vec<Uuid> = rows.keys().copied().collect();
        let erased = erased_among(&mut transaction, &users).await?;
        Ok(erased.iter().filter_map(|user| rows.get(user)).sum())
    }
}

/// A restoration in progress.
struct Restoration<'a> {
    transaction: Transaction<'static, Database>,
    backup: &'a Backup,
    plan: &'a RestorePlan,
    restored: Restored,
}

#[derive(Deserialize)]
struct OfUser {
    user_id: Uuid,
}

impl Restoration<'_> {
    /// Restores the tombstones, before any rows of users, which are checked against them. Erasures
    /// that only this database knows stay, and get numbers above all others, since no model of the
    /// backup reflects them.
    async fn tombstones(&mut self) -> Result<(), BackupError> {
        let erased: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM twotower_tombstones
             WHERE NOT EXISTS (SELECT 1 FROM twotower_tombstone_salt WHERE salt = unhex(?1))",
        )
        .bind(&self.plan.salt)
        .fetch_one(&mut *self.transaction)
        .await?;
        if erased > 0 {
            let erased = erased as u64;
            return Err(BackupError::OtherSalt { erased });
        }
        sqlx::query("UPDATE twotower_tombstone_salt SET salt = unhex(?1)")
            .bind(&self.plan.salt)
            .execute(&mut *self.transaction)
            .await?;
        let tombstones: Vec<Tombstone> = self.backup.rows(TOMBSTONES.name)?;
        let last = tombstones.iter().map(|one| one.number).max().unwrap_or(0);
        for tombstone in &tombstones {
            sqlx::query("DELETE FROM twotower_tombstones WHERE user_hash = unhex(?1)")
                .bind(&tombstone.user_hash)
                .execute(&mut *self.transaction)
                .await?;
        }
        let here: Vec<i64> =
            sqlx::query_scalar("SELECT number FROM twotower_tombstones ORDER BY number")
                .fetch_all(&mut *self.transaction)
                .await?;
        let mut next = last.max(here.last().copied().unwrap_or(0));
        for number in here {
            next += 1;
            sqlx::query("UPDATE twotower_tombstones SET number = ?2 WHERE number = ?1")
                .bind(number)
                .bind(next)
                .execute(&mut *self.transaction)
                .await?;
        }
        // AUTOINCREMENT counts from inserted numbers, not from updated ones.
        sqlx::query(
            "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'twotower_tombstones'",
        )
        .bind(next)
        .execute(&mut *self.transaction)
        .await?;
        self.table(&TOMBSTONES, 0).await
    }

    /// Deletes rows of erased users. The database can know of fewer erasures than the backup, for
    /// example if it comes from an older copy. Requires the complete tombstones; returns whether
    /// there are any.
    async fn delete_erased(&mut self) -> Result<bool, BackupError> {
        if !any_tombstone(&mut self.transaction).await? {
            return Ok(false);
        }
        let own = self.plan.own_interactions.iter().map(|kind| kind.table());
        let tables = [
            "twotower_events",
            "recommendation_blocks",
            "user_embeddings",
        ];
        for table in tables.into_iter().chain(own) {
            if !is_table(&mut self.transaction, table).await? {
                continue;
            }
            // Likes and skips can be the application's, with ids as text.
            let id = bytes("user_id");
            let users: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT id FROM (SELECT DISTINCT {id} AS id FROM {table}) WHERE typeof(id) = 'blob' AND length(id) = 16"
            )))
            .persistent(false)
            .fetch_all(&mut *self.transaction)
            .await?;
            let erased = erased_among(&mut self.transaction, &users).await?;
            if erased.is_empty() {
                continue;
            }
            let erased: Vec<Uuid> = erased.into_iter().collect();
            let done = sqlx::query(AssertSqlSafe(format!(
                "DELETE FROM {table} WHERE {id} IN (SELECT unhex(value, '-') FROM json_each(?1))"
            )))
            .persistent(false)
            .bind(sqlx::types::Json(erased))
            .execute(&mut *self.transaction)
            .await?;
            self.restored.erased_deleted += done.rows_affected();
        }
        Ok(true)
    }

    /// Restores vectors with their update times, by which dormant users are identified.
    async fn vectors(&mut self, table: VectorTable) -> Result<(), BackupError> {
        let name = table.table();
        let (delete, insert) = match table {
            VectorTable::Videos => (
                "DELETE FROM video_embeddings WHERE model_version = ?1",
                insert_vectors!("video_embeddings", "video_id"),
            ),
            VectorTable::Users => (
                "DELETE FROM user_embeddings WHERE model_version = ?1",
                insert_vectors!("user_embeddings", "user_id"),
            ),
        };
        for version in &self.backup.manifest().versions {
            sqlx::query(delete)
                .bind(version)
                .execute(&mut *self.transaction)
                .await?;
        }
        let mut lines = self.backup.lines(name)?;
        let mut written = 0;
        while let Some(groups) = lines.vectors(table)? {
            for mut rows in groups {
                let read = rows.len();
                if table == VectorTable::Users {
                    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
                    let erased = erased_among(&mut self.transaction, &ids).await?;
                    rows.retain(|row| !erased.contains(&row.id));
                }
                self.restored.erased_left_out += (read - rows.len()) as u64;
                written += rows.len() as u64;
                self.insert(insert, &rows).await?;
            }
        }
        self.restored.rows.insert(name.to_owned(), written);
        Ok(())
    }

    async fn insert(
        &mut self,
        statement: &'static str,
        rows: &[VectorRow],
    ) -> Result<(), StoreError> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let numbers = rows.iter().flat_map(|row| &row.vector);
        let numbers: Vec<u8> = numbers.flat_map(|x| x.to_le_bytes()).collect();
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let pairs: Vec<_> = rows
            .iter()
            .map(|row| (row.fingerprint, row.updated_at_us))
            .collect();
        sqlx::query(statement)
            .bind(packed(ids.into_iter()))
            .bind(first.version)
            .bind(numbers)
            .bind((4 * first.vector.len()) as i64)
            .bind(sqlx::types::Json(pairs))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Restores versions and their history. Versions without vectors in this database are marked as
    /// pruned.
    async fn registry(&mut self) -> Result<(), BackupError> {
        let now = now_us();
        if let Some(active) = self.backup.manifest().active_version {
            sqlx::query(
                "UPDATE twotower_models SET state = 'retired', retired_at = ?2 WHERE state = 'active' AND version <> ?1",
            )
            .bind(active)
            .bind(now)
            .execute(&mut *self.transaction)
            .await?;
        }
        let mut statement = insert(&MODELS);
        if self.backup.manifest().active_version.is_none() {
            // Readers keep their version, and it stays active whatever the backup says about it.
            statement.push_str(
                " WHERE twotower_models.version IS NOT (SELECT version FROM twotower_active_model)",
            );
        }
        self.rows(&MODELS, 0, &statement).await?;
        sqlx::query(
            "UPDATE twotower_models AS model SET pruned_at = ?1,
                 retired_at = CASE WHEN state = 'candidate' THEN ?1 ELSE retired_at END, state = 'retired'
             WHERE state IN ('candidate', 'retired') AND pruned_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM video_embeddings AS vectors WHERE vectors.model_version = model.version)",
        )
        .bind(now)
        .execute(&mut *self.transaction)
        .await?;
        if self.plan.history {
            self.table(&ACTIVATIONS, self.plan.known_activations)
                .await?;
        }
        if let Some(switch) = &self.plan.switch {
            sqlx::query(
                "INSERT INTO twotower_model_activations (version, activated_at, kind, activated_by, reason, previous_version, forced)
                 VALUES (?1, ?2, ?3, ?4, ?5, (SELECT version FROM twotower_active_model), ?6)",
            )
            .bind(switch.version)
            .bind(now)
            .bind(switch.kind.as_str())
            .bind(&switch.by)
            .bind(&switch.reason)
            .bind(switch.forced)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    async fn experiments(&mut self) -> Result<(), BackupError> {
        sqlx::query(
            "UPDATE twotower_experiments SET ended_at = ?2 WHERE ended_at IS NULL AND id IS NOT ?1",
        )
        .bind(self.plan.running)
        .bind(now_us())
        .execute(&mut *self.transaction)
        .await?;
        self.table(&EXPERIMENTS, 0).await
    }

    /// Runs are listed in the order of their ids, so the backup's are restored only into an empty
    /// table.
    async fn job_runs(&mut self) -> Result<(), BackupError> {
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM twotower_job_runs)")
            .fetch_one(&mut *self.transaction)
            .await?;
        if any {
            self.restored.rows.insert(JOB_RUNS.name.to_owned(), 0);
            return Ok(());
        }
        self.table(&JOB_RUNS, 0).await
    }

    /// Sets the active version and the next version number.
    async fn switch(&mut self) -> Result<(), BackupError> {
        let manifest = self.backup.manifest();
        sqlx::query(
            "UPDATE twotower_model_versions
             SET last = max(last, ?1, coalesce((SELECT max(version) FROM twotower_models), 0))",
        )
        .bind(manifest.last_version)
        .execute(&mut *self.transaction)
        .await?;
        if let Some(active) = manifest.active_version {
            sqlx::query(
                "INSERT INTO twotower_active_model (singleton, version) VALUES (1, ?1)
                 ON CONFLICT (singleton) DO UPDATE SET version = excluded.version",
            )
            .bind(active)
            .execute(&mut *self.transaction)
            .await?;
        }
        self.restored.active_version =
            sqlx::query_scalar("SELECT version FROM twotower_active_model")
                .fetch_optional(&mut *self.transaction)
                .await?;
        Ok(())
    }

    /// Restores a table's rows except the first `skip`.
    async fn table(&mut self, table: &Table, skip: usize) -> Result<(), BackupError> {
        self.rows(table, skip, &insert(table)).await
    }

    /// The same with a given statement.
    async fn rows(
        &mut self,
        table: &Table,
        skip: usize,
        statement: &str,
    ) -> Result<(), BackupError> {
        let mut lines = self.backup.lines(table.name)?;
        let (mut skip, mut written) = (skip, 0);
        while let Some(mut chunk) = lines.chunk()? {
            let skipped = skip.min(chunk.len());
            skip -= skipped;
            chunk.drain(..skipped);
            if table.of_users {
                let users = chunk
                    .iter()
                    .map(|row| Ok(lines.parse::<OfUser>(row)?.user_id));
                let users: Vec<Uuid> = users.collect::<Result<_, BackupError>>()?;
                let erased = erased_among(&mut self.transaction, &users).await?;
                let mut users = users.into_iter();
                chunk.retain(|_| users.next().is_some_and(|user| !erased.contains(&user)));
            }
            let done = sqlx::query(AssertSqlSafe(statement))
                .persistent(false)
                .bind(format!("[{}]", chunk.join(",")))
                .execute(&mut *self.transaction)
                .await?;
            written += done.rows_affected();
        }
        self.restored.rows.insert(table.name.to_owned(), written);
        Ok(())
    }
}

/// The statement that inserts the rows of a JSON list in order.
fn insert(table: &Table) -> String {
    let list = |of: &dyn Fn(&Column) -> String| {
        let parts: Vec<String> = table.everywhere().map(of).collect();
        parts.join(", ")
    };
    let names = list(&|column| format!("\"{}\"", column.name));
    let values = list(&|column| {
        let value = format!("json_extract(value, '$.{}')", column.name);
        match column.kind {
            Kind::Bytes => format!("unhex({value})"),
            Kind::Id => format!("unhex({value}, '-')"),
            _ => value,
        }
    });
    let conflict = table.on_conflict(table.everywhere());
    format!(
        "INSERT INTO {} ({names}) SELECT {values} FROM json_each(?1) WHERE true ORDER BY key {conflict}",
        table.sqlite
    )
}
