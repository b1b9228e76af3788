//! A database server that is killed during an update, and restarted like a service manager would.

use super::faults::{Action, Watched, inject};
use super::kills::calls;
use super::scene::on_server;
use super::{Tried, instants, report};
use crate::supervised::Supervised;

#[test]
fn heavy_a_server_killed_during_updates() {
    let mut server = Supervised::start(&[]);
    let (address, mut pid) = server.next_start();
    let scene = on_server(address);
    let line = "update --batch-size 50";
    let version = scene.next_model();
    let total = calls(&scene, line, &Watched::sockets());
    scene.converged(version, "nothing has happened");
    let (mut kills, mut recovered) = (Tried::default(), 0);
    for at in instants(total, 3) {
        let (before, version) = (scene.active().unwrap(), scene.next_model());
        let mut command = scene.command(line);
        let log = inject(
            &mut command,
            &Watched::sockets(),
            Action::KillOther(pid),
            at,
        );
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let instant = format!("server killed at call {at} of {total} of `{line}`: {said}");
        let hit = log.seen().hit;
        kills.count(hit.is_some());
        if hit.is_some() {
            pid = server.next_start().1;
        }
        assert!(
            [Some(0), Some(4)].contains(&output.status.code()),
            "{instant}"
        );
        recovered += u64::from(output.status.success());
        scene.reconnect();
        scene.check(before, version, &instant);
        scene.again(line);
        scene.converged(version, &instant);
    }
    report(&format!(
        "update while the server is killed: {kills} kills, {recovered} of the updates went on by themselves"
    ));
    kills.check();
}
