//! Precision of the oracle, item neighbours and popularity on the generated data, under the
//! temporal split.

use super::{Generated, GeneratorOptions, generate};
use rayon::prelude::*;
use std::collections::HashMap;
use std::time::Instant;
use twotower_core::feature::Catalogue;
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::split::{HeldOutUser, Phase, Split, SplitKind};
use twotower_core::time::SECOND_US;
use twotower_store::InteractionRow;
use uuid::Uuid;

/// The snapshot that a store would return for this data.
fn dataset(generated: &Generated) -> Dataset {
    let catalogue = Catalogue::new(generated.videos.clone()).unwrap();
    let rows = |rows: &[InteractionRow]| {
        rows.iter()
            .map(|row| Interaction {
                user: generated.users.binary_search(&row.user).unwrap() as u32,
                item: catalogue.position(row.video).unwrap(),
                at: (row.at_us / SECOND_US) as u32,
            })
            .collect()
    };
    let (likes, skips) = (rows(&generated.likes), rows(&generated.skips));
    Dataset {
        catalogue,
        users: generated.users.len(),
        likes,
        skips,
    }
}

/// Mean precision at 10 over warm users; candidates are all videos except those liked before.
fn precision(users: &[HeldOutUser], scores: impl Fn(&HeldOutUser) -> Vec<f32> + Sync) -> f64 {
    let hits: Vec<usize> = users
        .par_iter()
        .filter(|user| !user.likes.is_empty())
        .map(|user| {
            let mut scores = scores(user);
            for item in &user.likes {
                scores[*item as usize] = f32::NEG_INFINITY;
            }
            let mut order: Vec<u32> = (0..scores.len() as u32).collect();
            let key = |item: &u32| scores[*item as usize];
            order.select_nth_unstable_by(9, |a, b| key(b).total_cmp(&key(a)));
            order[..10]
                .iter()
                .filter(|item| user.targets.contains(item))
                .count()
        })
        .collect();
    hits.iter().sum::<usize>() as f64 / 10.0 / hits.len() as f64
}

/// For each video, its cosine with every video that shares a user who likes both.
fn neighbours(likes: &[Interaction], users: usize, items: usize) -> Vec<Vec<(u32, f32)>> {
    let mut of_user = vec![Vec::new(); users];
    let mut of_item = vec![Vec::new(); items];
    for like in likes {
        of_user[like.user as usize].push(like.item);
        of_item[like.item as usize].push(like.user);
    }
    let norm: Vec<f32> = of_item
        .iter()
        .map(|users| (users.len() as f32).sqrt())
        .collect();
    (0..items)
        .into_par_iter()
        .map(|item| {
            let mut together: HashMap<u32, f32> = HashMap::new();
            for other in of_item[item]
                .iter()
                .flat_map(|user| &of_user[*user as usize])
            {
                *together.entry(*other).or_default() += 1.0;
            }
            let cosine =
                |(other, n): (u32, f32)| (other, n / (norm[item] * norm[other as usize] + 2.0));
            together.into_iter().map(cosine).collect()
        })
        .collect()
}

#[test]
fn the_order_of_time_matters_and_popularity_does_not_suffice() {
    let begin = Instant::now();
    let generated = generate(&GeneratorOptions::default());
    let took = begin.elapsed();
    let dataset = dataset(&generated);
    let items = dataset.catalogue.len();
    let split = Split::new(&dataset, SplitKind::Temporal);
    let seen = split.seen(Phase::Test);
    let users = split.held_out_users(Phase::Test).users;
    let warm = users.iter().filter(|user| !user.likes.is_empty());
    let targets: usize = warm.clone().map(|user| user.targets.len()).sum();

    let at_us = i64::from(split.test[0].at) * SECOND_US;
    let id = |user: &HeldOutUser| -> Uuid { generated.users[user.user as usize] };
    let oracle = precision(&users, |user| {
        generated.oracle.scores(id(user), at_us).unwrap()
    });

    let mut counts = vec![0.0; items];
    for like in &seen {
        counts[like.item as usize] += 1.0;
    }
    let popularity = precision(&users, |_| counts.clone());

    let neighbours = neighbours(&seen, dataset.users, items);
    let knn = |last: usize| {
        precision(&users, |user| {
            let mut scores = vec![0.0; items];
            for liked in user.likes.iter().rev().take(last) {
                for (item, cosine) in &neighbours[*liked as usize] {
                    scores[*item as usize] += cosine;
                }
            }
            scores
        })
    };
    let (recent, all) = (knn(10), knn(usize::MAX));
    let perfect = precision(&users, |user| {
        let recent = user.likes.iter().rev().take(10);
        generated.oracle.near(recent.map(|item| *item as usize))
    });
    println!(
        "generated in {took:.1?}: {} likes, {} skips; {} warm test users with {:.1} targets each\n\
         precision@10: oracle {oracle:.3}, true vectors of the last 10 likes {perfect:.3}, item neighbours of the last 10 likes {recent:.3}, of all {all:.3}, popularity {popularity:.3}",
        generated.likes.len(),
        generated.skips.len(),
        warm.clone().count(),
        targets as f64 / warm.count() as f64,
    );
    assert!((0.45..0.6).contains(&oracle), "{oracle}");
    assert!(popularity < 0.08, "{popularity}");
    assert!(
        popularity < all && all < recent && recent < oracle,
        "{all} {recent}"
    );
}
