//! Under load, servers and the database are killed and versions are switched: no answer is wrong,
//! and almost none is missing.

use super::load::{Client, Told, scores};
use super::scene::Scene;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Number of concurrent clients.
const CLIENTS: usize = 12;

/// Requests between two faults, in the short and the long form.
const BETWEEN: (u64, u64) = (1000, 15_000);

/// At least this many requests in the long form.
const LEAST: u64 = 100_000;

struct Stopping<'a>(&'a Told);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[test]
#[ignore = "needs HAProxy, which no registry of packages has that the tests install from: `make test-replicas`"]
fn no_answer_is_wrong_while_servers_and_the_database_die() {
    let full = std::env::var("TWOTOWER_TORTURE").is_ok_and(|it| it == "full");
    let scene = Scene::start();
    let scores = scores(&scene);
    let told = Told::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| Client::new(&scene, &scores, &told).run());
        }
        // Stops the other threads even if something here fails.
        let stopping = Stopping(&told);
        let go_on = |what: &str| {
            let until = told.requests() + if full { BETWEEN.1 } else { BETWEEN.0 };
            println!(
                "{:6.1} s  {:7} requests, {} errors, {} partial, then: {what}",
                begun.elapsed().as_secs_f64(),
                told.requests(),
                told.errors.lock().unwrap().len(),
                get(&told.partial)
            );
            let waiting = Instant::now();
            while told.requests() < until {
                assert!(
                    waiting.elapsed() < Duration::from_mins(5),
                    "{what}: no answers"
                );
                sleep(Duration::from_millis(20));
            }
        };
        let (first, second) = (scene.models[0].0, scene.models[1].0);
        go_on("the first server is killed and started again");
        for server in [0, 1] {
            let read = |from| {
                scene.metric(
                    server,
                    &format!("twotower_user_state_reads_total{{source=\"{from}\"}}"),
                )
            };
            println!(
                "server {server} has read {} users on the primary and {} on the replica",
                read("primary"),
                read("replica")
            );
            assert!(read("replica") > 0.0, "{}", scene.log());
        }
        scene.kill_server(0);
        go_on("the primary dies and the replica takes over");
        scene.fail_over();
        go_on("another version is made active");
        scene.activate(first);
        go_on("the second server is killed and started again");
        scene.kill_server(1);
        go_on("back to the version before");
        scene.activate(second);
        go_on("nothing more");
        while full && told.requests() < LEAST {
            go_on("more of the same");
        }
        drop(stopping);
    });
    let (requests, errors) = (told.requests(), told.errors.lock().unwrap());
    println!(
        "{requests} requests in {:.0} s, {} errors, {} partial, {} slower than 1 s, the slowest {} ms; {} likes, {} tries of the application that \
         the database did not take; {} wrong",
        begun.elapsed().as_secs_f64(),
        errors.len(),
        get(&told.partial),
        get(&told.slow),
        get(&told.slowest_ms),
        get(&told.likes),
        get(&told.writes_failed),
        told.wrong.lock().unwrap().len()
    );
    let wrong = told.wrong.lock().unwrap();
    assert!(
        wrong.is_empty(),
        "{} wrong: {:#?}\n{}",
        wrong.len(),
        &wrong[..wrong.len().min(10)],
        scene.log()
    );
    let rate = errors.len() as f64 / requests as f64;
    assert!(
        rate < 0.001,
        "{rate}: {:#?}\n{}",
        &errors[..errors.len().min(20)],
        scene.log()
    );
    assert!(
        requests > 5000 && get(&told.likes) > 1000,
        "{requests} requests"
    );
}
