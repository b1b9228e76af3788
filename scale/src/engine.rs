//! The engine that runs plans: DataFusion in this process, or a Ballista cluster.

use crate::function;
use crate::memory::SortPool;
use anyhow::Context;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

/// Most bytes that are sorted in place.
const MAX_RUN_BYTES: usize = 16 << 20;

/// Which engine, and how much it may take.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EngineArguments {
    /// Scheduler of a Ballista cluster whose executors see the same files; without it everything runs in this process
    #[arg(long, value_name = "df://HOST:PORT")]
    pub scheduler: Option<String>,
    /// Memory of the sort in this process, beyond which it spills to disk beside --to; executors have their own
    #[arg(long, default_value = "2GB", value_name = "SIZE", value_parser = size)]
    pub memory_limit: usize,
    /// Threads of the engine in this process; 0 for one a core
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

/// Where plans run.
pub(crate) struct Engine {
    /// DataFusion in this process.
    pub(crate) here: SessionContext,
    /// The engine that was asked for.
    pub(crate) context: SessionContext,
    /// How often a plan is tried: an executor can be lost at an instant at which the cluster cannot repair it.
    pub(crate) attempts: usize,
}

impl Engine {
    /// `spill` is a folder that exists.
    pub(crate) async fn new(arguments: &EngineArguments, spill: &Path) -> anyhow::Result<Self> {
        let here = local(arguments, spill)?;
        match &arguments.scheduler {
            None => Ok(Self {
                context: here.clone(),
                here,
                attempts: 1,
            }),
            #[cfg(feature = "ballista")]
            Some(scheduler) => Ok(Self {
                context: crate::cluster::connect(scheduler).await?,
                here,
                attempts: 4,
            }),
            #[cfg(not(feature = "ballista"))]
            Some(_) => {
                anyhow::bail!("--scheduler: this program was built without the feature `ballista`")
            }
        }
    }
}

fn local(arguments: &EngineArguments, spill: &Path) -> anyhow::Result<SessionContext> {
    let threads = match arguments.threads {
        0 => available_parallelism().map_or(1, Into::into),
        threads => threads,
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(SortPool::new(arguments.memory_limit)))
        .with_temp_file_path(spill)
        // The disk says when it is full; a limit of our own would only say so earlier.
        .with_max_temp_directory_size(u64::MAX / 2)
        .build_arc()
        .context("start the engine")?;
    // Large runs that are sorted in place and then merged are few; memory to merge what was spilled is set aside.
    let run = (arguments.memory_limit / 64).min(MAX_RUN_BYTES);
    let config = reading(SessionConfig::new())
        .with_target_partitions(threads)
        .with_sort_in_place_threshold_bytes(run)
        .with_sort_spill_reservation_bytes(arguments.memory_limit / 64);
    let context = SessionContext::new_with_config_rt(config, runtime);
    for function in function::all() {
        context.register_udf(function);
    }
    Ok(context)
}

/// How files are read, wherever plans run.
pub(crate) fn reading(mut config: SessionConfig) -> SessionConfig {
    // Times as Spark wrote them once (INT96): in nanoseconds, those after 2262 would pass for others.
    config.options_mut().execution.parquet.coerce_int96 = Some("us".to_owned());
    config
}

/// A size such as 512MB, 2GB or 2GiB, in bytes.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: usize = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err("expected a size such as 512MB, 2GB or 2GiB".to_owned()),
    };
    let number: usize = number
        .parse()
        .map_err(|_| "expected a size such as 512MB, 2GB or 2GiB".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|&bytes| bytes >= 64_000_000)
        .ok_or_else(|| "expected at least 64MB, with which a sort can work".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        assert_eq!(size("512 MiB"), Ok(512 << 20));
        assert_eq!(size("64000000"), Ok(64_000_000));
        for wrong in ["", "GB", "2TB", "1MB", "-2GB", "99999999999999GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
