//! `twotower publish`, `twotower fetch` and `twotower keys …`.

use super::args::GlobalArgs;
use super::output::print;
use crate::config::{Config, Storage};
use crate::interrupt::Interrupt;
use crate::jobs::models;
use crate::jobs::storage::{
    self, FetchJob, StorageUsage, generate_key, read_signing_key, signing_key, trusted_keys,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twotower_store::Store;
use twotower_store::model_storage::signature::PublicKey;
use twotower_store::model_storage::{Fetched, Published, StorageSettings, verify_folder};

/// The server of a bucket.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Server of the bucket, https://… [default: AWS's own]
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    pub(crate) endpoint: Option<String>,

    /// Region of the bucket
    #[arg(long, value_name = "REGION", env = "AWS_REGION")]
    pub(crate) region: Option<String>,

    /// Supabase project of a bucket `supabase://…`, https://<ref>.supabase.co
    #[arg(long, value_name = "URL", env = "SUPABASE_URL")]
    pub(crate) supabase_url: Option<String>,
}

impl ServerArgs {
    /// The settings: flags override the section `[storage]`.
    fn settings(
        &self,
        url: Option<&str>,
        flag: &'static str,
        file: &Storage,
    ) -> anyhow::Result<StorageSettings> {
        Ok(StorageSettings {
            address: storage::address(url.or(file.url.as_deref()), flag)?,
            endpoint: self.endpoint.clone().or_else(|| file.endpoint.clone()),
            region: self.region.clone().or_else(|| file.region.clone()),
            supabase_url: self
                .supabase_url
                .clone()
                .or_else(|| file.supabase_url.clone()),
            deadline: Duration::from_mins(u64::from(file.deadline_minutes)),
        })
    }
}

/// Whose signatures count.
#[derive(Debug, Clone, Args)]
pub(crate) struct TrustArgs {
    /// Public key whose signature is accepted; repeatable, any one of them suffices [default: `trusted_keys` of the configuration]
    #[arg(
        long = "trusted-key",
        value_name = "KEY",
        env = "TWOTOWER_TRUSTED_KEYS",
        value_delimiter = ','
    )]
    pub(crate) trusted_keys: Vec<String>,
}

impl TrustArgs {
    fn keys(&self, file: &Storage) -> Result<Vec<PublicKey>, StorageUsage> {
        let given: Vec<String> = self
            .trusted_keys
            .iter()
            .filter(|key| !key.trim().is_empty())
            .cloned()
            .collect();
        trusted_keys(if given.is_empty() {
            &file.trusted_keys
        } else {
            &given
        })
    }
}

/// Arguments of `twotower publish`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PublishArgs {
    /// One model's folder, or a folder of models, of which the highest version is taken [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) model_path: Option<PathBuf>,

    /// Destination: `supabase://bucket/prefix`, `s3://bucket/prefix`, or a folder [default: `url` of section [storage]]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Option<String>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// File of the private key to sign with; the key itself may be in `TWOTOWER_SIGNING_KEY`
    #[arg(long, value_name = "FILE", env = "TWOTOWER_SIGNING_KEY_FILE")]
    pub(crate) signing_key: Option<PathBuf>,

    /// Publish without a signature, so that nobody can tell who made it
    #[arg(long)]
    pub(crate) unsigned: bool,

    /// Find out what is missing there, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `twotower fetch`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FetchArgs {
    /// Source: `supabase://bucket/prefix`, `s3://bucket/prefix`, or a folder [default: `url` of section [storage]]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<String>,

    /// Version to fetch [default: the newest complete one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) version: Option<i64>,

    /// Folder of models, in which the model's own folder is created [default: models]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    #[command(flatten)]
    pub(crate) trust: TrustArgs,

    /// If no key is trusted: accept a model that anybody may have made
    #[arg(long)]
    pub(crate) allow_unsigned: bool,

    /// Refuse a model whose embeddings have another dimension
    #[arg(long, value_name = "N")]
    pub(crate) expect_dim: Option<usize>,
}

/// Arguments of `twotower keys`.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What to do with keys.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeysCommand {
    /// Generate a key pair: writes the private key into a new file, prints the public one
    Generate {
        /// New file, readable by its owner alone
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Print the public key and the id of a private key
    Show {
        /// File of the private key
        file: PathBuf,
    },
    /// Check the files and the signature of a model on this machine
    Verify {
        /// One model's folder, or a folder of models, of which the highest version is taken
        folder: PathBuf,

        #[command(flatten)]
        trust: TrustArgs,
    },
}

