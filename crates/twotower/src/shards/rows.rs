//! Reads the rows of a shard, user by user.

use super::manifest::Manifest;
use anyhow::{Context, bail, ensure};
use parquet::basic::{Repetition, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use std::fs::File;
use std::path::Path;
use twotower_core::time::SECOND_US;

/// Number of rows decoded at a time.
const ROWS: usize = 1 << 16;

/// Columns of a shard, in order.
const COLUMNS: [(&str, Type); 4] = [
    ("user", Type::INT32),
    ("kind", Type::INT32),
    ("video", Type::INT32),
    ("at", Type::INT64),
];

/// A like or a skip of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Microseconds since 1970.
    pub(super) at_us: i64,
    /// Position in the catalogue.
    pub(super) video: u32,
}

/// One user's rows, each kind oldest first.
#[derive(Debug, Default)]
pub(super) struct UserRows {
    /// Rank of the user's id.
    pub(super) user: u32,
    pub(super) likes: Vec<Row>,
    pub(super) skips: Vec<Row>,
}

/// Refuses files whose number of rows differs from the manifest, before memory is allocated for
/// them.
pub(super) fn check_counts(folder: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    for file in &manifest.files {
        let path = folder.join(&file.name);
        let opened = File::open(&path).with_context(|| format!("read {}", path.display()))?;
        let rows = match SerializedFileReader::new(opened) {
            Ok(reader) => reader.metadata().file_metadata().num_rows(),
            // If it is damaged, its checksum tells so.
            Err(error) => {
                file.check(&path)?;
                return Err(error).with_context(|| format!("read {}", path.display()));
            }
        };
        check_count(&path, file.rows, u64::try_from(rows).unwrap_or(0))?;
    }
    Ok(())
}

/// The later of two rows of one video, if there are two. `videos` is a buffer.
fn repeated(rows: &[Row], videos: &mut Vec<u32>) -> Option<Row> {
    videos.clear();
    videos.extend(rows.iter().map(|row| row.video));
    videos.sort_unstable();
    let twice = videos.windows(2).find(|pair| pair[0] == pair[1])?[0];
    rows.iter().rfind(|row| row.video == twice).copied()
}

fn check_count(path: &Path, expected: u64, found: u64) -> anyhow::Result<()> {
    ensure!(
        found == expected,
        "{}: {found} rows, and the manifest says {expected}: prepare the shards again",
        path.display()
    );
    Ok(())
}

/// Calls `visit` with every user of the folder, ascending. Validates the rows: no gaps between
/// users, rows in order, each video at most once per user and kind, known videos, times in range.
pub(super) fn each_user(
    folder: &Path,
    manifest: &Manifest,
    mut visit: impl FnMut(&UserRows) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rows = UserRows::default();
    let (mut likes, mut skips) = (0, 0);
    let mut videos = Vec::new();
    let mut flush = |rows: &mut UserRows| {
        for (kind, rows_of_kind) in [(0, &rows.likes), (1, &rows.skips)] {
            if let Some(Row { at_us, video }) = repeated(rows_of_kind, &mut videos) {
                let user = rows.user;
                bail!(
                    "{}: (user, kind, video, at) = ({user}, {kind}, {video}, {at_us}) does not belong here, after another row \
                     of this user, kind and video; prepare the shards again",
                    folder.display()
                );
            }
        }
        likes += rows.likes.len() as u64;
        skips += rows.skips.len() as u64;
        visit(rows)?;
        rows.likes.clear();
        rows.skips.clear();
        rows.user += 1;
        anyhow::Ok(())
    };
    for file in &manifest.files {
        let path = folder.join(&file.name);
        file.check(&path)?;
        let mut number = 0;
        each_row(&path, |[user, kind, video], at_us| {
            number += 1;
            let row = Row { at_us, video };
            let begins = rows.likes.is_empty() && rows.skips.is_empty();
            if user == rows.user + 1 && !begins {
                flush(&mut rows)?;
            }
            let last = match kind {
                0 if rows.skips.is_empty() => rows.likes.last(),
                1 => rows.skips.last(),
                _ => Some(&row),
            };
            let in_order = user == rows.user && last.is_none_or(|last| *last < row);
            let known = u64::from(video) < manifest.videos
                && (0..=i64::from(u32::MAX)).contains(&at_us.div_euclid(SECOND_US));
            ensure!(
                in_order && known,
                "{}, row {number}: (user, kind, video, at) = ({user}, {kind}, {video}, {at_us}) does not belong here, after user {}; \
                 prepare the shards again",
                path.display(),
                rows.user
            );
            match kind {
                0 => rows.likes.push(row),
                _ => rows.skips.push(row),
            }
            Ok(())
        })?;
        check_count(&path, file.rows, number)?;
    }
    if !rows.likes.is_empty() || !rows.skips.is_empty() {
        flush(&mut rows)?;
    }
    let found = (u64::from(rows.user), likes, skips);
    let expected = (manifest.users, manifest.likes, manifest.skips);
    ensure!(
        found == expected,
        "{}: (users, likes, skips) are {found:?}, and the manifest says {expected:?}: prepare the shards again",
        folder.display()
    );
    Ok(())
}

/// Calls `visit` with (user, kind, video) and the time of every row.
fn each_row(
    path: &Path,
    mut visit: impl FnMut([u32; 3], i64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let context = || format!("read {}", path.display());
    let reader = SerializedFileReader::new(File::open(path).with_context(context)?);
    let reader = reader.with_context(context)?;
    check_columns(path, &reader)?;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).with_context(context)?;
        let mut small = Vec::with_capacity(3);
        for column in 0..3 {
            small.push(Column::<Int32Type>::open(&*group, column).with_context(context)?);
        }
        let mut at = Column::<Int64Type>::open(&*group, 3).with_context(context)?;
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        while left > 0 {
            let rows = left.min(ROWS);
            for column in &mut small {
                column.fill(rows).with_context(context)?;
            }
            at.fill(rows).with_context(context)?;
            for row in 0..rows {
                // Unsigned numbers in Parquet's signed type.
                let numbers = [0, 1, 2].map(|column: usize| small[column].values[row] as u32);
                visit(numbers, at.values[row])?;
            }
            left -= rows;
        }
    }
    Ok(())
}

fn check_columns(path: &Path, reader: &SerializedFileReader<File>) -> anyhow::Result<()> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let fits = schema.num_columns() == COLUMNS.len()
        && schema
            .columns()
            .iter()
            .zip(COLUMNS)
            .all(|(column, (name, kind))| {
                column.name() == name
                    && column.physical_type() == kind
                    && column.self_type().get_basic_info().repetition() == Repetition::REQUIRED
            });
    ensure!(
        fits,
        "{}: this is no shard, whose columns are `user`, `kind` and `video` of 32 bits and `at` of 64 bits, none of them optional",
        path.display()
    );
    Ok(())
}

struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
}

impl<T: DataType> Column<T> {
    fn open(group: &dyn RowGroupReader, column: usize) -> anyhow::Result<Self> {
        let reader: ColumnReader = group.get_column_reader(column)?;
        Ok(Self {
            reader: get_typed_column_reader(reader),
            values: Vec::with_capacity(ROWS),
        })
    }

    fn fill(&mut self, rows: usize) -> anyhow::Result<()> {
        self.values.clear();
        let (records, values, _) = self
            .reader
            .read_records(rows, None, None, &mut self.values)?;
        if (records, values) != (rows, rows) {
            bail!("a column ends after {values} of {rows} rows");
        }
        Ok(())
    }
}
