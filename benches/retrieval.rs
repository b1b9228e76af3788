//! Retrieval among trained vectors of dimension 64: time per search, recall, bytes per video,
//! seconds to build.
//!
//!     cargo bench -p twotower-core --bench retrieval -- [movielens] [gowalla] [VIDEOS…] [margin=X] [vectors=FOLDER]
//!
//! A number stands for that many generated videos; the default is 10,000, 100,000 and 1,000,000.
//! Each data set is trained first, which takes minutes for a million videos; `vectors` keeps the
//! vectors for the next call. All searches run on one thread. The printed time is the median of
//! wall time over the users' vectors, which other load hardly affects; build time is CPU time of
//! all threads.

#[path = "support/gowalla.rs"]
mod gowalla;

#[path = "support/process.rs"]
mod process;

#[path = "support/public_data.rs"]
mod public_data;

#[path = "support/taste.rs"]
mod taste;

#[path = "support/vectors.rs"]
mod vectors;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashSet;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use twotower_core::index::{
    Attributes, Column, Condition, Filter, Index, IndexKind, IndexOptions, Postings, Scratch,
    Search,
};
use twotower_core::kernel;
use twotower_core::recommend::{Scored, top_k};
use vectors::{Source, Trained};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Number of terms besides those of [`SHARES`], and how many of them a video carries.
const TERMS: u32 = 20_000;
const TERMS_OF_A_VIDEO: usize = 10;

/// Shares of the videos that carry terms 0, 1 and 2, in percent.
const SHARES: [u32; 3] = [1, 5, 20];

/// Number of videos that a long history excludes.
const LONG_HISTORY: usize = 5_000;

/// Row where other work fills the L2 cache before each search, as in a server, and the memory that
/// this work reads.
const COLD: &str = "the same, L2 cache cold";
const OTHERS_BYTES: usize = 4 << 20;

/// Number of searches of each kind; slow kinds get fewer.
const SEARCHES: usize = 1_000;

fn main() -> Outcome<()> {
    let (mut sources, mut options, mut folder) = (Vec::new(), IndexOptions::default(), None);
    for argument in std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
    {
        match argument.split_once('=') {
            Some(("margin", value)) => options.margin = value.parse()?,
            Some(("vectors", value)) => folder = Some(PathBuf::from(value)),
            Some((key, _)) => return Err(format!("no setting `{key}`").into()),
            None => sources.push(match argument.as_str() {
                "movielens" => Source::MovieLens,
                "gowalla" => Source::Gowalla,
                videos => Source::Generated(videos.parse()?),
            }),
        }
    }
    if sources.is_empty() {
        sources = [10_000, 100_000, 1_000_000].map(Source::Generated).to_vec();
    }
    println!("{}, margin {}", process::machine(), options.margin);
    for source in sources {
        measure(source, &source.trained(folder.as_deref())?, options)?;
    }
    Ok(())
}

