//! Who does this, as others will read it.

use super::now_us;
use crate::serve::rfc3339;
use std::time::{Duration, UNIX_EPOCH};
use twotower_store::LeaseHolder;

/// The user of the operating system.
pub fn operator() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(user_number)
}

/// This process, from now on.
pub(super) fn this_process() -> LeaseHolder {
    LeaseHolder {
        host: host(),
        pid: std::process::id(),
        since_us: now_us(),
    }
}

/// The machine, as others will read it.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map_or("unknown host".into(), |name| name.trim().to_owned())
}

/// The process that has started this one; 0, which is nobody's, where the system does not tell.
pub(super) fn parent() -> u32 {
    #[cfg(unix)]
    return std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    return 0;
}

/// Who publishes since when, in words.
pub fn describe_holder(holder: &LeaseHolder) -> String {
    let since = UNIX_EPOCH + Duration::from_micros(holder.since_us.max(0) as u64);
    format!(
        "process {} on {} has been publishing since {}",
        holder.pid,
        holder.host,
        rfc3339(since)
    )
}

/// `2026-11-24`, UTC.
pub(super) fn day(at_us: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_micros(at_us.max(0) as u64);
    rfc3339(at).chars().take(10).collect()
}

/// Jobs of a container or of systemd may have no name.
fn user_number() -> String {
    #[cfg(unix)]
    if let Ok(process) = std::fs::metadata("/proc/self") {
        return format!("uid {}", std::os::unix::fs::MetadataExt::uid(&process));
    }
    "unknown user".into()
}
