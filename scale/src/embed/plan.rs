use super::VideoIndex;
use crate::function::{event, id, item_tower, user_tower};
use crate::model::CheckedModel;
use crate::prepare::interactions;
use crate::source::{Source, Table};
use crate::video::COLUMNS;
use anyhow::Context;
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::array_agg;
use datafusion::prelude::{Expr, SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use std::path::Path;

/// The constants by which an executor knows the model.
pub(super) struct Towers {
    folder: String,
    manifest_file_sha256: String,
}

impl Towers {
    pub(super) fn new(folder: &Path, model: &CheckedModel) -> anyhow::Result<Self> {
        let folder = folder.to_str();
        Ok(Self {
            folder: folder.context("the model's path is not UTF-8")?.to_owned(),
            manifest_file_sha256: model.manifest_file_sha256.clone(),
        })
    }

    fn arguments(&self) -> Vec<Expr> {
        vec![lit(&self.folder), lit(&self.manifest_file_sha256)]
    }
}

/// `id` and `embedding` of all videos, ascending by id.
pub(super) async fn videos(
    context: &SessionContext,
    source: &Source,
    towers: &Towers,
) -> anyhow::Result<DataFrame> {
    let table = Table::open(context, &source.videos, "videos").await?;
    let key = table.needed("id")?;
    let mut arguments = towers.arguments();
    arguments.push(key.clone());
    for name in &COLUMNS[1..] {
        let column = table.column(name).unwrap_or_else(|| lit(ScalarValue::Null));
        arguments.push(column);
    }
    let columns = vec![
        id().call(vec![key, lit("id of videos")]).alias("id"),
        item_tower().call(arguments).alias("embedding"),
    ];
    by_id(table.rows.select(columns).context("plan the videos")?)
}

/// `id` and `embedding` of all users who have liked or skipped a video, ascending by id; null where no video of theirs is
/// known.
pub(super) async fn users(
    context: &SessionContext,
    source: &Source,
    towers: &Towers,
    index: &VideoIndex,
) -> anyhow::Result<DataFrame> {
    let events = event().call(vec![col("kind"), col("at"), col("video")]);
    let path = index
        .path
        .to_str()
        .context("the path of --to is not UTF-8")?;
    let mut arguments = towers.arguments();
    arguments.extend([lit(path), lit(&index.sha256), col("events")]);
    let rows = interactions(context, source)
        .await?
        .select(vec![col("user"), events.alias("event")])
        .and_then(|rows| {
            // The order within a list differs from run to run: the tower sorts.
            let lists = array_agg(col("event")).alias("events");
            rows.aggregate(vec![col("user")], vec![lists])
        })
        .and_then(|rows| {
            let embedding = user_tower().call(arguments).alias("embedding");
            rows.select(vec![col("user").alias("id"), embedding])
        })
        .context("plan the users")?;
    by_id(rows)
}

fn by_id(rows: DataFrame) -> anyhow::Result<DataFrame> {
    rows.sort(vec![col("id").sort(true, false)])
        .context("plan the sort")
}