/// Prints the table of one catalogue.
fn measure(source: Source, trained: &Trained, options: IndexOptions) -> Outcome<()> {
    let vectors = Arc::new(trained.videos.clone());
    let attributes = attributes(vectors.len())?;
    let build = |kind| -> Outcome<(Index, f64)> {
        let begun = process::cpu_seconds()?;
        let options = IndexOptions { kind, ..options };
        let index = Index::new(Arc::clone(&vectors), attributes.clone(), &options)?;
        Ok((index, process::cpu_seconds()? - begun))
    };
    let (exact, exact_seconds) = build(IndexKind::Exact)?;
    let (lists, lists_seconds) = build(IndexKind::Inverted)?;
    let bytes = lists.bytes();
    let a_video = |bytes: usize| bytes as f64 / vectors.len() as f64;
    println!(
        "\n{}: {} videos, {} users; built in {exact_seconds:.2} CPU-s exact, {lists_seconds:.2} with lists; {:.0} bytes a video \
         (vectors {:.0}, codes {:.0}, order {:.0}, lists {:.1}, attributes {:.0})",
        source.name(),
        vectors.len(),
        trained.users.len(),
        a_video(bytes.total()),
        a_video(bytes.vectors),
        a_video(bytes.codes),
        a_video(bytes.order),
        a_video(bytes.lists),
        a_video(bytes.attributes),
    );
    let codes_read = read_seconds(bytes.codes);
    println!(
        "reading: {:.1} GB/s from {} MB, as large as the codes; {:.1} GB/s from 1 GiB",
        bytes.codes as f64 / codes_read / 1e9,
        bytes.codes >> 20,
        f64::from(1 << 30) / read_seconds(1 << 30) / 1e9,
    );
    println!(
        "search                              k    p50 µs    p99 µs   recall   scanned  rescored  lists"
    );
    for k in [10, 100] {
        brute_force(trained, k);
        let asked = Asked {
            trained,
            exact: &exact,
            lists: &lists,
            k,
        };
        let p50 = asked.print("exact", 0, None, true)?;
        println!(
            "    {:.0} % of the bandwidth of reading alone",
            100.0 * codes_read * 1e6 / p50
        );
        asked.print("exact, 50 excluded", 50, None, true)?;
        asked.print("exact, 5,000 excluded", LONG_HISTORY, None, true)?;
        asked.print("lists", 0, None, false)?;
        asked.print("lists, 50 excluded", 50, None, false)?;
        asked.print(COLD, 50, None, false)?;
        asked.print("lists, 5,000 excluded", LONG_HISTORY, None, false)?;
        for (term, share) in (0u32..).zip(SHARES) {
            let filter = Filter {
                conditions: vec![Condition::AnyOf(vec![term])],
            };
            for exact in [true, false] {
                let name = format!("{share} % pass, {}", if exact { "exact" } else { "lists" });
                asked.print(&name, 50, Some(&filter), exact)?;
            }
        }
        let filter = Filter {
            conditions: vec![
                Condition::NoneOf((50..60).collect()),
                Condition::Between {
                    column: 0,
                    values: 0.0..=80.0,
                },
            ],
        };
        asked.print("rules, lists", 50, Some(&filter), false)?;
    }
    Ok(())
}

/// What all searches of a table share.
struct Asked<'a> {
    trained: &'a Trained,
    exact: &'a Index,
    lists: &'a Index,
    k: usize,
}

impl Asked<'_> {
    /// Prints one row. Every other of the user's `excluded` best videos is excluded, and as many
    /// others. Returns the median in µs.
    fn print(
        &self,
        name: &str,
        excluded: usize,
        filter: Option<&Filter>,
        exact: bool,
    ) -> Outcome<f64> {
        let index = if exact { self.exact } else { self.lists };
        let mut scratch = Scratch::default();
        let mut random = Pcg64Mcg::seed_from_u64(3);
        let users = &self.trained.users;
        let searches = if index.len() > 200_000 && exact {
            SEARCHES / 5
        } else {
            SEARCHES
        };
        let searches = searches.min(users.len());
        // Computed before the clock runs, so that no search finds its lists in the cache from
        // another with the same query.
        let mut liked = Vec::with_capacity(searches);
        for user in 0..searches {
            let best = Search {
                k: excluded,
                ..Search::default()
            };
            let best = self.lists.search(users.row(user), &best, &mut scratch)?;
            let mut videos: Vec<u32> = best.iter().step_by(2).map(|scored| scored.item).collect();
            videos.resize_with(excluded, || random.random_range(0..index.len() as u32));
            liked.push(videos);
        }
        let others = vec![1u64; OTHERS_BYTES / 8];
        let (mut times, mut work, mut answers) = (Vec::new(), [0; 3], Vec::new());
        for (user, liked) in liked.iter().enumerate() {
            let request = Search {
                k: self.k,
                exclude: &[liked],
                filter,
                exact,
            };
            if name == COLD {
                black_box(sum(&others));
            }
            let begun = Instant::now();
            let answer = index.search(users.row(user), &request, &mut scratch)?;
            times.push(1e6 * begun.elapsed().as_secs_f64());
            let done = scratch.work();
            work[0] += done.scanned;
            work[1] += done.rescored;
            work[2] += done.lists;
            answers.push(answer);
        }
        let (mut found, mut wanted) = (0, 0);
        // A fifth of the searches suffices for recall where each exact one takes milliseconds.
        let step = if index.len() > 200_000 { 5 } else { 1 };
        for user in (0..if exact { 0 } else { searches }).step_by(step) {
            let request = Search {
                k: self.k,
                exclude: &[&liked[user]],
                filter,
                exact: true,
            };
            let truth = self.exact.search(users.row(user), &request, &mut scratch)?;
            let answer: HashSet<u32> = answers[user].iter().map(|scored| scored.item).collect();
            let kept = truth.iter().filter(|scored| answer.contains(&scored.item));
            (found, wanted) = (found + kept.count(), wanted + truth.len());
        }
        let recall = if exact {
            1.0
        } else {
            found as f64 / wanted as f64
        };
        Ok(row(name, self.k, &mut times, recall, work))
    }
}

