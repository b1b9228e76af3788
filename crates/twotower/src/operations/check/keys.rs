//! Files of keys and secrets: how old they are, and who can read them.

use super::Finding;
use super::finding::judged;
use super::round::Round;
use std::fs::{self, Metadata};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;
use twotower_core::time::DAY_US;

/// Variables that name a file of a key.
const VARIABLES: [&str; 2] = ["TWOTOWER_SIGNING_KEY_FILE", "TWOTOWER_JWT_SECRET_FILE"];

pub(super) fn examine(round: &Round<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let keys = files(round);
    if round.wants("key-age") {
        found.push(age(&keys, round.now_us, round.checks().key_days));
    }
    if round.wants("secrets-readable") {
        let mut secrets = keys;
        secrets.extend(round.place.database_file());
        found.push(readable(&secrets));
    }
    found
}

fn files(round: &Round<'_>) -> Vec<PathBuf> {
    let mut files = round.checks().key_files.clone();
    files.extend(round.place.config.run.signing_key.clone());
    for variable in VARIABLES {
        let named = std::env::var_os(variable).filter(|file| !file.is_empty());
        files.extend(named.map(PathBuf::from));
    }
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

fn readable(files: &[PathBuf]) -> Finding {
    let check = "secrets-readable";
    let shared: Vec<String> = files
        .iter()
        .filter(|file| is_shared(file))
        .map(|file| file.display().to_string())
        .collect();
    if files.is_empty() {
        return Finding::skipped(check, "no files of secrets are named", "");
    }
    let evidence = match shared.len() {
        0 => format!("{} looked at", files.len()),
        _ => format!("others than the owner can read {}", shared.join(", ")),
    };
    judged(
        check,
        shared.is_empty(),
        evidence,
        format!("chmod 600 {}", shared.join(" ")),
    )
}

#[cfg(unix)]
fn is_shared(file: &PathBuf) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_shared(_: &PathBuf) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::now_us;
    use crate::operations::check::Verdict;

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
            assert!(readable(keys).fix.starts_with("chmod 600 "));
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(readable(keys).verdict, Verdict::Passed);
        }
    }
}
