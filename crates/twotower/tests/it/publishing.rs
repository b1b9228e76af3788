//! Publishing, fetching and keys, as a user runs them.

use crate::s3_server::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY, credentials};
use crate::supabase_server::{SupabaseServer, variables};
use crate::support::Workplace;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

/// A folder with a small model, version 1, and a key pair.
fn place() -> (Workplace, String) {
    let place = Workplace::on_sqlite();
    place.json("demo --no-serve --videos 100 --users 60 --likes 1200 --epochs 1");
    let key = place.json("keys generate --output signing.key");
    let public = key["public_key"].as_str().unwrap().to_owned();
    (place, public)
}

/// The command with credentials for the bucket.
fn on_bucket(place: &Workplace, server: &S3Server, line: &str) -> Command {
    assert!(credentials("AWS_ACCESS_KEY_ID").is_some());
    let mut command = place.command(line);
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env("AWS_REGION", "us-east-1");
    command
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr];
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .concat()
}

#[test]
fn keys_are_made_once_and_never_shown() {
    let place = Workplace::on_sqlite();
    let made = place.run("keys generate --output signing.key");
    assert!(made.status.success(), "{}", text(&made));
    let file = place.folder.path().join("signing.key");
    let private = fs::read_to_string(&file).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = place.run("keys generate --output signing.key");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("there already"), "{}", text(&again));
    assert_eq!(fs::read_to_string(&file).unwrap(), private);
    let shown = place.run("keys show signing.key");
    assert_eq!(shown.stdout, made.stdout);
    let public = place.json("keys show signing.key")["public_key"].clone();

    // A private key in place of a public one.
    let mistaken = place
        .command("fetch --from somewhere")
        .env("TWOTOWER_TRUSTED_KEYS", private.trim())
        .output()
        .unwrap();
    assert_eq!(mistaken.status.code(), Some(2));
    assert!(
        text(&mistaken).contains("private key"),
        "{}",
        text(&mistaken)
    );
    let secret = private.trim().rsplit(':').next().unwrap();
    for output in [made, again, shown, mistaken] {
        assert!(!text(&output).contains(secret), "{}", text(&output));
    }
    assert!(public.as_str().unwrap().starts_with("ed25519:"));
}

#[test]
fn what_is_missing_is_told_before_anything_is_begun() {
    let place = Workplace::on_sqlite();
    let cases = [
        ("publish", "`--to`"),
        ("publish --to there", "--unsigned"),
        ("publish --to gs://models --unsigned", "s3://"),
        ("publish --to s3://models --unsigned", "AWS_REGION"),
        (
            "publish --to s3://models --region x --unsigned",
            "AWS_ACCESS_KEY_ID",
        ),
        (
            "publish --to s3://models --region x --endpoint http://example.org --unsigned",
            "not encrypted",
        ),
        ("fetch", "`--from`"),
        ("fetch --from there", "--allow-unsigned"),
        (
            "fetch --from there --trusted-key ed25519:x",
            "trusted key 1",
        ),
    ];
    for (line, expected) in cases {
        let output = place
            .command(line)
            .env_remove("AWS_REGION")
            .env_remove("AWS_ACCESS_KEY_ID")
            .output()
            .unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(expected), "{line}: {said}");
    }
    let said = place.refused("publish --to there --unsigned", 1);
    assert!(said.contains("twotower train"), "{said}");
    let said = place.refused("fetch --from there --allow-unsigned", 1);
    assert!(said.contains("twotower publish"), "{said}");
}

