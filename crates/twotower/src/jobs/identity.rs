//! Names for the operator, the machine and the process, as records and messages show them.

use crate::time::{now_us, rfc3339_us};
use twotower_store::LeaseHolder;

/// The user of the operating system.
pub(crate) fn operator() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(user_number)
}

/// This process as a lease holder, from now on.
pub(super) fn this_process() -> LeaseHolder {
    LeaseHolder {
        host: host(),
        pid: std::process::id(),
        since_us: now_us(),
    }
}

/// Host name of the machine.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    name.or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map_or("unknown host".into(), |name| name.trim().to_owned())
}

/// Id of the parent process; 0, which no process has, if the system does not say.
pub(super) fn parent() -> u32 {
    #[cfg(unix)]
    return std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    return 0;
}

/// Describes who has been publishing since when.
pub(crate) fn describe_holder(holder: &LeaseHolder) -> String {
    format!(
        "process {} on {} has been publishing since {}",
        holder.pid,
        holder.host,
        rfc3339_us(holder.since_us)
    )
}

/// The user by number, because jobs in a container or under systemd may have no user name in their
/// environment.
fn user_number() -> String {
    #[cfg(unix)]
    if let Ok(process) = std::fs::metadata("/proc/self") {
        let uid = std::os::unix::fs::MetadataExt::uid(&process);
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        return user_name(uid, &users).unwrap_or_else(|| format!("uid {uid}"));
    }
    "unknown user".into()
}

/// Looks up a name in the format of `/etc/passwd`: name, password, number, …
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
