use super::{Sqlite, experiments, now_us, registry};
use crate::backup::{
    ACTIVATIONS, BLOCKS, BackupError, BackupWriter, EVENTS, EXPERIMENTS, JOB_RUNS, KeptVersion,
    Kind, MODELS, Moment, StoredVector, TOMBSTONE_SALT, TOMBSTONES, Table,
};
use crate::{StoreError, VectorTable, version_before};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

impl Sqlite {
    /// Copies everything as of one moment: a read transaction does not see later ones.
    pub(crate) async fn back_up(
        &self,
        writer: &mut BackupWriter,
        events: bool,
    ) -> Result<Moment, BackupError> {
        let mut transaction = self.pool.begin().await?;
        let moment = moment(&mut transaction).await?;
        let tables = [
            &MODELS,
            &ACTIVATIONS,
            &EXPERIMENTS,
            &TOMBSTONE_SALT,
            &TOMBSTONES,
            &BLOCKS,
            &JOB_RUNS,
        ];
        for table in tables.into_iter().chain(events.then_some(&EVENTS)) {
            write_table(&mut transaction, writer, table).await?;
        }
        for table in VectorTable::ALL {
            write_vectors(&mut transaction, writer, table, &moment).await?;
        }
        transaction.commit().await?;
        Ok(moment)
    }
}

async fn moment(connection: &mut SqliteConnection) -> Result<Moment, StoreError> {
    let (active_version, last_version): (Option<i64>, i64) = sqlx::query_as(
        "SELECT (SELECT version FROM twotower_active_model), (SELECT last FROM twotower_model_versions)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let before = version_before(&registry::history(connection).await?);
    let experiment = experiments::running(connection).await?;
    let arms = experiment.map(|running| [running.control, running.challenger]);
    let mut versions: Vec<i64> = active_version
        .into_iter()
        .chain(before)
        .chain(arms.into_iter().flatten())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let mut kept = Vec::new();
    for version in versions {
        // Pruned versions have no vectors left.
        let found: Option<String> = sqlx::query_scalar(
            "SELECT manifest_sha256 FROM twotower_models WHERE version = ?1 AND pruned_at IS NULL",
        )
        .bind(version)
        .fetch_optional(&mut *connection)
        .await?;
        kept.extend(found.map(|manifest_sha256| KeptVersion {
            version,
            manifest_sha256,
        }));
    }
    Ok(Moment {
        taken_at_us: now_us(),
        active_version,
        last_version,
        versions: kept,
    })
}

async fn write_table(
    connection: &mut SqliteConnection,
    writer: &mut BackupWriter,
    table: &Table,
) -> Result<(), BackupError> {
    let statement = select(table);
    let mut lines = writer.lines(table.name)?;
    let mut rows = sqlx::query(AssertSqlSafe(statement.as_str()))
        .persistent(false)
        .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        lines.push(row.try_get(0)?)?;
    }
    writer.end(lines)
}

/// Reads a table's rows as JSON made by the engine.
fn select(table: &Table) -> String {
    let columns = table.everywhere().map(|column| {
        let name = column.name;
        let value = match column.kind {
            Kind::Integer | Kind::Text | Kind::Time => format!("\"{name}\""),
            Kind::Boolean => format!("json(CASE WHEN \"{name}\" THEN 'true' ELSE 'false' END)"),
            Kind::Json => format!("json(\"{name}\")"),
            // With all digits, which json_object would round.
            Kind::Real => {
                format!(
                    "CASE WHEN \"{name}\" IS NOT NULL THEN json(printf('%!.17g', \"{name}\")) END"
                )
            }
            Kind::Bytes => format!("lower(hex(\"{name}\"))"),
            Kind::Id => {
                let part =
                    |from, length| format!("substr(lower(hex(\"{name}\")), {from}, {length})");
                [
                    part(1, 8),
                    part(9, 4),
                    part(13, 4),
                    part(17, 4),
                    part(21, 12),
                ]
                .join(" || '-' || ")
            }
        };
        format!("'{name}', {value}")
    });
    let columns: Vec<String> = columns.collect();
    format!(
        "SELECT json_object({}) FROM {} WHERE {} ORDER BY {}",
        columns.join(", "),
        table.sqlite,
        table.rows,
        table.order
    )
}

async fn write_vectors(
    connection: &mut SqliteConnection,
    writer: &mut BackupWriter,
    table: VectorTable,
    moment: &Moment,
) -> Result<(), BackupError> {
    let (name, id) = (table.table(), table.id_column());
    let statement = format!(
        "SELECT {id}, fingerprint, updated_at, embedding FROM {name} WHERE model_version = ?1 ORDER BY {id}"
    );
    let mut lines = writer.lines(name)?;
    for kept in &moment.versions {
        let mut rows = sqlx::query(AssertSqlSafe(statement.as_str()))
            .persistent(false)
            .bind(kept.version)
            .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            lines.push_vector(&StoredVector {
                id: row.try_get(0)?,
                version: kept.version,
                fingerprint: row.try_get(1)?,
                updated_at_us: row.try_get(2)?,
                numbers: row.try_get(3)?,
            })?;
        }
    }
    writer.end(lines)
}
