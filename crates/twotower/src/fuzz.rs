//! Fuzzing of parsers on stable Rust: mutated copies of good and bad examples, millions of them.
//!
//! cargo-fuzz and AFL need a nightly compiler or a runtime of their own; bolero's engine for stable
//! Rust generates random bytes, of which one in millions is JSON at all. Here a target not only
//! checks itself, but also returns which way an input went (such as a hash of the error), and an
//! input that went a new way is mutated further.
//!
//! `TWOTOWER_FUZZ_EXECUTIONS` overrides the number of executions of each target,
//! `TWOTOWER_FUZZ_SEED` the seed.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

/// Number of executions for a target that takes a microsecond or two, and for one that takes ten
/// times as long.
pub(crate) const MANY: u64 = 1_000_000;
pub(crate) const FEW: u64 = 100_000;

/// Maximum length of an input, and number of inputs kept for further mutation.
const MAX_BYTES: usize = 20 * 1024;
const MAX_CORPUS: usize = 2048;

/// Difficult inputs for parsers of JSON, tables, numbers, times, UUIDs and texts.
const TOKENS: [&str; 51] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\u202e",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "10",
    "100",
    "101",
    "1e9",
    "1e400",
    "1.0",
    "0.1",
    "18446744073709551615",
    "9223372036854775808",
    "NaN",
    "\u{0}",
    "\u{7f}",
    "\u{202e}",
    "é",
    "😀",
    " ",
    "\n",
    ".",
    "=",
    "eyJ",
    "user_id",
    "00000000-0000-0000-0000-000000000000",
    "\t",
    "\r",
    "\r\n",
    "\u{feff}",
    "|",
    "\"\"",
    "-",
    "2026-01-31",
    "T23:59:60Z",
    "+09:00",
    "999999",
];

/// The examples in `fuzz/corpus/<target>`.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}: no examples", folder.display());
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Runs `target` on `examples` and the given number of mutations of them, unless the variable
/// overrides it. The target returns the way an input went, and panics if a property is violated.
pub(crate) fn fuzz(
    name: &str,
    executions: u64,
    mut examples: Vec<Vec<u8>>,
    target: impl Fn(&[u8]) -> u64,
) {
    let executions = setting("TWOTOWER_FUZZ_EXECUTIONS", executions);
    let seed = setting("TWOTOWER_FUZZ_SEED", 1);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut ways = HashSet::new();
    let begun = Instant::now();
    let mut run = |input: &[u8]| {
        let way = catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|_| {
            panic!(
                "{name}, seed {seed}, fails on {} bytes: \"{}\"",
                input.len(),
                input.escape_ascii()
            )
        });
        ways.insert(way)
    };
    for example in &examples {
        run(example);
    }
    let mut input = Vec::new();
    for _ in 0..executions {
        input.clear();
        input.extend_from_slice(&examples[random.random_range(0..examples.len())]);
        for _ in 0..random.random_range(1..=4) {
            let other = random.random_range(0..examples.len());
            mutate(&mut input, &examples[other], &mut random);
        }
        input.truncate(MAX_BYTES);
        if run(&input) && examples.len() < MAX_CORPUS {
            examples.push(input.clone());
        }
    }
    println!(
        "fuzz: {name}: {executions} executions, {} ways, {:.1} s (seed {seed})",
        ways.len(),
        begun.elapsed().as_secs_f64()
    );
    assert!(ways.len() > 1, "{name}: every input went the same way");
}

/// A hash for the kind of an error. Numbers, and input repeated in backticks, do not make a kind of
/// their own.
pub(crate) fn way(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let before = text.split('`').next().unwrap_or_default();
    let words = before.split(|letter: char| letter.is_ascii_digit());
    words.for_each(|word| word.hash(&mut hasher));
    hasher.finish()
}

/// Checks the message of a refused input: at most `most` bytes, no control characters for
/// terminals. Returns the hash of its kind.
pub(crate) fn refusal(text: &str, most: usize) -> u64 {
    assert!(text.len() < most, "{text}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    way(text)
}

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number"))
    })
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Pcg64Mcg) {
    let at = random.random_range(0..=input.len());
    let some = |length: usize, random: &mut Pcg64Mcg| {
        let from = random.random_range(0..=length);
        from..random.random_range(from..=length.min(from + 32))
    };
    match random.random_range(0..8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => input.insert(at, random.random()),
        2 => {
            let range = some(input.len(), random);
            input.drain(range);
        }
        3 => {
            let range = some(input.len(), random);
            let copied = input[range].to_vec();
            input.splice(at..at, copied);
        }
        4 => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            input.splice(at..at, token.bytes());
        }
        5 => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            let range = some(input.len(), random);
            input.splice(range, token.bytes());
        }
        6 => {
            let range = some(other.len(), random);
            input.splice(at..at, other[range].iter().copied());
        }
        // Splices the beginning of one input and the end of another.
        _ => {
            input.truncate(at);
            let from = random.random_range(0..=other.len());
            input.extend_from_slice(&other[from..]);
        }
    }
}
