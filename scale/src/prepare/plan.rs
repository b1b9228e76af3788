use crate::function::{LIKE, SKIP, id, moment, row};
use crate::source::{Files, Source, Table};
use anyhow::Context;
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::{SessionContext, col, lit};

/// All likes and skips as `user`, `kind`, `at`, `video`, in no order: ids are 16 bytes, times microseconds since 1970.
pub(crate) async fn interactions(
    context: &SessionContext,
    source: &Source,
) -> anyhow::Result<DataFrame> {
    let likes = of_kind(context, &source.likes, "likes", LIKE).await?;
    match &source.skips {
        None => Ok(likes),
        Some(skips) => likes
            .union(of_kind(context, skips, "skips", SKIP).await?)
            .context("put likes and skips together"),
    }
}

async fn of_kind(
    context: &SessionContext,
    files: &Files,
    name: &'static str,
    kind: i8,
) -> anyhow::Result<DataFrame> {
    let table = Table::open(context, files, name).await?;
    let in_errors = |column: &str| lit(format!("{column} of {name}"));
    let columns = vec![
        id().call(vec![table.needed("user_id")?, in_errors("user_id")])
            .alias("user"),
        lit(kind).alias("kind"),
        moment()
            .call(vec![table.needed("created_at")?, in_errors("created_at")])
            .alias("at"),
        id().call(vec![table.needed("video_id")?, in_errors("video_id")])
            .alias("video"),
    ];
    table
        .rows
        .select(columns)
        .with_context(|| format!("read the {name}"))
}

/// The rows of each kind in the order (user, kind, at, video), as one column, see [`row`].
///
/// Kinds are put together where the rows are packed: where a task of a cluster gets no part of one side of a union, sorts
/// below it do not stand that (an assertion of DataFusion 55, in builds that have assertions).
pub(super) async fn sorted(
    context: &SessionContext,
    source: &Source,
) -> anyhow::Result<Vec<DataFrame>> {
    let mut kinds = vec![of_kind(context, &source.likes, "likes", LIKE).await?];
    if let Some(skips) = &source.skips {
        kinds.push(of_kind(context, skips, "skips", SKIP).await?);
    }
    let columns = ["user", "kind", "at", "video"].map(col).to_vec();
    let sort = |rows: DataFrame| {
        rows.select(vec![row().call(columns.clone()).alias("row")])?
            .sort(vec![col("row").sort(true, false)])
    };
    let sorted: Result<_, DataFusionError> = kinds.into_iter().map(sort).collect();
    sorted.context("plan the sort")
}