/// All scores in 32-bit floats, then the best: the reference of exact search.
fn brute_force(trained: &Trained, k: usize) {
    let (videos, users) = (&trained.videos, &trained.users);
    let mut scores = vec![0.0; videos.len()];
    let none = vec![false; videos.len()];
    let mut times = Vec::new();
    for user in 0..(20_000_000 / videos.len())
        .clamp(20, SEARCHES)
        .min(users.len())
    {
        let query = users.row(user);
        let begun = Instant::now();
        for (score, row) in scores
            .iter_mut()
            .zip(videos.as_slice().chunks_exact(videos.dim()))
        {
            *score = kernel::dot(query, row);
        }
        let best: Vec<Scored> = top_k(&scores, &none, k);
        times.push(1e6 * begun.elapsed().as_secs_f64());
        black_box(best);
    }
    let work = [0, videos.len() * times.len(), 0];
    row("brute force, 32-bit floats", k, &mut times, 1.0, work);
}

fn row(name: &str, k: usize, times: &mut [f64], recall: f64, work: [usize; 3]) -> f64 {
    times.sort_by(f64::total_cmp);
    let n = times.len();
    let [scanned, rescored, lists] = work.map(|sum| sum / n);
    let (p50, p99) = (times[n / 2], times[n * 99 / 100]);
    println!(
        "{name:<32} {k:>4} {p50:>9.1} {p99:>9.1} {recall:>8.4} {scanned:>9} {rescored:>9} {lists:>6}"
    );
    p50
}

/// Terms, prices and times of `n` videos.
fn attributes(n: usize) -> Outcome<Attributes> {
    let mut random = Pcg64Mcg::seed_from_u64(11);
    let mut pairs = Vec::with_capacity(n * (TERMS_OF_A_VIDEO + 1));
    for position in 0..n as u32 {
        for (term, share) in (0..).zip(SHARES) {
            if random.random_range(0..100) < share {
                pairs.push((term, position));
            }
        }
        for _ in 0..TERMS_OF_A_VIDEO {
            // A few terms are frequent and most are rare, like tags.
            let rank = f64::from(TERMS).powf(random.random_range(0.0..1.0)) as u32;
            pairs.push((SHARES.len() as u32 + rank - 1, position));
        }
    }
    let terms = SHARES.len() + TERMS as usize;
    let postings = Postings::new(n, terms, pairs.iter().copied());
    let prices = Column::floats((0..n).map(|_| Some(random.random_range(1.0..100.0))));
    let times = Column::integers((0..n).map(|_| Some(random.random_range(0..1 << 50))));
    Ok(Attributes::new(n, postings, vec![prices, times])?)
}

/// Seconds to read `bytes`, the median of some tries.
fn read_seconds(bytes: usize) -> f64 {
    let buffer = vec![1u64; bytes / 8];
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            black_box(sum(&buffer));
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The sum in 32 lanes, so that memory is the only bottleneck.
fn sum(buffer: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for block in buffer.as_chunks::<32>().0 {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = lane.wrapping_add(*x);
        }
    }
    lanes.iter().fold(0, |a, &b| a.wrapping_add(b))
}
