//! A database server whose disk is full for a while.

use super::backups::Restored;
use super::faults;
use super::imports::{Files, content};
use super::report;
use super::scene::{Scene, on_sqlite};
use crate::life_cycle::place::Place;
use crate::supervised::Supervised;
use crate::support::{Workplace, sql};
use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

/// Size of the file that tells the server which paths are full.
const BYTES: usize = 4096;

/// The disk of a server that is started with [`Disk::environment`].
struct Disk(tempfile::NamedTempFile);

impl Disk {
    fn new() -> Self {
        // The server runs as another user.
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o644))
            .tempfile()
            .unwrap();
        let disk = Self(file);
        disk.is_full_below("");
        disk
    }

    /// Makes the calls fail like on a full disk, for the paths that are set.
    fn environment(&self) -> [(&'static str, &Path); 5] {
        [
            ("LD_PRELOAD", faults::library()),
            ("TORTURE_WATCH_FILE", self.0.path()),
            ("TORTURE_ACTION", Path::new("errors")),
            ("TORTURE_AT", Path::new("1")),
            ("TORTURE_ERRNO", Path::new("28")),
        ]
    }

    /// Makes files whose paths begin with `path` fail; an empty path makes none fail.
    fn is_full_below(&self, path: &str) {
        let mut bytes = [0; BYTES];
        bytes[..path.len()].copy_from_slice(path.as_bytes());
        self.0.as_file().write_all_at(&bytes, 0).unwrap();
    }

    /// Runs `line` while the disk is full for tables; it must fail and say so.
    fn refuses(&self, server: &str, place: &Workplace, line: &str) -> String {
        let data = sql(server, "SHOW data_directory");
        self.is_full_below(&format!("{data}/base/"));
        let output = place.run(line);
        self.is_full_below("");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        assert!(said.contains("No space left on device"), "{line}: {said}");
        assert!(said.contains("base/"), "{line}: {said}");
        said
    }
}

#[test]
fn heavy_a_server_without_room() {
    let disk = Disk::new();
    let mut supervised = Supervised::start(&disk.environment());
    let (server, _) = supervised.next_start();
    let (place, _) = server.rsplit_once('/').unwrap();
    let database = |name: &str| {
        sql(&server, &format!("CREATE DATABASE {name}"));
        Workplace::on_postgres(format!("{place}/{name}"))
    };

    let files = Files::new();
    let target = database("imported");
    target.json("migrate");
    let said = disk.refuses(&server, &target, &files.line);
    assert!(said.contains("videos.jsonl"), "{said}");
    files.check_part(&target.url, &said);
    target.json(&files.line);
    assert_eq!(content(&target.url), files.content);

    let scene = on_sqlite();
    let (restored, backup) = Restored::back_up(&scene);
    let line = format!("restore {}", backup.display());
    let place = Place::new(database("restored"));
    place.lease_of_one_second();
    let target = Scene::bare(place);
    let said = disk.refuses(&server, &target, &line);
    restored.all_or_nothing(&target, &said);
    restored.again(&target, &line, &said);
    report("import and restore on a server without room: refused, and done once there was room");
}
