//! The support bundle holds no personal data and no secrets.

use super::{run, served, told};
use crate::life_cycle::place::Place;
use crate::serve::fixture::{user, video};
use crate::support::sql;
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use tar::Archive;
use twotower_store::RunState;

/// Secrets in places that the doctor reads.
const CANARIES: [&str; 8] = [
    "canary-password",
    "canary-service-key",
    "canary-jwt-secret",
    "canary-operator",
    "canary-machine",
    "Canary Title",
    "夜明けの金糸雀",
    "eyJhbGciOiJIUzI1NiJ9",
];

fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let mut archive = Archive::new(GzDecoder::new(File::open(file).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    entries.collect()
}

#[test]
fn no_canary_leaves_the_house() {
    let place = Place::on_postgres();
    served(&place);
    let log = place.folder.path().join("batch.log");
    let whom = user(1);
    let lines = format!(
        "2026-01-01T02:00:00Z ERROR user {whom} was refused: \"Canary Title\" 夜明けの金糸雀 with canary-password\n\
         {{\"timestamp\":\"2026-01-01T02:00:00Z\",\"level\":\"ERROR\",\"fields\":{{\"message\":\"token eyJhbGciOiJIUzI1NiJ9.e30.x of Canary Title\",\"user\":\"{whom}\"}}}}\n\
         2026-01-01T02:00:01Z ERROR the disk is full\n"
    );
    fs::write(&log, lines).unwrap();
    sql(
        &place.url,
        &format!(
            "update videos set title = 'Canary Title' where id = '{}'; update videos set title = '夜明けの金糸雀' where id = '{}'",
            video(1),
            video(2)
        ),
    );
    run(
        &place,
        "update",
        RunState::Failed,
        &format!("vector of {whom} at canary-machine: Canary Title"),
    );
    sql(
        &place.url,
        "update twotower.job_runs set host = 'canary-machine'; update twotower.model_activations set activated_by = 'canary-operator', reason = 'Canary Title'",
    );
    place.configure(&format!(
        "[update]\ngate = false\n[checks]\ndisk_mb = 1\nlog_files = [{log:?}]\ncertificate_hosts = [\"canary-machine\"]\n[rules]\nonly.tags.none = [\"Canary Title\"]"
    ));
    let file = place.folder.path().join("bundle.tar.gz");
    let mut command = super::doctor(&place, &format!("--bundle {}", file.display()));
    command
        .env(
            "DATABASE_URL",
            place.url.replace("postgres@", "postgres:canary-password@"),
        )
        .env("SUPABASE_SERVICE_ROLE_KEY", "canary-service-key")
        .env("TWOTOWER_JWT_SECRET", "canary-jwt-secret")
        .env("USER", "canary-operator");
    let (code, _) = told(command);
    // A failed run.
    assert_eq!(code, Some(1));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let parts = unpacked(&file);
    for part in [
        "README.txt",
        "findings.json",
        "system.json",
        "database.json",
        "models.json",
        "runs.json",
        "settings.json",
        "environment.json",
        "log-1.txt",
    ] {
        let text = parts
            .get(&format!("twotower/{part}"))
            .unwrap_or_else(|| panic!("no {part}"));
        assert!(!text.trim().is_empty(), "{part} is empty");
    }
    for (part, text) in &parts {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} in {part}:\n{text}");
        }
        for n in 0..300 {
            let id = user(n).to_string();
            assert!(!text.contains(&id), "{id} in {part}:\n{text}");
        }
    }
    let log = &parts["twotower/log-1.txt"];
    assert!(
        log.ends_with("2026-01-01T02:00:01Z ERROR the disk is full\n"),
        "{log}"
    );
    let runs = &parts["twotower/runs.json"];
    assert!(
        runs.contains("\"failed\"") && runs.contains("vector of …"),
        "{runs}"
    );
    let models: serde_json::Value = serde_json::from_str(&parts["twotower/models.json"]).unwrap();
    assert_eq!(models["versions"][0]["metrics"]["validation"]["auc"], 0.894);
    // An existing file is not overwritten.
    let again = place.refused(&format!("doctor --bundle {}", file.display()), 1);
    assert!(again.contains("bundle.tar.gz"), "{again}");
}