#[test]
fn a_model_goes_from_one_machine_to_another() {
    let (place, public) = place();
    let server = S3Server::start();
    place.configure(&format!(
        "[storage]\nurl = \"s3://{BUCKET}/production\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\ntrusted_keys = [\"{public}\"]\n",
        server.endpoint()
    ));
    let mut said = String::new();
    let mut run = |line: &str, code: i32| {
        let output = on_bucket(&place, &server, line)
            .env("TWOTOWER_SIGNING_KEY_FILE", "signing.key")
            .output()
            .unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(code), "twotower {line}: {text}");
        said.push_str(&text);
        text
    };
    let dry = run("publish --dry-run -vv", 0);
    assert!(
        dry.contains("nothing was written") && server.keys("").is_empty(),
        "{dry}"
    );
    server.set_public(true);
    let refused = run("publish", 1);
    assert!(refused.contains("the storage is public"), "{refused}");
    server.set_public(false);
    assert!(server.keys("production/models/1").is_empty());
    server.hang_up_each(11);
    let published = run("publish -vv", 0);
    server.hang_up_each(0);
    assert!(
        published.ends_with("publish completed successfully\n"),
        "{published}"
    );
    run("fetch --output-dir elsewhere --expect-dim 3", 1);
    let fetched = run("fetch --output-dir elsewhere -vv", 0);
    assert!(
        fetched.ends_with("fetch completed successfully\n"),
        "{fetched}"
    );
    let again = run("fetch --output-dir elsewhere", 0);
    assert!(again.contains("already"), "{again}");
    run("keys verify elsewhere", 0);
    run("update --model-path elsewhere --dry-run", 0);

    // Signed with another key, and unsigned.
    let other = place.json("keys generate --output other.key");
    let other = other["public_key"].as_str().unwrap();
    let refused = run(
        &format!("fetch --output-dir third --trusted-key {other}"),
        1,
    );
    assert!(refused.contains("trusted"), "{refused}");
    fs::remove_file(server.file("production/models/1/manifest.json.sig")).unwrap();
    run("fetch --output-dir third --allow-unsigned", 1);
    assert!(!place.folder.path().join("third/1").exists());

    let private = fs::read_to_string(place.folder.path().join("signing.key")).unwrap();
    let secret = private.trim().rsplit(':').next().unwrap();
    assert!(!said.contains(secret) && !said.contains(SECRET_ACCESS_KEY));
}

#[test]
fn a_model_goes_to_supabase_and_comes_back_as_a_user_types_it() {
    let (place, public) = place();
    let server = SupabaseServer::start();
    let run = |line: &str, key: &str| {
        let mut command = place.command(line);
        command
            .env("SUPABASE_URL", server.url())
            .env(key, variables(key).unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let publish = "publish --to supabase://models --signing-key signing.key";
    let said = run(&format!("{publish} --dry-run"), "SUPABASE_SECRET_KEYS");
    assert!(said.contains("would be uploaded"), "{said}");
    assert_eq!(server.is_public(), None, "a dry run makes no bucket");
    let said = run(publish, "SUPABASE_SECRET_KEYS");
    assert_eq!(server.is_public(), Some(false));
    place.configure(&format!(
        "[storage]\nurl = \"supabase://models\"\ntrusted_keys = [\"{public}\"]"
    ));
    let fetched = run("fetch --output-dir fetched", "SUPABASE_SERVICE_ROLE_KEY");
    assert!(place.folder.path().join("fetched/1/manifest.json").exists());
    assert!(!format!("{said}{fetched}").contains("canary"));
    let said = place.refused("fetch", 2);
    assert!(said.contains("--supabase-url"), "{said}");
}

/// Killed at different times; each time, one more run completes the version.
#[test]
fn a_publish_that_is_killed_is_run_again() {
    let (place, public) = place();
    let server = S3Server::start();
    let (mut killed, mut delay) = (0, 20);
    for round in 0..12 {
        let to = format!("publish --to s3://{BUCKET}/round{round} --signing-key signing.key");
        let mut child = on_bucket(&place, &server, &to)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            delay /= 3;
        } else {
            killed += 1;
            delay += 15;
        }
        let fetch = format!(
            "fetch --from s3://{BUCKET}/round{round} --trusted-key {public} --output-dir from{round}"
        );
        let early = on_bucket(&place, &server, &fetch).output().unwrap();
        let complete = server
            .file(&format!("round{round}/models/1/manifest.json"))
            .exists();
        assert_eq!(early.status.success(), complete, "{}", text(&early));
        let finished = on_bucket(&place, &server, &to).output().unwrap();
        assert!(finished.status.success(), "{}", text(&finished));
        let fetched = on_bucket(&place, &server, &fetch).output().unwrap();
        assert!(fetched.status.success(), "{}", text(&fetched));
    }
    assert!(killed > 3, "{killed} of 12 were killed in time");
}

#[test]
fn one_fetch_at_a_time_works_in_a_folder() {
    let place = Workplace::on_sqlite();
    let folder = place.folder.path().join("models/.fetch");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    let said = place.refused("fetch --from there --allow-unsigned", 1);
    assert!(said.contains("another fetch is at work"), "{said}");
}
