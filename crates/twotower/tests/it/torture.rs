//! Invariants that must hold whatever happens, tried at every instant: kills, failing system calls,
//! databases that die, network faults, concurrent starts, wrong clocks.
//!
//! `make test` tries a few instants of each kind, `make torture` (`TWOTOWER_TORTURE=full`) all of
//! them. Both take the seed `TWOTOWER_TORTURE_SEED` (a number, 1 by default), and a failed
//! assertion names seed and instant.

mod faults;

mod scene;

mod watch;

mod kills;

mod errors;

mod storage;

mod retention;

mod imports;

mod exports;

mod backups;

mod power_cut;

mod server;

mod server_disk;

mod proxy;

mod network;

mod overload;

mod starts;

mod clocks;

use faults::Action;
use std::io::Write;

/// Whether all instants are tried.
fn full() -> bool {
    std::env::var("TWOTOWER_TORTURE").is_ok_and(|size| size == "full")
}

fn seed() -> u64 {
    match std::env::var("TWOTOWER_TORTURE_SEED") {
        Ok(seed) => seed.parse().expect("TWOTOWER_TORTURE_SEED is a number"),
        Err(_) => 1,
    }
}

/// Numbers among 1..=total: all of them, or in the short form `few`, offset by the seed.
fn instants(total: u64, few: u64) -> Vec<u64> {
    if full() || total <= few {
        return (1..=total).collect();
    }
    (0..few)
        .map(|n| {
            let (from, to) = (n * total / few, (n + 1) * total / few);
            1 + from
                + seed()
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(n as u32 * 7)
                    % (to - from)
        })
        .collect()
}

/// Each instant with each of `actions`; in the short form with one of them in turn, and the last
/// instant with the first.
fn trials(total: u64, few: u64, actions: &[Action]) -> Vec<(u64, Action)> {
    let instants = instants(total, few);
    if full() {
        let all = instants.into_iter();
        return all
            .flat_map(|at| actions.iter().map(move |&action| (at, action)))
            .collect();
    }
    let in_turn = instants.into_iter().zip(actions.iter().copied().cycle());
    in_turn.chain([(total, actions[0])]).collect()
}

/// Instants that were tried, and how many of them a run came to: it may make fewer calls than the
/// run that was counted.
#[derive(Debug, Default, Clone, Copy)]
struct Tried {
    all: u64,
    met: u64,
}

impl Tried {
    fn count(&mut self, is_met: bool) {
        self.all += 1;
        self.met += u64::from(is_met);
    }

    /// Fails if next to nothing has happened.
    fn check(self) {
        let Self { all, met } = self;
        let enough = if full() { all * 9 / 10 } else { all / 2 };
        assert!(met > 0 && met >= enough, "of {all} instants {met} were met");
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.met, self.all)
    }
}

/// Reports figures: a line in `target/torture.log` and in the output of the test.
fn report(line: &str) {
    println!("torture: {line}");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/torture.log");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    if let Ok(mut file) = file {
        let _ = writeln!(
            file,
            "{line} (seed {}, {})",
            seed(),
            if full() { "full" } else { "short" }
        );
    }
}
