//! Backups and their restoration.

use super::{BULK_TIMEOUT, Engine, GRACE, Store, WHOLE_TIMEOUT, within};
use crate::Source;
use crate::backup::{
    Backup, BackupError, BackupManifest, BackupWriter, Moment, RestoreOptions, Restored, Target,
    compare,
};
use std::path::PathBuf;
use std::time::Duration;

impl Store {
    /// Copies our data into a new backup, as of one moment: the registry, vectors of the versions
    /// that are served or can be at any moment, tombstones with their salt, blocks, runs of jobs,
    /// and events if requested. Streams the tables, so memory does not grow with them.
    ///
    /// # Errors
    /// [`BackupError`]; rows hidden by a policy are an error.
    pub async fn back_up(
        &self,
        writer: &mut BackupWriter,
        events: bool,
    ) -> Result<Moment, BackupError> {
        let work = async {
            match &self.engine {
                Engine::Postgres(engine) => engine.back_up(writer, events).await,
                Engine::Sqlite(engine) => engine.back_up(writer, events).await,
            }
        };
        within(WHOLE_TIMEOUT, "back_up", work).await
    }

    /// Completes a backup after [`Store::back_up`]: writes its manifest and gives it its name.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn finish_backup(
        &self,
        writer: BackupWriter,
        moment: &Moment,
    ) -> Result<(PathBuf, BackupManifest), BackupError> {
        let (engine, schema) = match &self.engine {
            Engine::Postgres(_) => ("postgresql", crate::postgres::last_migration()),
            Engine::Sqlite(_) => ("sqlite", crate::sqlite::last_migration()),
        };
        writer.finish(moment, engine, &schema)
    }

    /// Restores a verified backup of either engine in one transaction: readers see either the old
    /// state or the whole backup. Users erased in this database stay erased. Rows of users erased
    /// in the backup are deleted, likes and skips after that transaction.
    ///
    /// Later blocks and events stay. Runs of jobs are restored only into a database without any.
    ///
    /// # Errors
    /// [`BackupError::Newer`] if the database holds data that the backup does not have, and
    /// `replace` is not set; nothing is written then.
    pub async fn restore(
        &self,
        backup: &Backup,
        options: &RestoreOptions,
    ) -> Result<Restored, BackupError> {
        let manifest = backup.manifest();
        let target: Target = call!(
            self,
            BULK_TIMEOUT,
            restore_target(&manifest.versions, manifest.taken_at_us)
        )?;
        let plan = compare(backup, &target, options)?;
        if options.dry_run {
            return Ok(Restored {
                rows: manifest.rows(),
                active_version: plan.active_version,
                newer: plan.newer,
                erased_left_out: 0,
                erased_deleted: 0,
                erased_remaining: None,
            });
        }
        let work = async {
            match &self.engine {
                Engine::Postgres(engine) => engine.restore(self.lease, backup, &plan).await,
                Engine::Sqlite(engine) => engine.restore(self.lease, backup, &plan).await,
            }
        };
        let mut restored = within(WHOLE_TIMEOUT, "restore", work).await?;
        restored.newer = plan.newer;
        restored.erased_remaining = self.erased_interactions(&options.source).await;
        Ok(restored)
    }

    /// Number of likes and skips of erased users; `None` if they cannot be counted, which does not
    /// undo the restoration.
    async fn erased_interactions(&self, source: &Source) -> Option<u64> {
        let counted = call!(self, BULK_TIMEOUT, erased_interactions(source));
        counted
            .inspect_err(|error| {
                tracing::warn!(
                    "likes and skips of users who were erased cannot be counted: {error}"
                );
            })
            .ok()
    }
}
