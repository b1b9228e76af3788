mod erased;

use super::erasure::{keep_erasures_out, was_erased};
use super::session::{query, query_as, query_scalar};
use super::{Postgres, Session, migrations};
use crate::backup::{
    ACTIVATIONS, BLOCKS, Backup, BackupError, Column, EVENTS, EXPERIMENTS, JOB_RUNS, Kind, MODELS,
    RestorePlan, Restored, TOMBSTONES, Table, Target, Tombstone, VectorRow,
};
use crate::store::BULK_TIMEOUT;
use crate::{Lease, StoreError, VectorTable};
use sqlx::AssertSqlSafe;

/// Inserts vectors of one version ($2) and dimension ($4): ids, concatenated numbers, fingerprints,
/// times.
macro_rules! insert_vectors {
    ($table:literal, $id:literal, $kept:expr) => {
        concat!(
            "INSERT INTO public.", $table, " (", $id, ", model_version, embedding, fingerprint, updated_at)
             SELECT id, $2, ($3::real[])[(n - 1) * $4 + 1 : n * $4], fingerprint,
                    timestamptz 'epoch' + at_us * interval '1 microsecond'
             FROM unnest($1::uuid[], $5::bigint[], $6::bigint[]) WITH ORDINALITY AS new (id, fingerprint, at_us, n)
             WHERE ", $kept
        )
    };
}

impl Postgres {
    /// Also checks for tables, since a copy of a database may lack the record of its migrations.
    /// They are looked up by name, which requires no rights.
    pub(crate) async fn has_nothing_of_ours(&self) -> Result<bool, StoreError> {
        if self.pending_migrations().await?.len() < migrations::known().len() {
            return Ok(false);
        }
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let tables: bool = query_scalar(
            "SELECT EXISTS (
                SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE relkind IN ('r', 'p')
                  AND (nspname = 'twotower' OR nspname = 'public' AND relname IN ('video_embeddings', 'user_embeddings'))
             )",
        )
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        Ok(!tables)
    }

    pub(crate) async fn restore_target(
        &self,
        versions: &[i64],
        taken_at_us: i64,
    ) -> Result<Target, StoreError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        query("SET LOCAL row_security = off")
            .execute(&mut *session)
            .await?;
        let models =
            query_as("SELECT version, manifest_sha256 FROM twotower.models ORDER BY version")
                .fetch_all(&mut *session)
                .await?;
        let activations = query_as(
            "SELECT version, (extract(epoch FROM activated_at) * 1000000)::bigint FROM twotower.model_activations ORDER BY id",
        )
        .fetch_all(&mut *session)
        .await?;
        let experiments = query_as(
            "SELECT id, (extract(epoch FROM started_at) * 1000000)::bigint, ended_at IS NOT NULL FROM twotower.experiments ORDER BY id",
        )
        .fetch_all(&mut *session)
        .await?;
        let facts = query_as(
            "SELECT (SELECT encode(salt, 'hex') FROM twotower.tombstone_salt), (SELECT count(*) FROM twotower.tombstones),
                    (SELECT count(*) FROM public.video_embeddings WHERE model_version = ANY ($1)
                     AND updated_at > timestamptz 'epoch' + $2::bigint * interval '1 microsecond')
                    + (SELECT count(*) FROM public.user_embeddings WHERE model_version = ANY ($1)
                       AND updated_at > timestamptz 'epoch' + $2::bigint * interval '1 microsecond')",
        )
        .bind(versions)
        .bind(taken_at_us)
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        Ok(Target::new(models, activations, experiments, facts))
    }

    /// In one transaction: readers see either the old state or the whole backup. Likes and skips of
    /// erased users are deleted after it, as are other rows of theirs that were written meanwhile.
    pub(crate) async fn restore(
        &self,
        lease: Option<Lease>,
        backup: &Backup,
        plan: &RestorePlan,
    ) -> Result<Restored, BackupError> {
        let session = self.begin_publishing(lease, BULK_TIMEOUT).await?;
        let mut restoration = Restoration {
            session,
            backup,
            plan,
            restored: Restored::default(),
        };
        run(&mut restoration.session, "SET LOCAL row_security = off").await?;
        restoration.vectors(VectorTable::Videos).await?;
        restoration.registry().await?;
        restoration.experiments().await?;
        restoration.job_runs().await?;
        restoration.switch().await?;
        // From here to the end, erasures wait, and writers of likes wait behind a waiting erasure.
        // The rows above are none that an erasure deletes. The rows below must not be touched
        // earlier: an erasure waiting for one of them would be waited for here.
        keep_erasures_out(&mut restoration.session).await?;
        restoration.tombstones().await?;
        restoration.delete_erased().await?;
        restoration.vectors(VectorTable::Users).await?;
        restoration.table(&BLOCKS, 0).await?;
        restoration.table(&EVENTS, 0).await?;
        restoration.session.commit().await?;
        let mut restored = restoration.restored;
        restored.erased_deleted += self.delete_erased_since().await?;
        restored.erased_deleted += self.delete_interactions(&plan.own_interactions).await?;
        Ok(restored)
    }
}

