use super::copy::{Field, copy_out};
use super::session::{query, query_scalar};
use super::{Postgres, Session, experiments, registry};
use crate::backup::{
    ACTIVATIONS, BLOCKS, BackupError, BackupWriter, EVENTS, EXPERIMENTS, JOB_RUNS, KeptVersion,
    Kind, MODELS, Moment, StoredVector, TOMBSTONE_SALT, TOMBSTONES, Table,
};
use crate::store::BULK_TIMEOUT;
use crate::{StoreError, VectorTable, version_before};

/// Bytes before the numbers in the output of `vector_send`: the dimension and two unused bytes.
const VECTOR_HEADER: usize = 4;

impl Postgres {
    /// Copies everything as of one moment. Rows hidden by a policy are an error, as for `pg_dump`:
    /// a partial backup is useless.
    pub(crate) async fn back_up(
        &self,
        writer: &mut BackupWriter,
        events: bool,
    ) -> Result<Moment, BackupError> {
        let mut session = self.begin_reading(BULK_TIMEOUT).await?;
        query("SET LOCAL row_security = off")
            .execute(&mut *session)
            .await?;
        let moment = moment(&mut session).await?;
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
            let mut lines = writer.lines(table.name)?;
            copy_out(
                &mut session,
                table.name,
                &select(table),
                |[row]: [Option<&[u8]>; 1]| {
                    let row = Field {
                        query: table.name,
                        column: "row",
                        bytes: row,
                    };
                    lines.push(&row.text()?)
                },
            )
            .await?;
            writer.end(lines)?;
        }
        let versions: Vec<i64> = moment.versions.iter().map(|kept| kept.version).collect();
        for table in VectorTable::ALL {
            write_vectors(&mut session, writer, table, &versions).await?;
        }
        session.commit().await?;
        Ok(moment)
    }
}

async fn moment(session: &mut Session) -> Result<Moment, StoreError> {
    // The clock is read after the snapshot is taken, so that nothing in it is later.
    let (taken_at_us, active_version, last_version): (i64, Option<i64>, i64) =
        super::session::query_as(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, (SELECT version FROM twotower.active_model),
                    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM twotower.model_versions)",
        )
        .fetch_one(&mut **session)
        .await?;
    let before = version_before(&registry::history(session).await?);
    let experiment = experiments::running(session).await?;
    let arms = experiment.map(|running| [running.control, running.challenger]);
    let versions: Vec<i64> = active_version
        .into_iter()
        .chain(before)
        .chain(arms.into_iter().flatten())
        .collect();
    // Pruned versions have no vectors left.
    let kept: Vec<(i64, String)> = super::session::query_as(
        "SELECT version, manifest_sha256 FROM twotower.models WHERE version = ANY ($1) AND pruned_at IS NULL ORDER BY version",
    )
    .bind(versions)
    .fetch_all(&mut **session)
    .await?;
    let kept = kept.into_iter();
    Ok(Moment {
        taken_at_us,
        active_version,
        last_version,
        versions: kept
            .map(|(version, manifest_sha256)| KeptVersion {
                version,
                manifest_sha256,
            })
            .collect(),
    })
}

/// Reads a table by `COPY`, whose rows the server writes as JSON.
fn select(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| {
        let name = column.name;
        match column.kind {
            Kind::Time => {
                format!("(extract(epoch FROM \"{name}\") * 1000000)::bigint AS \"{name}\"")
            }
            Kind::Bytes => format!("encode(\"{name}\", 'hex') AS \"{name}\""),
            _ => format!("\"{name}\""),
        }
    });
    let columns: Vec<String> = columns.collect();
    format!(
        "COPY (SELECT row_to_json(rows)::text FROM (SELECT {} FROM {} WHERE {} ORDER BY {}) AS rows) TO STDOUT (FORMAT binary)",
        columns.join(", "),
        table.postgres,
        table.rows,
        table.order
    )
}

async fn write_vectors(
    session: &mut Session,
    writer: &mut BackupWriter,
    table: VectorTable,
    versions: &[i64],
) -> Result<(), BackupError> {
    let schema: String = query_scalar("SELECT quote_ident(twotower.vector_schema())")
        .fetch_one(&mut **session)
        .await?;
    let (name, id) = (table.table(), table.id_column());
    // Our own numbers, and a name that the server has quoted: COPY takes no parameters.
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    let statement = format!(
        "COPY (SELECT {id}, model_version, fingerprint, updated_at, {schema}.vector_send(embedding) FROM public.{name}
               WHERE model_version = ANY ('{{{}}}'::bigint[]) ORDER BY model_version, {id}) TO STDOUT (FORMAT binary)",
        versions.join(",")
    );
    let mut lines = writer.lines(name)?;
    let mut numbers = Vec::new();
    let columns = [
        id,
        "model_version",
        "fingerprint",
        "updated_at",
        "embedding",
    ];
    copy_out(session, name, &statement, |fields: [Option<&[u8]>; 5]| {
        let mut named = columns.map(|column| Field {
            query: name,
            column,
            bytes: None,
        });
        for (named, bytes) in named.iter_mut().zip(fields) {
            named.bytes = bytes;
        }
        let [id, version, fingerprint, updated_at, vector] = named;
        let vector = vector.given()?;
        let vector = vector.get(VECTOR_HEADER..).unwrap_or_default();
        let (words, _) = vector.as_chunks::<4>();
        numbers.clear();
        numbers.extend(words.iter().flat_map(|word| {
            let [a, b, c, d] = *word;
            [d, c, b, a]
        }));
        lines.push_vector(&StoredVector {
            id: id.uuid()?,
            version: version.integer()?,
            fingerprint: fingerprint.integer()?,
            updated_at_us: updated_at.time_us()?,
            numbers: &numbers,
        })
    })
    .await?;
    writer.end(lines)
}
