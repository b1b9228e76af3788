//! Runs that somebody ends in the middle.

use crate::support::{command, text};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// In the place of `twotower`: it has likes in its folder, and then takes until its standard input ends.
const EXPORT: &str = r#"#!/bin/sh
here=$(dirname "$0")
[ "$1 $2 $4" = "export --to --supervised" ] || exit 1
mkdir -p "$3/likes"
echo 'what people like' > "$3/likes/part.parquet"
echo begun > "$here/begun"
cat > /dev/null
echo ended > "$here/ended"
"#;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

fn wait(what: &Path) {
    let start = Instant::now();
    while !what.exists() {
        assert!(start.elapsed() < PATIENCE, "no {}", what.display());
        sleep(Duration::from_millis(10));
    }
}

/// A run of `prepare` whose export is under way.
fn begun(folder: &Path) -> Child {
    let program = folder.join("twotower");
    fs::write(&program, EXPORT).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let to = folder.join("out/shards");
    let child = command(&["prepare", "--from", "postgres", "--to", text(&to)])
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        .env("TWOTOWER_PROGRAM", &program)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait(&folder.join("begun"));
    let exported = "out/.shards.unfinished/.spill/.source/likes/part.parquet";
    assert!(folder.join(exported).exists());
    child
}

#[test]
fn who_is_asked_to_stop_leaves_nothing() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = begun(folder.path());
        let told = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(told.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
        let left = fs::read_dir(folder.path().join("out")).unwrap();
        assert_eq!(left.count(), 0, "{signal}");
    }
}

#[test]
fn the_export_does_not_outlive_who_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = begun(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    wait(&folder.path().join("ended"));
}
