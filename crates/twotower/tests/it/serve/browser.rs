use super::fixture::Fixture;
use std::path::{Path, PathBuf};
use std::process::Command;
use twotower::serve::ConsoleAccess;
use twotower::serve::auth::Config;

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Paths of a browser and its driver; `scripts/chromium` installs them where it may.
fn browser() -> Vec<(String, String)> {
    let script = root().join("scripts/chromium");
    let output = Command::new(&script).output().unwrap();
    assert!(
        output.status.success(),
        "the console is tested in a real browser, and scripts/chromium found none:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, path)| (name.to_owned(), path.to_owned()))
        .collect()
}

#[test]
fn heavy_the_console_works_in_a_browser() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.auth = Config::default();
    config.console = ConsoleAccess::Loopback;
    let server = fixture.serve_with(config);
    let output = Command::new("python3")
        .arg(root().join("tests/browser/test_console.py"))
        .arg(format!("http://{}", server.address))
        .arg(root().join("target/screenshots"))
        .envs(browser())
        .output()
        .expect("python3 runs the browser test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "the browser test failed; its output is above"
    );
}
