//! Two updates started at the same time: one publishes, the other reports that and does nothing.

use super::scene::{Scene, on_postgres, on_sqlite};
use super::{full, report};
use serde_json::Value;
use std::process::Stdio;

fn start_twice(scene: &Scene, times: u32) -> u32 {
    let mut held = 0;
    for time in 0..times {
        let version = scene.next_model();
        let children = [(); 2].map(|()| {
            scene
                .command("--json update --batch-size 50")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let said = children.map(|child| {
            let output = child.wait_with_output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "start {time}: {log}");
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        });
        let published = said.iter().filter(|one| one["activated"] == true).count();
        assert_eq!(published, 1, "start {time}: {said:?}");
        for other in said.iter().filter(|one| one["activated"] != true) {
            // The first was still running, or it had finished and nothing was left to do.
            let idle = other["videos"]["unchanged"] == 40 && other["users"]["unchanged"] == 300;
            assert!(
                other["held_by"].is_object() || idle,
                "start {time}: {other}"
            );
            held += u32::from(other["held_by"].is_object());
        }
        let last = scene.history();
        assert_eq!(
            last.last(),
            Some(&(version, Some(version - 1))),
            "start {time}"
        );
        scene.converged(version, &format!("start {time}"));
    }
    held
}

#[test]
fn heavy_two_at_once() {
    let times = if full() { 500 } else { 3 };
    let held = start_twice(&on_postgres(), times) + start_twice(&on_sqlite(), times);
    report(&format!(
        "two updates at once: {} times one publisher, {held} times the other was told so, else it came later",
        2 * times
    ));
}
