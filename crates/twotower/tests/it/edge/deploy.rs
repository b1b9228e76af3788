//! The bundle that the pinned Supabase CLI would deploy behaves like the function in the
//! repository.

use super::processes::{DenoServer, root};
use super::project::{Project, RECOMMENDATIONS, UPDATE};
use crate::serve::fixture::{SECRET, token, user};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const REFERENCE: &str = "abcdefghijklmnopqrst";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs the CLI in a copy of `supabase/`, because it writes there; returns its output.
fn supabase(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(root().join("scripts/supabase-cli"))
        .args(arguments)
        .args(["--project-ref", REFERENCE, "--profile"])
        .arg(folder.join("profile.yaml"))
        .arg("--workdir")
        .arg(folder)
        .env("SUPABASE_ACCESS_TOKEN", format!("sbp_{}", "0".repeat(40)))
        .output()
        .expect("scripts/supabase-cli runs: see `make tools`");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn what_is_deployed_is_what_is_tested() {
    let project = Project::new();
    let folder = tempfile::tempdir().unwrap();
    copy(&root().join("supabase"), &folder.path().join("supabase"));
    let deployed = folder.path().join("deployed");
    fs::create_dir(&deployed).unwrap();
    let api = DenoServer::start_with(
        "tests/stand-ins/management/main.ts",
        &["--allow-env", "--allow-read", "--allow-write"],
        &[&deployed.display().to_string()],
        &[],
    );
    let url = format!("http://{}", api.address);
    let profile = format!(
        "name: stand-in\napi_url: {url}\ndashboard_url: {url}\ndocs_url: {url}\nproject_host: supabase.co\n"
    );
    fs::write(folder.path().join("profile.yaml"), profile).unwrap();
    let names = [RECOMMENDATIONS, UPDATE];
    let deploy = [&["functions", "deploy"][..], &names, &["--use-api"]].concat();
    supabase(folder.path(), &deploy);
    let listed = supabase(folder.path(), &["functions", "list"]);
    assert!(names.iter().all(|name| listed.contains(name)), "{listed}");

    for name in names {
        let metadata = fs::read_to_string(deployed.join(format!("{name}.json"))).unwrap();
        let metadata: Value = serde_json::from_str(&metadata).unwrap();
        assert_eq!(
            metadata["verify_jwt"], false,
            "the function verifies tokens itself"
        );
        let file = |field: &str| deployed.join(name).join(metadata[field].as_str().unwrap());
        let config = format!("--config={}", file("import_map_path").display());
        let function = project.function_at(
            &file("entrypoint_path").display().to_string(),
            &["--no-lock", &config],
            &[("TWOTOWER_JWT_SECRET", SECRET)],
        );
        let answer = function.post(&token(user(3)), "{}");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        assert_eq!(answer.json()["user_id"], json!(user(3)));
        assert!(function.post("x", "{}").error().0 == 401);
    }
}
