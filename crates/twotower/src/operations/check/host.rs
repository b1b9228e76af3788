//! The machine that runs the jobs: disk space, memory, log files.

use super::Finding;
use super::finding::judged;
use super::round::{Round, TimedOut};
use crate::operations::Place;
use std::fs;
use std::path::{Path, PathBuf};
use tokio::sync::Semaphore;

const MB: u64 = 1 << 20;

/// Lets one thread at a time query file systems: a hung file system blocks the thread that queries
/// it, and must not block another one every few minutes.
static TURN: Semaphore = Semaphore::const_new(1);

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let checks = round.checks();
    if round.wants("disk-space") {
        found.push(match free(round).await {
            Ok(free) => judge_space(&free, checks.disk_mb),
            Err(_) => hangs("disk-space"),
        });
    }
    if round.wants("memory") {
        let read = |path: &str| fs::read_to_string(path).ok();
        let group = |name: &str| read(&format!("/sys/fs/cgroup/{name}"));
        let group = Group {
            limit: group("memory.max"),
            current: group("memory.current"),
            stat: group("memory.stat"),
        };
        let available = available_bytes(read("/proc/meminfo").as_deref(), &group);
        found.push(judge_memory(available, checks.memory_mb));
    }
    if round.wants("logs") {
        found.extend(logs(round).await);
    }
    found
}

fn hangs(check: &'static str) -> Finding {
    Finding::failed(
        check,
        "the file system does not answer in time",
        "look at the mounts: `findmnt`, `dmesg`",
    )
}

/// Folders that take much data: models, state, backups if any are scheduled, the embedded database.
fn folders(place: &Place) -> Vec<PathBuf> {
    let config = &place.config;
    let mut folders = vec![
        config.training.output_dir.clone(),
        config.run.state_dir.clone(),
    ];
    if !config.schedule.backup.is_empty() {
        folders.push(config.backup.folder.clone());
    }
    let database = place.database_file();
    let database = database.and_then(|file| std::path::absolute(file).ok());
    folders.extend(database.and_then(|file| file.parent().map(Path::to_owned)));
    folders
}

/// Free space of these folders. If a network file system hangs, its thread is abandoned while it
/// holds [`TURN`], and later calls time out waiting for that.
async fn free(round: &Round<'_>) -> Result<Vec<(PathBuf, Option<u64>)>, TimedOut> {
    let folders = folders(round.place);
    let turn = round.within(TURN.acquire()).await?;
    let free = round.blocking(move || {
        let _turn = turn;
        let free = folders.iter();
        free.map(|folder| (existing(folder), free_bytes(folder)))
            .collect()
    });
    free.await
}

