//! Baselines on MovieLens-100K, leave-last-out: `cargo run --release --example quality_baselines -- FOLDER [validation|test]`.
//!
//! FOLDER holds `u.data` and `u.item` as published. Ratings of 4 and 5 are likes, 1 and 2 skips; a film's position is the
//! order of its number; rows stand in the order (time, user, film).

use std::error::Error;
use std::path::Path;
use std::time::Instant;
use twotower_core::evaluate::{self, BaselineOptions, Metric};
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::split::{Phase, Split, SplitKind};
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: quality_baselines FOLDER [validation|test]")?;
    let phase = match arguments.next().as_deref() {
        None | Some("validation") => Phase::Validation,
        Some("test") => Phase::Test,
        Some(other) => return Err(format!("unknown phase {other}").into()),
    };
    let dataset = read(Path::new(&folder))?;
    let split = Split::new(&dataset, SplitKind::Llo);
    let started = Instant::now();
    let comparison = evaluate::compare(
        dataset.catalogue.len(),
        &split,
        phase,
        None,
        &BaselineOptions::default(),
    )?;
    for evaluation in &comparison.evaluations {
        let all = &evaluation.summary.all;
        print!("{:12} {} users", evaluation.name, all.users);
        for metric in Metric::ALL {
            let estimate = all.metric(metric);
            print!(
                "  {} {:.4} ±{:.4}",
                metric.label(),
                estimate.mean,
                estimate.standard_error
            );
        }
        println!("  coverage {:.3}", all.coverage_at_10);
    }
    println!("{:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn read(folder: &Path) -> Result<Dataset, Box<dyn Error>> {
    // Latin-1; only the numbers matter here.
    let films = std::fs::read(folder.join("u.item"))?;
    let films = String::from_utf8_lossy(&films)
        .lines()
        .map(|line| line.split('|').next().unwrap_or_default().parse::<u32>())
        .collect::<Result<Vec<_>, _>>()?;
    let catalogue = Catalogue::new(
        films
            .iter()
            .map(|&film| Video {
                id: Uuid::from_u128(u128::from(film)),
                ..Video::default()
            })
            .collect(),
    )?;
    let (mut likes, mut skips) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(folder.join("u.data"))?.lines() {
        let fields = line
            .split('\t')
            .map(str::parse::<u32>)
            .collect::<Result<Vec<_>, _>>()?;
        let &[user, film, rating, at] = fields.as_slice() else {
            return Err(format!("not four fields: {line}").into());
        };
        let item = catalogue
            .position(Uuid::from_u128(u128::from(film)))
            .ok_or_else(|| format!("film {film} is not in u.item"))?;
        let user = user - 1;
        match rating {
            4.. => likes.push(Interaction { user, item, at }),
            3 => {}
            _ => skips.push(Interaction { user, item, at }),
        }
    }
    likes.sort_by_key(|row| (row.at, row.user, row.item));
    skips.sort_by_key(|row| (row.at, row.user, row.item));
    let users = likes.iter().chain(&skips).map(|row| row.user + 1).max();
    Ok(Dataset {
        catalogue,
        users: users.unwrap_or(0) as usize,
        likes,
        skips,
    })
}
