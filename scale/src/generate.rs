//! Made-up videos, likes and skips, for measuring: popularity is uneven and people have tastes, so that there is something to
//! learn. The same numbers and seed give the same rows.

mod random;

mod rows;

mod world;

use crate::output::Output;
use crate::prepare::write_videos;
use anyhow::{Context, ensure};
use rows::{Kind, write_rows};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::World;

/// `twotower-scale generate`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Rows of likes, of which about one in 500 repeats another and one in 1,000 names no video
    #[arg(long)]
    likes: u64,
    /// Users; about 50 likes each unless given
    #[arg(long)]
    users: Option<u32>,
    /// Videos
    #[arg(long, default_value_t = 20_000)]
    videos: u32,
    /// Skips for every 100 likes
    #[arg(long, default_value_t = 20)]
    skips_percent: u64,
    /// Seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Files of likes, each of a time of its own
    #[arg(long, default_value_t = 16)]
    files: u32,
    /// Folder to write, which must not exist yet
    #[arg(long)]
    to: PathBuf,
}

/// Writes the folder.
///
/// # Errors
/// If the folder is there already or the file system refuses.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.videos > 0 && arguments.files > 0,
        "--videos and --files: expected 1 or more"
    );
    let users = match arguments.users {
        Some(users) => users,
        None => u32::try_from(arguments.likes / 50).context("--likes: too many for --users")?,
    };
    let world = World::new(arguments.seed, users.max(1), arguments.videos);
    let output = Output::create(&arguments.to)?;
    for kind in ["videos", "likes", "skips"] {
        let folder = output.folder().join(kind);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let videos = world.catalogue();
    write_videos(output.file("videos/part-00000.parquet")?, &videos)?.finish()?;

    let skips = arguments.likes * arguments.skips_percent / 100;
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed) as u64;
            let files = u64::from(arguments.files);
            let (kind, total) = match number / files {
                0 => (Kind::Like, arguments.likes),
                1 => (Kind::Skip, skips),
                _ => return Ok(()),
            };
            let part = number % files;
            let rows = total * (part + 1) / files - total * part / files;
            let name = format!("{}/part-{part:05}.parquet", kind.folder());
            write_rows(output.file(&name)?, &world, kind, part, files, rows)?.finish()?;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a thread died"))
        })
    })?;
    let content = serde_json::json!({
        "likes": arguments.likes, "skips": skips, "users": users, "videos": arguments.videos, "seed": arguments.seed,
    });
    let folder = output.finish("generated.json", &content)?;
    println!("generate of {} completed successfully", folder.display());
    Ok(())
}