/// A restoration in progress.
struct Restoration<'a> {
    session: Session,
    backup: &'a Backup,
    plan: &'a RestorePlan,
    restored: Restored,
}

impl Restoration<'_> {
    /// Restores the tombstones, before any rows of users, which are checked against them. Erasures
    /// that only this database knows stay, and get numbers above all others, since no model of the
    /// backup reflects them.
    async fn tombstones(&mut self) -> Result<(), BackupError> {
        let erased: i64 = query_scalar(
            "SELECT count(*) FROM twotower.tombstones
             WHERE NOT EXISTS (SELECT FROM twotower.tombstone_salt WHERE salt = decode($1, 'hex'))",
        )
        .bind(&self.plan.salt)
        .fetch_one(&mut *self.session)
        .await?;
        if erased > 0 {
            let erased = erased as u64;
            return Err(BackupError::OtherSalt { erased });
        }
        query("UPDATE twotower.tombstone_salt SET salt = decode($1, 'hex') WHERE salt <> decode($1, 'hex')")
            .bind(&self.plan.salt)
            .execute(&mut *self.session)
            .await?;
        let tombstones: Vec<Tombstone> = self.backup.rows(TOMBSTONES.name)?;
        let last = tombstones.iter().map(|one| one.number).max();
        let hashes: Vec<String> = tombstones.into_iter().map(|one| one.user_hash).collect();
        query(
            "DELETE FROM twotower.tombstones USING unnest($1::text[]) AS hash WHERE user_hash = decode(hash, 'hex')",
        )
        .bind(hashes)
        .execute(&mut *self.session)
        .await?;
        query(
            "SELECT setval(pg_get_serial_sequence('twotower.tombstones', 'number'), last)
             FROM (SELECT greatest(max(number), $1) AS last FROM twotower.tombstones) AS _ WHERE last > 0",
        )
        .bind(last)
        .execute(&mut *self.session)
        .await?;
        run(
            &mut self.session,
            "UPDATE twotower.tombstones SET number = DEFAULT",
        )
        .await?;
        self.table(&TOMBSTONES, 0).await
    }

    /// Restores vectors with their update times, by which dormant users are identified.
    async fn vectors(&mut self, table: VectorTable) -> Result<(), BackupError> {
        let name = table.table();
        let (delete, insert) = match table {
            VectorTable::Videos => (
                "DELETE FROM public.video_embeddings WHERE model_version = ANY ($1)",
                insert_vectors!("video_embeddings", "video_id", "true"),
            ),
            VectorTable::Users => (
                "DELETE FROM public.user_embeddings WHERE model_version = ANY ($1)",
                insert_vectors!(
                    "user_embeddings",
                    "user_id",
                    concat!("NOT ", was_erased!("id"))
                ),
            ),
        };
        query(delete)
            .bind(&self.backup.manifest().versions)
            .execute(&mut *self.session)
            .await?;
        let mut lines = self.backup.lines(name)?;
        let (mut read, mut written) = (0, 0);
        while let Some(groups) = lines.vectors(table)? {
            for rows in groups {
                read += rows.len() as u64;
                written += self.insert(insert, &rows).await?;
            }
        }
        self.restored.erased_left_out += read - written;
        self.restored.rows.insert(name.to_owned(), written);
        Ok(())
    }

    async fn insert(
        &mut self,
        statement: &'static str,
        rows: &[VectorRow],
    ) -> Result<u64, StoreError> {
        let Some(first) = rows.first() else {
            return Ok(0);
        };
        let of = |value: fn(&VectorRow) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
        let numbers: Vec<f32> = rows.iter().flat_map(|row| &row.vector).copied().collect();
        let done = query(statement)
            .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
            .bind(first.version)
            .bind(numbers)
            .bind(first.vector.len() as i64)
            .bind(of(|row| row.fingerprint))
            .bind(of(|row| row.updated_at_us))
            .execute(&mut *self.session)
            .await?;
        Ok(done.rows_affected())
    }

    /// Restores versions and their history. Versions without vectors in this database are marked as
    /// pruned.
    async fn registry(&mut self) -> Result<(), BackupError> {
        run(
            &mut self.session,
            "LOCK TABLE twotower.active_model IN SHARE ROW EXCLUSIVE MODE",
        )
        .await?;
        if let Some(active) = self.backup.manifest().active_version {
            query(
                "UPDATE twotower.models SET state = 'retired', retired_at = now() WHERE state = 'active' AND version <> $1",
            )
            .bind(active)
            .execute(&mut *self.session)
            .await?;
        }
        let mut statement = insert(&MODELS);
        if self.backup.manifest().active_version.is_none() {
            // Readers keep their version, and it stays active whatever the backup says about it.
            statement.push_str(
                " WHERE models.version IS DISTINCT FROM (SELECT version FROM twotower.active_model)",
            );
        }
        self.rows(&MODELS, 0, &statement).await?;
        run(
            &mut self.session,
            "UPDATE twotower.models AS model SET pruned_at = now(),
                 retired_at = CASE WHEN state = 'candidate' THEN now() ELSE retired_at END, state = 'retired'
             WHERE state IN ('candidate', 'retired') AND pruned_at IS NULL
             AND NOT EXISTS (SELECT FROM public.video_embeddings AS vectors WHERE vectors.model_version = model.version)",
        )
        .await?;
        if self.plan.history {
            self.table(&ACTIVATIONS, self.plan.known_activations)
                .await?;
        }
        if let Some(switch) = &self.plan.switch {
            query(
                "INSERT INTO twotower.model_activations (version, kind, activated_by, reason, previous_version, forced)
                 VALUES ($1, $2, $3, $4, (SELECT version FROM twotower.active_model), $5)",
            )
            .bind(switch.version)
            .bind(switch.kind.as_str())
            .bind(&switch.by)
            .bind(&switch.reason)
            .bind(switch.forced)
            .execute(&mut *self.session)
            .await?;
        }
        Ok(())
    }

    async fn experiments(&mut self) -> Result<(), BackupError> {
        query("UPDATE twotower.experiments SET ended_at = now() WHERE ended_at IS NULL AND id IS DISTINCT FROM $1")
            .bind(self.plan.running)
            .execute(&mut *self.session)
            .await?;
        self.table(&EXPERIMENTS, 0).await?;
        run(
            &mut self.session,
            "SELECT setval(pg_get_serial_sequence('twotower.experiments', 'id'), last)
             FROM (SELECT max(id) AS last FROM twotower.experiments) AS _ WHERE last > 0",
        )
        .await
    }

    /// Runs are listed in the order of their ids, so the backup's are restored only into an empty
    /// table.
    async fn job_runs(&mut self) -> Result<(), BackupError> {
        let any: bool = query_scalar("SELECT EXISTS (SELECT FROM twotower.job_runs)")
            .fetch_one(&mut *self.session)
            .await?;
        if any {
            self.restored.rows.insert(JOB_RUNS.name.to_owned(), 0);
            return Ok(());
        }
        self.table(&JOB_RUNS, 0).await
    }

    /// Sets the active version, and advances the sequence of version numbers.
    async fn switch(&mut self) -> Result<(), BackupError> {
        let manifest = self.backup.manifest();
        // Only by nextval: trainers draw numbers at the same time, and setval could make one be
        // drawn twice.
        query(
            "SELECT count(nextval('twotower.model_versions'))
             FROM generate_series(1, greatest($1, (SELECT max(version) FROM twotower.models))
                  - (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM twotower.model_versions))",
        )
        .bind(manifest.last_version)
        .execute(&mut *self.session)
        .await?;
        if let Some(active) = manifest.active_version {
            query(
                "INSERT INTO twotower.active_model (singleton, version) VALUES (true, $1)
                 ON CONFLICT (singleton) DO UPDATE SET version = excluded.version",
            )
            .bind(active)
            .execute(&mut *self.session)
            .await?;
        }
        self.restored.active_version = query_scalar("SELECT version FROM twotower.active_model")
            .fetch_optional(&mut *self.session)
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
        while let Some(chunk) = lines.chunk()? {
            let skipped = skip.min(chunk.len());
            skip -= skipped;
            let rows = format!("[{}]", chunk[skipped..].join(","));
            let done = sqlx::query(AssertSqlSafe(statement))
                .persistent(false)
                .bind(rows)
                .execute(&mut *self.session)
                .await?;
            written += done.rows_affected();
        }
        self.restored.rows.insert(table.name.to_owned(), written);
        Ok(())
    }
}

