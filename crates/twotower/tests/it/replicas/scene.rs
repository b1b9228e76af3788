//! Two servers and two databases behind a balancer, and two versions of a model.

use super::balancer::{Balancer, free_place};
use super::pair::{Pair, place_of};
use crate::life_cycle::place::Place;
use crate::serve::fixture::{SECRET, model_of};
use crate::support::Workplace;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_core::model::Model;
use twotower_store::{ConnectOptions, Store};

/// For this long after an activation, answers may be of the previous version: a server polls every
/// three seconds, and then loads.
const SWITCH: Duration = Duration::from_secs(10);

/// Answers and events wait for the database as long as a failover takes: correctness matters more
/// than latency here.
const SETTINGS: &str = "[update]\ngate = false\n[serve]\nsoft_deadline_ms = 1500\ndatabase_ms = 10000\nuser_requests_per_second = 0\nuser_events_per_second = 0\nconcurrency_minimum = 64\n";

pub(super) struct Scene {
    // Stopped before its servers.
    balancer: Balancer,
    servers: [Mutex<Server>; 2],
    pub(super) pair: Mutex<Pair>,
    pub(super) place: Place,
    /// The application's database, through the balancer.
    pub(super) application: Store,
    pub(super) models: Vec<(i64, Model)>,
    activations: Mutex<Vec<Activation>>,
}

/// A version, and the earliest time at which it may have become active.
struct Activation {
    version: i64,
    from: Instant,
    /// The latest time at which the previous version may have been active; `None` while unknown.
    done: Option<Instant>,
}

struct Server {
    address: String,
    metrics: String,
    process: Child,
}

impl Scene {
    pub(super) fn start() -> Self {
        let mut pair = Pair::start();
        let place = Place::new(Workplace::on_postgres(pair.primary.clone()));
        place.configure(SETTINGS);
        let models: Vec<_> = [(64, 1), (32, 2)]
            .map(|(dim, seed)| (place.next_version(), model_of(dim, seed)))
            .into();
        for (version, model) in &models {
            place.save(*version, model);
            assert_eq!(place.json("update")["activated"], true);
        }
        pair.make_synchronous();
        let addresses = [free_place(), free_place()];
        let balancer = Balancer::start(
            place.folder.path(),
            [&addresses[0], &addresses[1]],
            [place_of(&pair.primary), place_of(&pair.replica)],
        );
        let url = format!("postgresql://postgres@{}/postgres", balancer.database);
        let replica = pair.replica.clone();
        let servers = addresses.map(|address| {
            let metrics = free_place();
            let process = serve(&place, &url, &replica, [&address, &metrics]);
            Mutex::new(Server {
                address,
                metrics,
                process,
            })
        });
        let options = ConnectOptions {
            max_connections: 16,
            acquire_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(2),
        };
        let application = place
            .runtime
            .block_on(Store::connect(&url, options))
            .unwrap();
        let now = Instant::now();
        let scene = Self {
            activations: Mutex::new(vec![Activation {
                version: models[1].0,
                from: now,
                done: Some(now),
            }]),
            balancer,
            servers,
            pair: Mutex::new(pair),
            place,
            application,
            models,
        };
        scene.wait_until_ready(0);
        scene.wait_until_ready(1);
        scene
    }

    /// Address for API clients.
    pub(super) fn api(&self) -> &str {
        &self.balancer.api
    }

    /// Kills one server and starts it again.
    pub(super) fn kill_server(&self, which: usize) {
        let mut server = locked(&self.servers[which]);
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        sleep(Duration::from_secs(2));
        let url = self.database_url();
        let replica = locked(&self.pair).replica.clone();
        server.process = serve(
            &self.place,
            &url,
            &replica,
            [&server.address, &server.metrics],
        );
        drop(server);
        self.wait_until_ready(which);
    }

    /// Kills the primary and promotes the replica; after a while clients are directed there.
    pub(super) fn fail_over(&self) {
        let mut pair = locked(&self.pair);
        pair.stop_primary();
        sleep(Duration::from_secs(1));
        pair.promote();
        sleep(Duration::from_secs(1));
        self.balancer.switch_database();
    }

    /// Activates a version through the balancer, and waits until no other may answer.
    pub(super) fn activate(&self, version: i64) {
        locked(&self.activations).push(Activation {
            version,
            from: Instant::now(),
            done: None,
        });
        let mut command = self
            .place
            .command(&format!("models promote {version} --reason test"));
        let output = command
            .env("DATABASE_URL", self.database_url())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if let Some(last) = locked(&self.activations).last_mut() {
            last.done = Some(Instant::now());
        }
        sleep(SWITCH);
    }

    /// Whether a request between `begun` and `ended` may have been answered by `version`.
    pub(super) fn may_be(&self, version: i64, begun: Instant, ended: Instant) -> bool {
        let activations = locked(&self.activations);
        activations.iter().enumerate().any(|(n, activation)| {
            let until = activations.get(n + 1).and_then(|next| next.done);
            activation.version == version
                && activation.from <= ended
                && until.is_none_or(|until| begun <= until + SWITCH)
        })
    }

    /// The value of a series in one server's metrics, named with its labels; 0 if absent.
    pub(super) fn metric(&self, which: usize, series: &str) -> f64 {
        let url = format!("http://{}/metrics", locked(&self.servers[which]).metrics);
        let mut answer = ureq::get(url).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    fn database_url(&self) -> String {
        format!("postgresql://postgres@{}/postgres", self.balancer.database)
    }

    fn wait_until_ready(&self, which: usize) {
        let url = format!("http://{}/readyz", locked(&self.servers[which]).address);
        let begun = Instant::now();
        loop {
            let answer = ureq::get(&url)
                .config()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(5)))
                .build()
                .call();
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "server {which} does not become ready: {}",
                self.log()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Warnings and errors in both servers' logs.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.place.folder.path().join("serve.log"));
        let text = text.unwrap_or_default();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.contains("\"INFO\"") && !line.contains(" INFO "))
            .collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for server in &self.servers {
            let process = &mut locked(server).process;
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Starts a server on the first of `addresses`, with metrics on the second.
fn serve(place: &Place, url: &str, replica: &str, addresses: [&str; 2]) -> Child {
    let [address, metrics] = addresses;
    let log = File::options()
        .create(true)
        .append(true)
        .open(place.folder.path().join("serve.log"))
        .unwrap();
    let mut command: Command = place.command(&format!(
        "serve --listen {address} --metrics-listen {metrics}"
    ));
    command
        .env("DATABASE_URL", url)
        .env("DATABASE_REPLICA_URL", replica)
        .env("TWOTOWER_JWT_SECRET", SECRET)
        .env("TWOTOWER_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().unwrap()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
