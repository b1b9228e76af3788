//! Files of keys and secrets: their age, and who can read them.

use super::Finding;
use super::finding::judged;
use super::round::Round;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use twotower_core::time::DAY_US;

/// Variables that name a key file.
const OF_KEYS: [&str; 2] = ["TWOTOWER_SIGNING_KEY_FILE", "TWOTOWER_JWT_SECRET_FILE"];

/// Variables that name a file with another secret. Addresses do not grow old as keys do.
const OF_SECRETS: [&str; 5] = [
    "TWOTOWER_SMTP_URL_FILE",
    "TWOTOWER_ALERT_WEBHOOK_FILE",
    "TWOTOWER_ALERT_SLACK_FILE",
    "TWOTOWER_ALERT_HEARTBEAT_FILE",
    "TWOTOWER_PROBE_TOKEN_FILE",
];

/// Names the file of variables that `deploy/cron/job.sh` has read. Its group may read it: in the
/// Debian package it belongs to root, and the group is that of the jobs.
const OF_VARIABLES: &str = "TWOTOWER_ENV";

pub(super) fn examine(round: &Round<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let keys = files(round);
    if round.wants("key-age") {
        found.push(age(&keys, round.now_us, round.checks().key_days));
    }
    if round.wants("secrets-readable") {
        let mut secrets = keys;
        secrets.extend(OF_SECRETS.iter().filter_map(|variable| named(variable)));
        secrets.extend(round.place.database_file());
        found.push(readable(&secrets, named(OF_VARIABLES).as_ref()));
    }
    found
}

/// The file that a variable names, without blanks around it, as addresses of alerts are read.
fn named(variable: &str) -> Option<PathBuf> {
    let file = std::env::var_os(variable).filter(|file| !file.is_empty())?;
    let file = file
        .to_str()
        .map_or(file.clone(), |file| file.trim().into());
    Some(PathBuf::from(file))
}

fn files(round: &Round<'_>) -> Vec<PathBuf> {
    let mut files = round.checks().key_files.clone();
    files.extend(round.place.config.run.signing_key.clone());
    files.extend(OF_KEYS.iter().filter_map(|variable| named(variable)));
    files.sort();
    files.dedup();
    files
}

fn age(files: &[PathBuf], now_us: i64, bound_days: u32) -> Finding {
    let check = "key-age";
    if files.is_empty() {
        let fix = "name them in `key_files` of section [checks]; of keys in the environment nobody knows the age";
        return Finding::skipped(check, "no files of keys are named", fix);
    }
    let mut old = Vec::new();
    for file in files {
        let written_us = match fs::metadata(file) {
            Ok(metadata) => written_us(&metadata),
            Err(error) => {
                let evidence = format!("{}: {error}", file.display());
                return Finding::failed(
                    check,
                    evidence,
                    "correct the path, or give the user of the jobs the right to read it",
                );
            }
        };
        let days = (now_us - written_us) / DAY_US;
        if days > i64::from(bound_days) {
            old.push(format!("{} is {days} days old", file.display()));
        }
    }
    let evidence = match old.len() {
        0 => format!("{} of them, none older than {bound_days} days", files.len()),
        _ => format!("{}; {bound_days} days are expected at most", old.join(", ")),
    };
    let fix = "`twotower keys generate --output NEW`, and rotate as docs/configuration.md says under keys; secrets of tokens at their issuer";
    judged(check, old.is_empty(), evidence, fix)
}

fn written_us(metadata: &Metadata) -> i64 {
    let written = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    written.map_or(0, |at| at.as_micros() as i64)
}

/// `files` are for their owner alone, `variables` for its owner and its group.
fn readable(files: &[PathBuf], variables: Option<&PathBuf>) -> Finding {
    let check = "secrets-readable";
    let looked_at = files.len() + usize::from(variables.is_some());
    if looked_at == 0 {
        return Finding::skipped(check, "no files of secrets are named", "");
    }
    let shown = |files: Vec<&PathBuf>| -> Vec<String> {
        let shown = files.into_iter().map(|file| file.display().to_string());
        shown.collect()
    };
    let of_owners = files.iter().filter(|file| is_open(file, 0o077)).collect();
    let of_owners = shown(of_owners);
    let of_groups = variables.into_iter().filter(|file| is_open(file, 0o007));
    let of_groups = shown(of_groups.collect());
    let open = [of_owners.clone(), of_groups.clone()].concat();
    if open.is_empty() {
        return Finding::passed(check, format!("{looked_at} looked at"));
    }
    let fix: Vec<String> = [("600", of_owners), ("640", of_groups)]
        .into_iter()
        .filter(|(_, files)| !files.is_empty())
        .map(|(mode, files)| format!("chmod {mode} {}", files.join(" ")))
        .collect();
    let evidence = format!("others than the owner can read {}", open.join(", "));
    Finding::failed(check, evidence, fix.join("; "))
}

/// Whether any of the bits of `mask` is set.
#[cfg(unix)]
fn is_open(file: &Path, mask: u32) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & mask != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path, _: u32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;
    use crate::time::now_us;

    #[test]
    fn old_keys_and_open_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("signing.key");
        let keys = std::slice::from_ref(&key);
        assert_eq!(age(keys, now_us(), 180).verdict, Verdict::Failed);
        fs::write(&key, "x").unwrap();
        assert_eq!(age(keys, now_us(), 180).verdict, Verdict::Passed);
        let old = age(keys, now_us() + 181 * DAY_US, 180);
        assert_eq!(old.verdict, Verdict::Failed);
        assert!(
            old.evidence.contains("signing.key is 18"),
            "{}",
            old.evidence
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(readable(keys, None).fix.starts_with("chmod 600 "));
            assert_eq!(readable(&[], Some(&key)).verdict, Verdict::Passed);
            fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
            let both = readable(keys, Some(&key)).fix;
            assert!(both.contains("; chmod 640 "), "{both}");
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(readable(keys, Some(&key)).verdict, Verdict::Passed);
        }
    }
}