async fn run(session: &mut Session, statement: &'static str) -> Result<(), BackupError> {
    query(statement).execute(&mut **session).await?;
    Ok(())
}

/// The statement that inserts the rows of a JSON list in order.
fn insert(table: &Table) -> String {
    let list = |of: &dyn Fn(&Column) -> String| {
        let parts: Vec<String> = table.columns.iter().map(of).collect();
        parts.join(", ")
    };
    let names = list(&|column| format!("\"{}\"", column.name));
    let types = list(&|column| {
        let kind = match column.kind {
            Kind::Integer | Kind::Time => "bigint",
            Kind::Real => "double precision",
            Kind::Boolean => "boolean",
            Kind::Text | Kind::Bytes => "text",
            Kind::Json => "jsonb",
            Kind::Id => "uuid",
        };
        format!("\"{}\" {kind}", column.name)
    });
    let values = list(&|column| {
        let name = column.name;
        match column.kind {
            Kind::Time => format!("timestamptz 'epoch' + \"{name}\" * interval '1 microsecond'"),
            Kind::Bytes => format!("decode(\"{name}\", 'hex')"),
            _ => format!("\"{name}\""),
        }
    });
    let condition = if table.of_users {
        concat!("WHERE NOT ", was_erased!("new.user_id"))
    } else {
        ""
    };
    let conflict = table.on_conflict(table.columns.iter());
    format!(
        "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {values}
         FROM ROWS FROM (json_to_recordset($1::text::json) AS ({types})) WITH ORDINALITY AS new ({names}, place)
         {condition} ORDER BY place {conflict}",
        table.postgres
    )
}