impl KeysCommand {
    /// Name in the line on success.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Generate { .. } => "keys generate",
            Self::Show { .. } => "keys show",
            Self::Verify { .. } => "keys verify",
        }
    }
}

/// Timeout for reading the verdict of the quality gate. Publishing needs no database, and does not
/// wait for one that is away.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// Warns if the quality gate refused the model. Silent if no database knows it.
async fn warn_of_refusal(folder: &Path, config: &Config, global: &GlobalArgs) {
    let asked = async {
        let store = Store::connect_existing(&global.db_url, config.database.options()).await?;
        models::refused(&store, folder).await
    };
    match tokio::time::timeout(REGISTRY_PATIENCE, Box::pin(asked)).await {
        Ok(Ok(Some(version))) => tracing::warn!(
            "model {version}, which is published, was refused by the quality gate (`twotower models show {version}` says why): whoever \
             fetches the newest model gets it"
        ),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            tracing::debug!("what the quality gate said of the model is not known: {error:#}");
        }
        Err(_) => tracing::debug!("what the quality gate said of the model is not known in time"),
    }
}

/// `twotower publish`.
pub(super) async fn publish(
    args: &PublishArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let settings = args
        .server
        .settings(args.to.as_deref(), "--to", &config.storage)?;
    let key = if args.unsigned {
        None
    } else {
        let key = signing_key(args.signing_key.as_deref())?;
        Some(key.ok_or(StorageUsage::NoSigningKey)?)
    };
    let folder = config.training.models(args.model_path.as_ref());
    warn_of_refusal(&folder, config, global).await;
    let published =
        storage::publish(&settings, &folder, key.as_ref(), args.dry_run, interrupt).await?;
    print(global.json, &published, &describe_published(&published))
}

fn describe_published(published: &Published) -> String {
    let signed = published
        .key_id
        .as_ref()
        .map_or("unsigned".into(), |id| format!("signed by key {id}"));
    let verb = if published.dry_run {
        "would be uploaded (dry run, nothing was written)"
    } else {
        "uploaded"
    };
    format!(
        "model {} in {}: {} files {verb}, {} there already, {} bytes in all, {signed}",
        published.version,
        published.storage,
        published.uploaded.len(),
        published.already_there.len(),
        published.bytes
    )
}

/// `twotower fetch`.
pub(super) async fn fetch(
    args: &FetchArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let job = FetchJob {
        settings: args
            .server
            .settings(args.from.as_deref(), "--from", &config.storage)?,
        version: args.version,
        output_dir: config.training.models(args.output_dir.as_ref()),
        trusted: args.trust.keys(&config.storage)?,
        allow_unsigned: args.allow_unsigned,
        embedding_dim: args.expect_dim,
    };
    let fetched = storage::fetch(&job, interrupt).await?;
    print(global.json, &fetched, &describe_fetched(&fetched))
}

fn describe_fetched(fetched: &Fetched) -> String {
    let signed = fetched
        .key_id
        .as_ref()
        .map_or("whoever made it".into(), |id| format!("signed by key {id}"));
    let how = if fetched.already_there {
        "was there already, identical and whole".to_owned()
    } else {
        format!("{} bytes downloaded and checked", fetched.bytes)
    };
    format!(
        "model {} of {} in {}: {how}, {signed}",
        fetched.version,
        fetched.storage,
        fetched.path.display()
    )
}

/// `twotower keys …`.
pub(super) fn keys(
    command: &KeysCommand,
    config: &Config,
    global: &GlobalArgs,
) -> anyhow::Result<()> {
    let shown = |key: &PublicKey| {
        let text = format!("public key: {key}\nkey id: {}", key.id());
        (
            json!({ "public_key": key.to_string(), "key_id": key.id() }),
            text,
        )
    };
    let (value, text) = match command {
        KeysCommand::Generate { output } => shown(&generate_key(output)?),
        KeysCommand::Show { file } => shown(&read_signing_key(file)?.public()),
        KeysCommand::Verify { folder, trust } => {
            let (version, key_id) = verify_folder(folder, &trust.keys(&config.storage)?)?;
            let text = format!(
                "model {version} is whole and signed by key {}",
                key_id.as_deref().unwrap_or_default()
            );
            (json!({ "version": version, "key_id": key_id }), text)
        }
    };
    print(global.json, &value, &text)
}
