use super::fixture::{Fixture, token, user};
use std::path::{Path, PathBuf};
use std::process::Command;
use twotower::serve::auth::Config;
use twotower::serve::{ConsoleAccess, CorsOrigins};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Paths of a browser and its driver, which `scripts/chromium` installs if permitted.
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

/// Runs a script of tests/browser.
fn run(script: &str, arguments: &[&str]) {
    let output = Command::new("python3")
        .arg(root().join("tests/browser").join(script))
        .args(arguments)
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

#[test]
fn heavy_the_console_works_in_a_browser() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.auth = Config::default();
    config.console = ConsoleAccess::Loopback;
    let server = fixture.serve_with(config);
    run("test_console.py", &[server.console.as_ref().unwrap()]);
}

#[test]
fn heavy_the_example_app_works_in_a_browser() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.cors = CorsOrigins::Any;
    let server = fixture.serve_with(config);
    let address = format!("http://{}", server.address);
    // Two users without any interactions.
    let tokens = [100, 101].map(|n| token(user(n)));
    run("test_example.py", &[&address, &tokens[0], &tokens[1]]);
}
