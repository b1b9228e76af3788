//! A copy of what is ours, and back.

use super::{BULK_TIMEOUT, Engine, GRACE, Store, WHOLE_TIMEOUT, within};
use crate::backup::{
    Backup, BackupError, BackupManifest, BackupWriter, Moment, RestoreOptions, Restored, Target,
    compare,
};
use std::path::PathBuf;
use std::time::Duration;

impl Store {
    /// Writes what is ours into a backup that was begun, as of one moment: the registry, vectors of the versions that are served or may be at
    /// any moment, tombstones with their salt, blocks, runs of jobs, and events if that is wanted. Streamed: memory does not grow with
    /// the tables.
    ///
    /// # Errors
    /// [`BackupError`]; rows that a policy would hide are one.
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

    /// Ends a backup that [`Store::back_up`] has written: its manifest, and its name.
    ///
    /// # Errors
    /// If the file system refuses.
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

    /// Puts a backup, whose files were verified, back into this database, in one transaction: readers see what was there before, or all of
    /// it. Also one of the other engine. Users who were erased here stay so.
    ///
    /// What the application did since (blocks, events) stays; runs of jobs are taken over into a database that has none.
    ///
    /// # Errors
    /// [`BackupError::Newer`] if the database holds what the backup does not know and `replace` was not asked for; nothing is written then.
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
                active_version: manifest.active_version,
                newer: plan.newer,
                erased_left_out: 0,
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
        Ok(restored)
    }
}
