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

/// Jobs of a container or of systemd may have no name in their environment, or none at all.
fn user_number() -> String {
    #[cfg(unix)]
    if let Ok(process) = std::fs::metadata("/proc/self") {
        let uid = std::os::unix::fs::MetadataExt::uid(&process);
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        return user_name(uid, &users).unwrap_or_else(|| format!("uid {uid}"));
    }
    "unknown user".into()
}

/// As `/etc/passwd` has it: name, password, number, …
fn user_name(uid: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_name_that_the_system_gives_it() {
        let users = "root:x:0:0:root:/root:/bin/bash\n# a comment\n:x:7:7::/:\njobs:x:1001:1001::/srv:/bin/sh\n";
        assert_eq!(user_name(0, users).as_deref(), Some("root"));
        assert_eq!(user_name(1001, users).as_deref(), Some("jobs"));
        for nobody in [7, 1000] {
            assert_eq!(user_name(nobody, users), None);
        }
    }
}
