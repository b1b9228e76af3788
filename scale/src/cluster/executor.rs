use super::{address, external};
use crate::engine::size;
use crate::function;
use crate::memory::SortPool;
use anyhow::{Context, ensure};
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::info;

/// Seconds after which the shuffle files of a job go: longer than a client reads them.
const JOB_DATA_TTL_S: u64 = 6 * 3_600;

/// `twotower-scale executor`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Scheduler to work for
    #[arg(
        long,
        value_name = "df://HOST:PORT",
        default_value = "df://127.0.0.1:50050"
    )]
    scheduler: String,
    /// Address to listen on; the next port is used as well. Whoever reaches it can read what this process can: keep it on a
    /// private network
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], 50051)))]
    bind: SocketAddr,
    /// Host name or address by which the others reach this machine; the one of --bind unless given
    #[arg(long, value_name = "HOST")]
    external_host: Option<String>,
    /// Tasks at a time; 0 for one a core
    #[arg(long, default_value_t = 0, value_name = "N")]
    cores: usize,
    /// Memory of all tasks together, beyond which they spill to --work-dir
    #[arg(long, default_value = "2GB", value_name = "SIZE", value_parser = size)]
    memory_limit: usize,
    /// Folder for what is sorted and handed on between machines
    #[arg(long, value_name = "FOLDER")]
    work_dir: PathBuf,
    /// How often the scheduler hears of this process; several times within its --executor-timeout
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    heartbeat: u64,
    /// How long to wait for the scheduler to be there
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    connect_timeout: u16,
}

/// Runs until the process is ended.
///
/// # Errors
/// If it cannot listen, the scheduler is not there, or the folder cannot be written.
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let bind = arguments.bind;
    let (scheduler_host, scheduler_port) = address(&arguments.scheduler)?;
    let grpc_port = bind.port().checked_add(1).filter(|_| bind.port() > 0);
    ensure!(
        grpc_port.is_some(),
        "--bind {bind}: expected a port from 1 to 65534, the next one being used as well"
    );
    let work_dir = std::path::absolute(&arguments.work_dir)
        .and_then(|folder| fs::create_dir_all(&folder).map(|()| folder))
        .with_context(|| format!("create --work-dir {}", arguments.work_dir.display()))?;
    let mut functions = BallistaFunctionRegistry::default();
    for function in function::all() {
        let name = function.name().to_owned();
        functions.scalar_functions.insert(name, Arc::new(function));
    }
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(SortPool::new(arguments.memory_limit)))
        .with_temp_file_path(&work_dir)
        .with_max_temp_directory_size(u64::MAX / 2)
        .build_arc()
        .context("start the engine")?;
    let config = ExecutorProcessConfig {
        bind_host: bind.ip().to_string(),
        external_host: Some(external(arguments.external_host.as_ref(), bind)?),
        port: bind.port(),
        grpc_port: grpc_port.unwrap_or_default(),
        scheduler_host,
        scheduler_port,
        scheduler_connect_timeout_seconds: arguments.connect_timeout,
        vcores: arguments.cores,
        work_dir: work_dir.to_str().map(str::to_owned),
        job_data_ttl_seconds: JOB_DATA_TTL_S,
        job_data_clean_up_interval_seconds: 600,
        executor_heartbeat_interval_seconds: arguments.heartbeat,
        // Ballista's own pools off, ours in their place: one for all tasks.
        memory_pool_size: Some(0),
        override_runtime_producer: Some(Arc::new(move |_| Ok(runtime.clone()))),
        override_function_registry: Some(Arc::new(functions)),
        ..ExecutorProcessConfig::default()
    };
    info!("executor listens on {bind}");
    start_executor_process(Arc::new(config))
        .await
        .with_context(|| format!("run the executor on {bind}"))
}
