//! `twotower migrate`.

use super::args::GlobalArgs;
use super::commands::check_schema;
use super::output::print;
use crate::config::Config;
use crate::interrupt::Interrupt;
use anyhow::Context;
use clap::Args;
use serde_json::json;
use twotower_store::{SchemaObject, Store};

/// Arguments of `twotower migrate`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MigrateArgs {
    /// Apply no migration; recreate only this table or function of ours, as the migrations do. Repeatable, or several with commas between;
    /// `twotower doctor` says where it is needed
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) again: Vec<SchemaObject>,
}

pub(super) async fn run(
    args: &MigrateArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let store = Store::connect(&global.db_url, config.database.options()).await?;
    if !args.again.is_empty() {
        return make_again(&args.again, &store, global, interrupt).await;
    }
    // Each migration is one transaction: an interrupt rolls back the current one, and those before
    // it stay.
    let applied = interrupt.cut(store.migrate()).await??;
    let text = if applied.is_empty() {
        "nothing to apply".to_owned()
    } else {
        format!("applied {}", applied.join(", "))
    };
    print(global.json, &json!({ "applied": applied }), &text)
}

async fn make_again(
    objects: &[SchemaObject],
    store: &Store,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    check_schema(store).await?;
    interrupt.cut(store.make_again(objects)).await??.context(
        "the embedded database has no functions and rights: --again is for PostgreSQL alone",
    )?;
    let names: Vec<String> = objects.iter().map(SchemaObject::to_string).collect();
    let text = format!("made again: {}", names.join(", "));
    print(global.json, &json!({ "again": objects }), &text)
}
