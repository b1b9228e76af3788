//! Reads a row group of a file of vectors in batches, and validates everything in it.

use anyhow::{Context, bail, ensure};
use parquet::basic::Type;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType, FloatType};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use twotower_core::embedding;
use uuid::Uuid;

const ID: &str = "id";
const EMBEDDING: &str = "embedding";

/// A row group, and the range of ids that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    path: PathBuf,
    group: usize,
    /// Number of rows before it in the file.
    before: u64,
    pub(crate) rows: u64,
    /// The first id of the part.
    first: Uuid,
    /// Start of its range: the first id of the part, or the least of all ids.
    from: Uuid,
    /// End of its range, exclusive: the first id of the next part.
    until: Option<Uuid>,
}

/// Consecutive rows of a part, and a range of ids that contains exactly these.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// Ascending.
    pub(crate) ids: Vec<Uuid>,
    /// `[n, d]`, each of unit norm.
    pub(crate) numbers: Vec<f32>,
    /// Start of the range.
    pub(crate) from: Uuid,
    /// End of the range, exclusive.
    pub(crate) until: Option<Uuid>,
}

/// The non-empty row groups of a file.
pub(super) fn parts(path: &Path) -> anyhow::Result<Vec<Part>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let columns = Columns::of(reader.metadata().file_metadata().schema_descr())?;
    let (mut parts, mut before) = (Vec::new(), 0);
    for group in 0..reader.num_row_groups() {
        let row_group = reader.get_row_group(group)?;
        let rows = u64::try_from(row_group.metadata().num_rows()).unwrap_or(0);
        if rows == 0 {
            continue;
        }
        let mut ids = Ids::new(&columns, row_group.as_ref())?;
        let first = *ids
            .read(1)?
            .first()
            .with_context(|| format!("row {}: the file ends early", before + 1))?;
        parts.push(Part {
            path: path.to_owned(),
            group,
            before,
            rows,
            first,
            from: first,
            until: None,
        });
        before += rows;
    }
    Ok(parts)
}

/// Assigns each part its range; together the ranges cover all ids.
pub(super) fn bound(parts: &mut [Part]) -> anyhow::Result<()> {
    for place in 1..parts.len() {
        let (part, next) = (&parts[place - 1], &parts[place]);
        ensure!(
            part.first < next.first,
            "{} and {} are not in order: ids must ascend over all files of a kind",
            part.path.display(),
            next.path.display()
        );
        parts[place - 1].until = Some(next.first);
    }
    if let Some(part) = parts.first_mut() {
        part.from = Uuid::nil();
    }
    Ok(())
}

/// Reads a part in batches of `size` rows, until `visit` breaks.
///
/// # Errors
/// Names file and row: an id that is missing, a duplicate or out of order; a vector that is
/// missing, not of dimension `dim`, not finite or not of unit norm.
pub(crate) fn read(
    part: &Part,
    dim: usize,
    size: usize,
    visit: &mut dyn FnMut(Batch) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    read_batches(part, dim, size, visit).with_context(|| part.path.display().to_string())
}

fn read_batches(
    part: &Part,
    dim: usize,
    size: usize,
    visit: &mut dyn FnMut(Batch) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let reader = SerializedFileReader::new(File::open(&part.path)?)?;
    let columns = Columns::of(reader.metadata().file_metadata().schema_descr())?;
    let group = reader.get_row_group(part.group)?;
    let mut ids = Ids::new(&columns, group.as_ref())?;
    let mut vectors = Vectors::new(&columns, group.as_ref(), dim)?;
    let (mut row, last_row) = (part.before, part.before + part.rows);
    let mut last: Option<Uuid> = None;
    let mut waiting: Option<Batch> = None;
    while row < last_row {
        let wanted = size.max(1).min((last_row - row) as usize);
        let batch_ids = ids.read(wanted)?;
        ensure!(
            batch_ids.len() == wanted,
            "row {}: the column `{ID}` ends early or holds nulls",
            row + batch_ids.len() as u64 + 1
        );
        for (place, &id) in (row + 1..).zip(&batch_ids) {
            let ascends = last.is_none_or(|last| last < id);
            let below = part.until.is_none_or(|until| id < until);
            ensure!(
                ascends && below,
                "row {place}: the id comes twice or is not in order: ids must ascend over all files of a kind"
            );
            last = Some(id);
        }
        let numbers = vectors.read(wanted, row)?;
        for (place, vector) in (row + 1..).zip(numbers.chunks_exact(dim)) {
            embedding::check(vector)
                .with_context(|| format!("row {place} holds no vector of a model"))?;
        }
        let batch = Batch {
            from: batch_ids.first().copied().unwrap_or(part.from),
            ids: batch_ids,
            numbers,
            until: part.until,
        };
        // The range of a batch ends where the next one begins.
        if let Some(mut done) = waiting.take() {
            done.until = Some(batch.from);
            if visit(done).is_break() {
                return Ok(());
            }
            waiting = Some(batch);
        } else {
            waiting = Some(Batch {
                from: part.from,
                ..batch
            });
        }
        row += wanted as u64;
    }
    if let Some(done) = waiting {
        let _ = visit(done);
    }
    Ok(())
}

