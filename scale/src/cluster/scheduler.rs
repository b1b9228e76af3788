use super::{SCHEDULER_PORT, external};
use crate::function;
use anyhow::Context;
use ballista_core::utils::default_session_builder;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use datafusion::common::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::prelude::SessionConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::info;

/// `twotower-scale scheduler`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Address to listen on. Whoever reaches it can read what the executors can: keep it on a private network
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], SCHEDULER_PORT)))]
    bind: SocketAddr,
    /// Host name or address by which executors and clients reach this machine; the one of --bind unless given
    #[arg(long, value_name = "HOST")]
    external_host: Option<String>,
    /// An executor that has not been heard of for so long is taken for dead, and its work is done again elsewhere
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    executor_timeout: u64,
    /// How often a task or stage may fail before the job does
    #[arg(long, default_value_t = 4, value_name = "N")]
    max_failures: usize,
}

/// Runs until the process is ended.
///
/// # Errors
/// If it cannot listen.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bind = arguments.bind;
    let config = SchedulerConfig {
        bind_host: bind.ip().to_string(),
        bind_port: bind.port(),
        external_host: external(arguments.external_host.as_ref(), bind)?,
        executor_timeout_seconds: arguments.executor_timeout,
        // Looked for twice in the time that it takes to be late.
        expire_dead_executor_interval_seconds: (arguments.executor_timeout / 2).clamp(1, 15),
        no_executors_grace_period_seconds: 2 * arguments.executor_timeout,
        task_max_failures: arguments.max_failures,
        stage_max_failures: arguments.max_failures,
        override_session_builder: Some(Arc::new(session)),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config)
        .await
        .context("start the scheduler")?;
    info!("scheduler listens on {bind}");
    start_server(cluster, bind, Arc::new(config))
        .await
        .with_context(|| format!("run the scheduler on {bind}"))
}

/// Ballista's session with our functions.
fn session(config: SessionConfig) -> Result<SessionState> {
    let mut state = default_session_builder(config)?;
    for function in function::all() {
        state.register_udf(Arc::new(function))?;
    }
    Ok(state)
}
