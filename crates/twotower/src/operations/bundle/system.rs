//! The machine, and the metrics of the server.

use crate::operations::Place;
use crate::operations::check::http::{Request, ask};
use crate::serve::CATALOGUE;
use serde_json::{Map, Value, json};
use std::time::Duration;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Versions, processors, memory, load.
pub(super) fn describe(place: &Place) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kilobytes = |name: &str| {
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| {
            line.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
    };
    let load = read("/proc/loadavg");
    let load: Vec<f64> = load
        .split(' ')
        .take(3)
        .filter_map(|number| number.parse().ok())
        .collect();
    json!({
        "twotower": env!("CARGO_PKG_VERSION"),
        "made_at": crate::time::rfc3339(std::time::SystemTime::now()),
        "system": kernel(),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "load": load,
        "memory_total_kb": kilobytes("MemTotal"),
        "memory_available_kb": kilobytes("MemAvailable"),
        "swap_free_kb": kilobytes("SwapFree"),
        "control_group_memory_max": read("/sys/fs/cgroup/memory.max").trim(),
        "free_mb": free(place),
    })
}

/// The kernel's version, without the machine's name.
#[cfg(unix)]
fn kernel() -> Value {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    json!({ "name": text(name.sysname()), "release": text(name.release()), "machine": text(name.machine()) })
}

#[cfg(not(unix))]
fn kernel() -> Value {
    json!({ "name": std::env::consts::OS, "machine": std::env::consts::ARCH })
}

#[cfg(unix)]
fn free(place: &Place) -> Value {
    let megabytes = |folder: &std::path::Path| {
        let system = rustix::fs::statvfs(folder).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize) >> 20)
    };
    let mut free = Map::new();
    free.insert(
        "models".into(),
        json!(megabytes(&place.config.training.output_dir)),
    );
    free.insert(
        "state".into(),
        json!(megabytes(&place.config.run.state_dir)),
    );
    Value::Object(free)
}

#[cfg(not(unix))]
fn free(_: &Place) -> Value {
    Value::Null
}

/// Metrics of the server, if it is configured and answers: only those that we know.
pub(super) async fn metrics(place: &Place) -> Option<String> {
    let url = place.config.checks.server_metrics.clone()?;
    let asked =
        tokio::task::spawn_blocking(move || ask(&url, &Request::Get(None), REQUEST_TIMEOUT));
    let text = asked.await.ok()?.ok()?.body;
    let known = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        CATALOGUE.iter().any(|metric| name.starts_with(metric.name))
    };
    let mut told = String::new();
    for line in text.lines().filter(known) {
        told.push_str(line);
        told.push('\n');
    }
    Some(told)
}
