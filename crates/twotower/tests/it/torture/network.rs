//! A network that drops, resets, truncates, delays and swallows messages between twotower and its
//! database.

use super::proxy::{Fault, Proxy};
use super::scene::{Scene, on_postgres};
use super::{Tried, full, report, seed};
use crate::serve::fixture::{Running, config, token, user};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::net::ToSocketAddrs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_store::{ConnectOptions, Store};

/// The scene's database through a proxy.
fn through(scene: &Scene) -> (Proxy, String) {
    let place = scene.url.split_once('@').unwrap().1;
    let (server, database) = place.split_once('/').unwrap();
    let proxy = Proxy::start(server.to_socket_addrs().unwrap().next().unwrap());
    let url = format!("postgresql://postgres@{}/{database}", proxy.address);
    (proxy, url)
}

fn draw(random: &mut Pcg64Mcg, kinds: u32, messages: u64) -> (u64, Fault) {
    let fault = match random.random_range(0..kinds) {
        0 => Fault::Drop,
        1 => Fault::Reset,
        2 => Fault::Truncate,
        3 => Fault::Delay(Duration::from_millis(random.random_range(1..600))),
        _ => Fault::Silence,
    };
    (random.random_range(1..=messages), fault)
}

/// Three lifetimes of its lease, a second each, plus the time limit of connecting.
const UPDATE_ENDS: Duration = Duration::from_secs(20);

#[test]
fn heavy_updates_through_a_bad_network() {
    let scene = on_postgres();
    let watch = scene.watch();
    let (proxy, url) = through(&scene);
    let line = "update --batch-size 50";
    let version = scene.next_model();
    let count = proxy.messages();
    let status = scene.command(line).env("DATABASE_URL", &url).status();
    assert!(status.unwrap().success());
    let messages = proxy.messages() - count;
    scene.converged(version, "nothing has happened");
    let mut random = Pcg64Mcg::seed_from_u64(seed());
    let (mut faults, mut recovered, mut longest) = (Tried::default(), 0, Duration::ZERO);
    for time in 0..if full() { 500 } else { 5 } {
        let (at, fault) = draw(&mut random, 4, messages);
        let (before, version) = (scene.active().unwrap(), scene.next_model());
        proxy.plan(at, fault);
        let begun = Instant::now();
        let output = scene.command(line).env("DATABASE_URL", &url).output();
        let output = output.unwrap();
        longest = longest.max(begun.elapsed());
        let log = String::from_utf8_lossy(&output.stderr);
        let instant = format!("{time}: {fault:?} at message {at} of {messages}: {log}");
        faults.count(proxy.has_happened());
        proxy.heal();
        assert!(
            [Some(0), Some(4)].contains(&output.status.code()),
            "{instant}"
        );
        assert!(begun.elapsed() < UPDATE_ENDS, "{instant}");
        recovered += u64::from(output.status.success());
        scene.check(before, version, &instant);
        scene.again(line);
        scene.converged(version, &instant);
    }
    proxy.stop();
    let reads = watch.end();
    report(&format!(
        "update through a bad network: {faults} faults, {recovered} of the updates went on by themselves, the longest took {:.1} s; {} reads, {} of them mixed",
        longest.as_secs_f64(),
        reads.all,
        reads.mixed
    ));
    faults.check();
    assert_eq!(reads.mixed, 0);
}

/// Each answer is a recommendation or a clear refusal, in time; and once the network recovers, so
/// does the server.
#[test]
fn heavy_requests_through_a_bad_network() {
    let scene = on_postgres();
    let (proxy, url) = through(&scene);
    let options = ConnectOptions {
        max_connections: 2,
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
    };
    let store = scene
        .runtime
        .block_on(Store::connect(&url, options))
        .unwrap();
    let mut config = config(scene.models());
    config.limits.database = Duration::from_millis(400);
    config.limits.soft_deadline = Duration::from_millis(150);
    config.limits.request = Duration::from_millis(1500);
    config.limits.active_model_poll = Duration::from_millis(30);
    let deadline = config.limits.request + Duration::from_secs(1);
    let server = Running::start(store, config);
    let mut random = Pcg64Mcg::seed_from_u64(seed());
    let (mut faults, mut requests, mut refused, mut longest) = (0, 0, 0, Duration::ZERO);
    let token = token(user(1));
    for time in 0..if full() { 500 } else { 8 } {
        let (at, fault) = draw(&mut random, 5, 12);
        proxy.plan(at, fault);
        while !proxy.has_happened() {
            let begun = Instant::now();
            let answer = server.client.recommend(&token, "{}");
            let (took, status) = (begun.elapsed(), answer.status);
            longest = longest.max(took);
            requests += 1;
            refused += u64::from(status != 200);
            let instant = format!(
                "{time}: {fault:?} at message {at}: {status}: {}",
                answer.text
            );
            assert!([200, 503, 504].contains(&status), "{instant}");
            assert!(took < deadline, "{took:?}: {instant}");
        }
        faults += 1;
        proxy.heal();
        let begun = Instant::now();
        while server.client.recommend(&token, "{}").status != 200 {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{time}: {fault:?}: it does not recover"
            );
            sleep(Duration::from_millis(10));
        }
    }
    drop(server);
    proxy.stop();
    report(&format!(
        "requests through a bad network: {faults} faults, {requests} requests, {refused} of them refused, the longest took {:.2} s",
        longest.as_secs_f64()
    ));
}
