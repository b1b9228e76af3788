use super::erasure::erased_among;
use super::{Sqlite, json_numbers, migrations, now_us, packed};
use crate::backup::{
    ACTIVATIONS, BLOCKS, Backup, BackupError, Column, EVENTS, EXPERIMENTS, JOB_RUNS, Kind, MODELS,
    RestorePlan, Restored, TOMBSTONES, Table, Target, Tombstone, VECTORS, VectorRow,
};
use crate::{Lease, StoreError, VectorTable};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Sqlite as Database, Transaction};
use uuid::Uuid;

/// Inserts vectors of one version (?2) and so many bytes (?4): ids and vectors one after the other, pairs of fingerprint and time.
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

    /// One transaction: readers see what was there before, or all of the backup.
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
        for (name, table) in VECTORS
            .into_iter()
            .zip([VectorTable::Videos, VectorTable::Users])
        {
            restoration.vectors(name, table).await?;
        }
        restoration.table(&BLOCKS, 0).await?;
        restoration.registry().await?;
        restoration.experiments().await?;
        restoration.table(&EVENTS, 0).await?;
        restoration.job_runs().await?;
        restoration.switch().await?;
        restoration.transaction.commit().await?;
        Ok(restoration.restored)
    }
}

/// A restoration under way.
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
    /// First of all: what is restored of users asks who was erased. Those who were erased here and not in the backup stay so, with numbers
    /// above all others, since no model of the backup knows of them.
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
        // The engine counts on from what was inserted, not from what was changed.
        sqlx::query(
            "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'twotower_tombstones'",
        )
        .bind(next)
        .execute(&mut *self.transaction)
        .await?;
        self.table(&TOMBSTONES, 0).await
    }

    /// Vectors keep the times at which they were written, by which dormant users are told.
    async fn vectors(&mut self, name: &'static str, table: VectorTable) -> Result<(), BackupError> {
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

    /// Versions and their history. Those whose vectors are not there afterwards are marked as pruned, which is what they are here.
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
        self.table(&MODELS, 0).await?;
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

    /// Runs are told in the order of their numbers, so that older ones do not come after those of this database.
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

    /// The one row that says what readers see, and the number of the next version.
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

    /// The rows of a table but the first `skip`.
    async fn table(&mut self, table: &Table, skip: usize) -> Result<(), BackupError> {
        let statement = insert(table);
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
            let done = sqlx::query(AssertSqlSafe(statement.as_str()))
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

/// Inserts the rows of a JSON list in their order.
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
    let conflict = if table.key.is_empty() {
        String::new()
    } else if table.replaces {
        let others = table.everywhere().filter(|column| column.name != table.key);
        let set: Vec<String> = others
            .map(|column| format!("\"{0}\" = excluded.\"{0}\"", column.name))
            .collect();
        format!(
            "ON CONFLICT ({}) DO UPDATE SET {}",
            table.key,
            set.join(", ")
        )
    } else {
        format!("ON CONFLICT ({}) DO NOTHING", table.key)
    };
    format!(
        "INSERT INTO {} ({names}) SELECT {values} FROM json_each(?1) WHERE true ORDER BY key {conflict}",
        table.sqlite
    )
}