/// The folder, or its nearest ancestor that exists.
fn existing(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let found = absolute.ancestors().find(|folder| folder.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

/// Bytes that an unprivileged user may still write there.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(existing(folder)).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

fn judge_space(folders: &[(PathBuf, Option<u64>)], bound_mb: u32) -> Finding {
    let check = "disk-space";
    let mut words = Vec::new();
    let mut least = u64::MAX;
    for (folder, free) in folders {
        let Some(free) = free else {
            return Finding::skipped(
                check,
                format!("{} does not tell how much is free", folder.display()),
                "",
            );
        };
        least = least.min(*free);
        let line = format!("{} MB free at {}", free / MB, folder.display());
        if !words.contains(&line) {
            words.push(line);
        }
    }
    let evidence = format!("{}; at least {bound_mb} MB should be", words.join(", "));
    let fix = "twotower prune; then look at what else fills the disk: `du -xhd1`; fewer backups are kept with `keep` of section [backup]";
    judged(check, least >= u64::from(bound_mb) * MB, evidence, fix)
}

/// Files of our control group: memory limit, memory in use, and its breakdown.
#[derive(Debug, Default)]
struct Group {
    limit: Option<String>,
    current: Option<String>,
    stat: Option<String>,
}

impl Group {
    /// Memory that may still be allocated. Inactive file pages count as in use but are reclaimed
    /// first, so they are subtracted, as Kubernetes does.
    fn available_bytes(&self) -> Option<u64> {
        // "max" means no limit.
        let bytes = |text: &Option<String>| text.as_ref()?.trim().parse::<u64>().ok();
        let limit = bytes(&self.limit)?;
        let files = self.stat.iter().flat_map(|stat| stat.lines());
        let inactive = files
            .filter_map(|line| line.strip_prefix("inactive_file "))
            .find_map(|bytes| bytes.trim().parse::<u64>().ok());
        let in_use = bytes(&self.current)?.saturating_sub(inactive.unwrap_or(0));
        Some(limit.saturating_sub(in_use))
    }
}

/// Memory that Linux can provide without swapping, or that our control group may still allocate,
/// whichever is less.
fn available_bytes(meminfo: Option<&str>, group: &Group) -> Option<u64> {
    let line = meminfo?
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let group = group.available_bytes();
    Some(group.map_or(machine, |group| group.min(machine)))
}

fn judge_memory(available: Option<u64>, bound_mb: u32) -> Finding {
    let check = "memory";
    let Some(available) = available else {
        return Finding::skipped(check, "this system does not tell", "");
    };
    let evidence = format!(
        "{} MB are available, at least {bound_mb} MB should be",
        available / MB
    );
    let fix = "find what takes it (`ps axo rss,comm --sort=-rss | head`); for training a smaller `batch_size` and `embedding_dim` \
               (docs/training.md), or a larger machine";
    judged(check, available >= u64::from(bound_mb) * MB, evidence, fix)
}

async fn logs(round: &Round<'_>) -> Vec<Finding> {
    let mut files = round.checks().log_files.clone();
    let named = std::env::var_os("TWOTOWER_LOG_FILE").filter(|file| !file.is_empty());
    files.extend(named.map(PathBuf::from));
    if files.is_empty() {
        let fix = "nothing, where journald or a container's engine keeps them; else set `log_files` of section [checks]";
        return vec![Finding::skipped("logs", "no log files are named", fix)];
    }
    let bound_mb = round.checks().log_mb;
    let looked = round.blocking(move || {
        let judge = |file: &PathBuf| log(file, bound_mb).about(file.display().to_string());
        files.iter().map(judge).collect()
    });
    looked.await.unwrap_or_else(|_| vec![hangs("logs")])
}

fn log(file: &Path, bound_mb: u32) -> Finding {
    let check = "logs";
    let metadata = match fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) => {
            return Finding::failed(
                check,
                error.to_string(),
                "look whether the jobs run, and where they write",
            );
        }
    };
    // Opening a file for appending does not change it.
    if let Err(error) = fs::OpenOptions::new().append(true).open(file) {
        let fix = format!(
            "chown the file to the user that runs the jobs, or run the doctor as that user: `ls -l {}`",
            file.display()
        );
        return Finding::failed(check, format!("cannot be written: {error}"), fix);
    }
    let megabytes = metadata.len() / MB;
    let evidence =
        format!("{megabytes} MB, at most {bound_mb} MB are expected of a log that is rotated");
    let fix = "install the rotation of deploy/cron/logrotate: `logrotate --debug /etc/logrotate.d/two_tower`";
    judged(check, megabytes <= u64::from(bound_mb), evidence, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::operations::check::{Scope, Verdict};

    #[test]
    fn a_full_disk_is_told_with_the_fullest_folder() {
        let at = |mb: u64| (PathBuf::from(format!("/{mb}")), Some(mb * MB));
        let verdict = |folders: &[_]| judge_space(folders, 2048).verdict;
        assert_eq!(verdict(&[at(2048), at(9000)]), Verdict::Passed);
        assert_eq!(verdict(&[at(9000), at(2047)]), Verdict::Failed);
        assert_eq!(verdict(&[(PathBuf::from("/"), None)]), Verdict::Skipped);
    }

    fn place(db_url: &str, folder: &Path) -> Place {
        let mut config = Config::default();
        config.training.output_dir = folder.join("models");
        config.run.state_dir = folder.join("state");
        config.backup.folder = folder.join("backups");
        Place {
            db_url: db_url.into(),
            config_file: None,
            config,
        }
    }

    #[test]
    fn space_is_looked_for_wherever_much_is_written() {
        let folder = Path::new("/home");
        let mut place = place("sqlite:///data/twotower.db?mode=rwc", folder);
        let backups = folder.join("backups");
        let all = folders(&place);
        assert!(all.contains(&backups) && all.contains(&PathBuf::from("/data")));
        place.config.schedule.backup = String::new();
        place.db_url = "postgresql://me@db/app".into();
        assert_eq!(
            folders(&place),
            [folder.join("models"), folder.join("state")]
        );
        place.db_url = "sqlite://twotower.db".into();
        let here = std::env::current_dir().unwrap();
        assert!(folders(&place).contains(&here), "{:?}", folders(&place));
    }

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_is_asked_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = place("postgresql://me@db/app", folder.path());
        let look = async || {
            let round = Round::new(&place, Scope::Watched, vec!["disk-space"]);
            examine(&round).await.remove(0)
        };
        // The thread of the previous check is still blocked.
        let turn = TURN.acquire().await.unwrap();
        assert_eq!(look().await, hangs("disk-space"));
        drop(turn);
        let found = look().await;
        assert!(found.evidence.contains("MB free at"), "{found:?}");
    }

    #[test]
    fn the_smaller_limit_counts() {
        let meminfo = Some("MemTotal: 9 kB\nMemAvailable:    2048 kB\n");
        let available = |limit: &str, current: &str, stat: Option<&str>| {
            let group = Group {
                limit: Some(limit.into()),
                current: Some(current.into()),
                stat: stat.map(Into::into),
            };
            available_bytes(meminfo, &group)
        };
        assert_eq!(available("max\n", "1\n", None), Some(2 * MB));
        assert_eq!(available("1048576\n", "524288\n", None), Some(524_288));
        // Inactive file pages count as available.
        let stat = Some("anon 1000\nfile 500000\nactive_file 100000\ninactive_file 400000\n");
        assert_eq!(available("1048576\n", "1048576\n", stat), Some(400_000));
        assert_eq!(available("1048576\n", "300000\n", stat), Some(MB));
        assert_eq!(available_bytes(meminfo, &Group::default()), Some(2 * MB));
        assert_eq!(available_bytes(None, &Group::default()), None);
        assert_eq!(judge_memory(Some(511 * MB), 512).verdict, Verdict::Failed);
        assert_eq!(judge_memory(Some(512 * MB), 512).verdict, Verdict::Passed);
    }

    #[test]
    fn a_log_is_there_and_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("batch.log");
        assert_eq!(log(&file, 1).verdict, Verdict::Failed);
        fs::write(&file, "x").unwrap();
        assert_eq!(log(&file, 1).verdict, Verdict::Passed);
        fs::File::options()
            .append(true)
            .open(&file)
            .unwrap()
            .set_len(3 * MB)
            .unwrap();
        assert_eq!(log(&file, 1).verdict, Verdict::Failed);
    }
}
