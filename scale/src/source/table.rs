//! The rows of a table's files, and its columns.

use super::Files;
use anyhow::{Context, ensure};
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::options::{ParquetReadOptions, ReadOptions};
use datafusion::prelude::{Expr, SessionContext, ident};
use futures_util::future::try_join_all;
use std::sync::Arc;
use url::Url;

/// How many files are asked for their columns at a time.
const ASKED: usize = 32;

/// One table of Parquet files, and its columns by our names for them.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) rows: DataFrame,
    /// What it is called in errors.
    pub(crate) name: &'static str,
}

impl Table {
    pub(crate) async fn open(
        context: &SessionContext,
        files: &Files,
        name: &'static str,
    ) -> anyhow::Result<Self> {
        let failed = || format!("read the {name} of {files}");
        let schema = Box::pin(schema(context, files))
            .await
            .with_context(failed)?;
        ensure!(
            !schema.fields().is_empty(),
            "{files} has no Parquet file with columns (names end in .parquet): correct the path of the {name}"
        );
        let options = ParquetReadOptions::default().schema(&schema);
        let rows = context
            .read_parquet(files.places.clone(), options)
            .await
            .with_context(failed)?;
        Ok(Self { rows, name })
    }

    /// The column of this name. Letter case counts only if two differ in nothing else.
    pub(crate) fn column(&self, name: &str) -> Option<Expr> {
        let fields = self.rows.schema().fields();
        let exact = fields.iter().find(|field| field.name() == name);
        let found = exact.or_else(|| {
            let mut alike = fields
                .iter()
                .filter(|f| f.name().eq_ignore_ascii_case(name));
            let first = alike.next();
            first.filter(|_| alike.next().is_none())
        });
        found.map(|field| ident(field.name()))
    }

    /// As [`Table::column`], for one that must be there.
    pub(crate) fn needed(&self, name: &str) -> anyhow::Result<Expr> {
        self.column(name).with_context(|| {
            let fields = self.rows.schema().fields().iter();
            let names: Vec<String> = fields.map(|field| format!("`{}`", field.name())).collect();
            format!(
                "{} need a column `{name}`, and the files have {}: rename the column where the files are written",
                self.name,
                names.join(", ")
            )
        })
    }
}

/// The columns of all files. The engine by itself would take those of the first place, and leave out what only others have.
async fn schema(context: &SessionContext, files: &Files) -> anyhow::Result<Schema> {
    let options = ParquetReadOptions::default()
        .to_listing_options(&context.copied_config(), context.copied_table_options());
    let state = context.state();
    let mut found: Vec<SchemaRef> = Vec::with_capacity(files.places.len());
    for places in files.places.chunks(ASKED) {
        let asked = places.iter().map(|place| {
            let (options, state) = (&options, &state);
            async move {
                let url = ListingTableUrl::parse(place)?;
                options.infer_schema(state, &url).await
            }
        });
        found.extend(try_join_all(asked).await?);
    }
    let mut merged = Schema::empty();
    for (index, columns) in found.iter().enumerate() {
        let columns = columns.as_ref();
        merged = Schema::try_merge([merged, columns.clone()]).with_context(|| {
            let other = found[..index].iter().position(|other| {
                Schema::try_merge([other.as_ref().clone(), columns.clone()]).is_err()
            });
            format!(
                "{} and {} have a column of the same name and of different types: write it alike in both",
                shown(&files.places[other.unwrap_or_default()]),
                shown(&files.places[index])
            )
        })?;
    }
    // Null in the rows of a file that lacks it, even if it is never null where it is. Files of 0 bytes have no rows.
    let is_lacked = |field: &Field| {
        found.iter().any(|columns| {
            !columns.fields().is_empty() && columns.column_with_name(field.name()).is_none()
        })
    };
    let fields: Vec<FieldRef> = merged
        .fields()
        .iter()
        .map(|field| {
            if is_lacked(field) {
                Arc::new(field.as_ref().clone().with_nullable(true))
            } else {
                field.clone()
            }
        })
        .collect();
    Ok(Schema::new_with_metadata(fields, merged.metadata))
}

/// A place for people.
fn shown(place: &str) -> String {
    let file = Url::parse(place)
        .ok()
        .and_then(|url| url.to_file_path().ok());
    file.map_or_else(|| place.to_owned(), |file| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
    use datafusion::arrow::datatypes::DataType;
    use datafusion::parquet::arrow::ArrowWriter;
    use std::fs;
    use std::path::Path;

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
        // Without nulls a column is one that may hold none.
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[tokio::test]
    async fn a_folder_has_the_columns_of_all_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let numbers = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2])) };
        let texts = || -> ArrayRef { Arc::new(StringArray::from(vec!["a", "b"])) };
        let path = |name: &str| folder.path().join(name);
        fs::write(path("0.parquet"), "").unwrap();
        write(&path("1.parquet"), vec![("id", numbers())]);
        write(
            &path("2.parquet"),
            vec![("tags", texts()), ("id", numbers())],
        );
        let context = SessionContext::new();
        let open = async || {
            let files = Files::named(folder.path().to_str().unwrap()).unwrap();
            Table::open(&context, &files, "videos").await
        };
        let table = open().await.unwrap();
        let fields = table.rows.schema().fields();
        let found: Vec<_> = fields
            .iter()
            .map(|field| (field.name().as_str(), field.is_nullable()))
            .collect();
        assert_eq!(found, [("id", false), ("tags", true)]);
        assert_eq!(fields[0].data_type(), &DataType::Int64);
        let tags = table.rows.select(vec![ident("tags")]).unwrap();
        let batches = tags.collect().await.unwrap();
        let nulls: usize = batches.iter().map(|b| b.column(0).null_count()).sum();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!((nulls, rows), (2, 4));

        write(&path("3.parquet"), vec![("tags", numbers())]);
        let error = format!("{:#}", open().await.unwrap_err());
        assert!(
            error.contains("/2.parquet and /") && error.contains("/3.parquet have a column"),
            "{error}"
        );
        assert!(error.contains("'tags'"), "{error}");
        fs::remove_file(path("1.parquet")).unwrap();
        fs::remove_file(path("2.parquet")).unwrap();
        fs::remove_file(path("3.parquet")).unwrap();
        let error = open().await.unwrap_err().to_string();
        assert!(error.contains("no Parquet file with columns"), "{error}");
    }
}
