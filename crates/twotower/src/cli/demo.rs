//! `twotower demo`.

use super::args::GlobalArgs;
use super::commands::{connect_or_create, done};
use super::output::{print, put};
use super::{evaluate, update};
use crate::config::Config;
use crate::demo::GeneratorOptions;
use crate::interrupt::Interrupt;
use crate::jobs;
use crate::serve::{self, ConsoleAccess, Policy, ServeConfig, auth};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::net::SocketAddr;

/// Arguments of `twotower demo`. All else of training follows the configuration file.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Videos to generate
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) videos: usize,

    /// Users to generate
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub(crate) users: usize,

    /// Likes to generate
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub(crate) likes: usize,

    /// Seed of the generated data
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Maximum number of passes over the likes; fewer than `train` makes, so that the demo takes minutes
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) epochs: usize,

    /// Address and port of the console
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// End after the update
    #[arg(long)]
    pub(crate) no_serve: bool,
}

impl DemoArgs {
    /// Options of the generator.
    pub(crate) fn options(&self) -> GeneratorOptions {
        GeneratorOptions {
            videos: self.videos,
            users: self.users,
            likes: self.likes,
            seed: self.seed,
            ..GeneratorOptions::default()
        }
    }

    /// Configuration of the server of the console, with a key of its own.
    pub(crate) fn serve_config(&self, config: &Config) -> ServeConfig {
        ServeConfig {
            listen: self.listen,
            models: config.training.output_dir.clone(),
            auth: auth::Config::default(),
            console: ConsoleAccess::Loopback,
            limits: config.serve.limits(),
            policy: Policy::new(config),
            new_days: config.serve.new_days,
            cors: config.serve.cors(),
            metrics_listen: None,
            events: config.events.store,
            replica: None,
        }
    }
}

pub(super) async fn run(
    args: DemoArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let store = connect_or_create(global, config)
        .await
        .context("open the demo's database")?;
    let mut config = config.clone();
    config.hyperparameters.epochs = args.epochs;
    config.hyperparameters.validate()?;
    // Bound before minutes of work, so that a port in use is reported at once.
    let server = if args.no_serve {
        None
    } else {
        Some(serve::Server::bind(store.clone(), args.serve_config(&config)).await?)
    };
    let outcome = jobs::demo(&store, &config, &args.options(), interrupt).await?;
    let text = format!(
        "{}\n{}\n{}",
        evaluate::as_text(&outcome.evaluated),
        outcome.oracle,
        update::describe(&outcome.update)
    );
    let oracle = json!(outcome.oracle);
    print(
        global.json,
        &json!({ "evaluate": evaluate::as_json(&outcome.evaluated), "oracle": oracle, "update": outcome.update }),
        &text,
    )?;
    done("demo");
    let Some(server) = server.filter(|_| !interrupt.is_set()) else {
        return Ok(());
    };
    let address = server.console_address().context("the demo has a console")?;
    put(&format!("open {address} in a browser; Ctrl-C ends it\n"));
    let interrupt = interrupt.clone();
    server.serve(async move { interrupt.wait().await }).await;
    Ok(())
}