/// Positions of the two columns.
struct Columns {
    id: usize,
    id_nullable: bool,
    embedding: usize,
    /// Definition level of a number that is not null.
    defined: i16,
}

impl Columns {
    fn of(schema: &SchemaDescriptor) -> anyhow::Result<Self> {
        let find = |name: &str| -> anyhow::Result<(usize, &ColumnDescriptor)> {
            let mut columns = schema.columns().iter().enumerate();
            let found = columns.find(|(_, column)| column.path().parts()[0] == name);
            let (at, column) = found.with_context(|| format!("there is no column `{name}`"))?;
            Ok((at, column))
        };
        let (id, of_id) = find(ID)?;
        let (at, numbers) = find(EMBEDDING)?;
        ensure!(
            of_id.physical_type() == Type::FIXED_LEN_BYTE_ARRAY
                && of_id.type_length() == 16
                && of_id.max_rep_level() == 0,
            "column `{ID}` holds no UUIDs of 16 bytes"
        );
        ensure!(
            numbers.physical_type() == Type::FLOAT && numbers.max_rep_level() == 1,
            "column `{EMBEDDING}` holds no lists of FLOAT"
        );
        Ok(Self {
            id,
            id_nullable: of_id.max_def_level() > 0,
            embedding: at,
            defined: numbers.max_def_level(),
        })
    }
}

struct Ids {
    reader: ColumnReaderImpl<FixedLenByteArrayType>,
    nullable: bool,
}

impl Ids {
    fn new(columns: &Columns, group: &dyn RowGroupReader) -> anyhow::Result<Self> {
        Ok(Self {
            reader: get_typed_column_reader(group.get_column_reader(columns.id)?),
            nullable: columns.id_nullable,
        })
    }

    /// The next ids; fewer than `rows` if no more follow, or if there are nulls.
    fn read(&mut self, rows: usize) -> anyhow::Result<Vec<Uuid>> {
        let mut bytes: Vec<FixedLenByteArray> = Vec::with_capacity(rows);
        let mut levels = Vec::new();
        let (mut records, mut wanted) = (0, rows);
        // A call may return fewer than requested, at the end of a page.
        while wanted > 0 {
            let levels = self.nullable.then_some(&mut levels);
            let (read, _, _) = self.reader.read_records(wanted, levels, None, &mut bytes)?;
            if read == 0 {
                break;
            }
            records += read;
            wanted = rows - records;
        }
        let ids = bytes.iter().map(|bytes| Uuid::from_slice(bytes.data()));
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

struct Vectors {
    reader: ColumnReaderImpl<FloatType>,
    defined: i16,
    dim: usize,
}

impl Vectors {
    fn new(columns: &Columns, group: &dyn RowGroupReader, dim: usize) -> anyhow::Result<Self> {
        Ok(Self {
            reader: get_typed_column_reader(group.get_column_reader(columns.embedding)?),
            defined: columns.defined,
            dim,
        })
    }

    /// The next `rows` vectors, row-major; `before` rows of the file precede them.
    fn read(&mut self, rows: usize, before: u64) -> anyhow::Result<Vec<f32>> {
        let mut numbers = Vec::with_capacity(rows * self.dim);
        let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
        let mut records = 0;
        while records < rows {
            let (read, _, _) = self.reader.read_records(
                rows - records,
                Some(&mut definitions),
                Some(&mut repetitions),
                &mut numbers,
            )?;
            if read == 0 {
                break;
            }
            records += read;
        }
        let whole = repetitions
            .iter()
            .enumerate()
            .all(|(place, &level)| (level == 0) == place.is_multiple_of(self.dim));
        let defined = definitions.iter().all(|&level| level == self.defined);
        if records == rows && whole && defined && numbers.len() == rows * self.dim {
            return Ok(numbers);
        }
        bail!("{}", self.fault(&definitions, &repetitions, before))
    }

    /// Describes the first row that is not a valid vector.
    fn fault(&self, definitions: &[i16], repetitions: &[i16], before: u64) -> String {
        let mut row = before;
        let mut at = 0;
        while at < repetitions.len() {
            row += 1;
            let rest = &repetitions[at + 1..];
            let more = rest.iter().position(|&level| level == 0);
            let length = 1 + more.unwrap_or(rest.len());
            let levels = &definitions[at..at + length];
            if levels.iter().any(|&level| level != self.defined) {
                return format!("row {row}: the vector is missing, or a number of it");
            }
            if length != self.dim {
                return format!(
                    "row {row}: the vector has {length} numbers, and not {}",
                    self.dim
                );
            }
            at += length;
        }
        format!("row {}: the column `{EMBEDDING}` ends early", row + 1)
    }
}
