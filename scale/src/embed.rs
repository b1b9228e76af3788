//! Videos and users → vectors: a tower is a function that the engine applies, here or on the executors of a cluster.

mod index;

mod manifest;

mod plan;

pub(crate) use index::VideoIndex;
pub use manifest::Manifest;

use crate::engine::{Engine, EngineArguments};
use crate::model::{self, CheckedModel};
use crate::output::Output;
use crate::source::SourceArguments;
use crate::vector_file::{VectorFiles, VectorWriter};
use anyhow::{Context, ensure};
use datafusion::dataframe::DataFrame;
use futures_util::StreamExt;
use std::path::PathBuf;
use tracing::{info, warn};

/// `twotower-scale embed`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Model: `models/VERSION`, or a folder of models, whose highest version is taken
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    #[command(flatten)]
    source: SourceArguments,
    /// Folder to write, which must not exist yet
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Embed users as well, from their likes and skips
    #[arg(long)]
    users: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Writes the vectors and prints how many there are.
///
/// # Errors
/// If the model or the source cannot be read; if the engine or the disk refuses. Nothing of that name is there then.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        !arguments.source.is_database(),
        "embed reads files: write the database out with `twotower export --to FOLDER`, and name the folder"
    );
    let source = arguments.source.resolve()?;
    ensure!(
        !(arguments.users && source.pseudonyms),
        "--users: {} has numbers in place of users' ids, under which nobody would find their vector: export again with --user-ids",
        arguments.source.from
    );
    let folder = model::resolve(&arguments.model)?;
    let model = model::load(&folder, None)?;
    let output = Output::create(&arguments.to)?;
    let engine = Engine::new(&arguments.engine, &output.spill()).await?;
    let embedding = Embedding {
        engine: &engine,
        output: &output,
        model: &model,
    };
    let towers = plan::Towers::new(&folder, &model)?;

    let rows = plan::videos(&engine.context, &source, &towers).await?;
    let videos = embedding.write("videos", &rows).await?;
    info!(videos = videos.rows, "embedded the videos");
    let users = if arguments.users {
        let index = VideoIndex::write(&output, &videos)?;
        let rows = plan::users(&engine.context, &source, &towers, &index).await?;
        let users = embedding.write("users", &rows).await?;
        index.remove()?;
        info!(users = users.rows, "embedded the users");
        Some(users)
    } else {
        None
    };
    let manifest = Manifest::new(&model, videos, users);
    let folder = output.finish(manifest::NAME, &manifest)?;
    let users = manifest.users.as_ref().map_or(0, |users| users.rows);
    println!(
        "{} videos and {users} users by model {}",
        manifest.videos.rows, manifest.model_version
    );
    println!("embed of {} completed successfully", folder.display());
    Ok(())
}

struct Embedding<'a> {
    engine: &'a Engine,
    output: &'a Output,
    model: &'a CheckedModel,
}

impl Embedding<'_> {
    /// Runs a plan and writes its vectors; begins again if the cluster fails in a way that it cannot repair.
    async fn write(&self, kind: &'static str, rows: &DataFrame) -> anyhow::Result<VectorFiles> {
        let mut attempt = 1;
        loop {
            match self.attempt(kind, rows.clone()).await {
                Ok(files) => return Ok(files),
                // Files of this attempt are overwritten by the next: it writes no fewer.
                Err(error) if attempt < self.engine.attempts => {
                    warn!(
                        "attempt {attempt} of {}: {error:#}: beginning again",
                        self.engine.attempts
                    );
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&self, kind: &'static str, rows: DataFrame) -> anyhow::Result<VectorFiles> {
        let dim = self.model.model.hyperparameters.embedding_dim;
        let mut writer = VectorWriter::new(self.output.folder(), kind, dim);
        let failed = || format!("embed the {kind}");
        let mut stream = rows.execute_stream().await.with_context(failed)?;
        while let Some(batch) = stream.next().await {
            writer.push(&batch.with_context(failed)?)?;
        }
        writer.finish()
    }
}
