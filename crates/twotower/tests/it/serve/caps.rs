//! `max_per_maker` and `max_per_performer` if the nearest videos, more than a list is chosen from,
//! all have one maker.

use super::fixture::{Fixture, Running, catalogue, model, token, user, video};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use twotower::config::Rules;
use twotower::serve::{Policy, ServeConfig};
use twotower_core::feature::Video;
use twotower_core::kernel::dot;
use twotower_store::InteractionKind::Like;
use twotower_store::{EmbeddingRow, VectorTable};
use uuid::Uuid;

const ME: u128 = 900;
const LIKED: [u128; 3] = [20, 27, 33];

/// First of the added videos, in this order: the nearest, all of one maker; the next ones, of
/// another maker; then far ones, two per maker.
const FIRST: u128 = 10_000;
const NEAREST: u128 = 1_500;
const NEXT: u128 = 900;
const FAR: u128 = 300;

/// What the test knows of a video.
struct Known {
    video: Video,
    vector: Vec<f32>,
    likes: usize,
}

fn added(n: u128) -> Video {
    let (maker, performer) = if n < NEAREST {
        ("Giant".into(), "Star".into())
    } else if n < NEAREST + NEXT {
        ("Second".into(), "Second star".into())
    } else {
        (format!("Maker {}", n / 2), format!("Performer {}", n / 2))
    };
    Video {
        id: video(FIRST + n),
        title: format!("Added {n}"),
        maker: Some(maker),
        performers: vec![performer],
        ..Video::default()
    }
}

/// A unit vector near `centre`, with random noise of size `chance`.
fn around(centre: &[f32], chance: f32, random: &mut Pcg64Mcg) -> Vec<f32> {
    let raw: Vec<f32> = centre
        .iter()
        .map(|x| x + chance * random.random_range(-0.5..0.5_f32))
        .collect();
    let norm = dot(&raw, &raw).sqrt();
    raw.iter().map(|x| x / norm).collect()
}

/// Such a catalogue, all its videos by id, and the vector of [`ME`].
fn lopsided() -> (Fixture, Vec<Known>, Vec<f32>) {
    let fixture = Fixture::without_model();
    fixture.interact(Like, user(ME), &LIKED.map(video));
    let version = fixture.train(1);
    let videos = catalogue();
    let model = model(1);
    let vectors = model.embed_videos(&videos).unwrap();
    let mut known: Vec<Known> = (1..)
        .zip(videos)
        .map(|(n, video)| Known {
            video,
            vector: vectors.row(n - 1).to_vec(),
            likes: 12_usize.saturating_sub(n) + usize::from(LIKED.contains(&(n as u128))),
        })
        .collect();
    let likes = LIKED.map(|n| known[n as usize - 1].vector.as_slice());
    let state = model.user_tower.history(likes, std::iter::empty());
    let me = model.user_tower.embed(&state).unwrap();

    let random = &mut Pcg64Mcg::seed_from_u64(7);
    let first = known.len();
    known.extend((0..NEAREST + NEXT + FAR).map(|n| {
        let (vector, likes) = if n < NEAREST {
            (around(&me, 0.05, random), 2)
        } else if n < NEAREST + NEXT {
            (around(&me, 0.3, random), 1)
        } else {
            (around(&[0.0; 8], 1.0, random), 0)
        };
        let video = added(n);
        Known {
            video,
            vector,
            likes,
        }
    }));
    let rows: Vec<_> = (0..)
        .zip(&known[first..])
        .map(|(fingerprint, it)| EmbeddingRow {
            id: it.video.id,
            fingerprint,
            vector: &it.vector,
        })
        .collect();
    let videos: Vec<Video> = known[first..].iter().map(|it| it.video.clone()).collect();
    fixture.runtime.block_on(async {
        fixture.store.write_videos(&videos).await.unwrap();
        let table = VectorTable::Videos;
        let written = fixture.store.write_embeddings(table, version, &rows);
        written.await.unwrap();
    });
    for (who, least) in [(500, 1), (501, 2)] {
        let liked = known[first..].iter().filter(|it| it.likes >= least);
        let liked: Vec<Uuid> = liked.map(|it| it.video.id).collect();
        fixture.interact(Like, user(who), &liked);
    }
    (fixture, known, me)
}

/// Splits `best_first` into videos within all caps, given the ones before, and the others.
fn split<'a>(best_first: &[&'a Known], rules: &Rules) -> (Vec<&'a Known>, Vec<&'a Known>) {
    let mut members: HashMap<(bool, &str), usize> = HashMap::new();
    let most = |performer: bool| {
        let most = if performer {
            rules.max_per_performer
        } else {
            rules.max_per_maker
        };
        if most == 0 { usize::MAX } else { most }
    };
    best_first.iter().partition(|it| {
        let maker = it.video.maker.iter().map(|name| (false, name.as_str()));
        let performers = it.video.performers.iter();
        let performers = performers.map(|name| (true, name.as_str()));
        let groups: Vec<_> = maker.chain(performers).collect();
        let fits = groups
            .iter()
            .all(|group| members.get(group).copied().unwrap_or(0) < most(group.0));
        if fits {
            for group in groups {
                *members.entry(group).or_default() += 1;
            }
        }
        fits
    })
}

/// The expected list.
fn expected(best_first: &[&Known], rules: &Rules, limit: usize) -> Vec<String> {
    let (within, over) = split(best_first, rules);
    let all = within.into_iter().chain(over);
    all.take(limit).map(|it| it.video.id.to_string()).collect()
}

/// All videos except those of `without`, nearest to `vector` first.
fn nearest<'a>(known: &'a [Known], vector: &[f32], without: &[Uuid]) -> Vec<&'a Known> {
    let mut all: Vec<&Known> = known
        .iter()
        .filter(|it| !without.contains(&it.video.id))
        .collect();
    all.sort_by(|a, b| dot(vector, &b.vector).total_cmp(&dot(vector, &a.vector)));
    all
}

fn similar(server: &Running, body: &Value) -> Vec<String> {
    let authorization = format!("Bearer {}", token(user(ME)));
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let path = "/functions/v1/similar_videos";
    let answer = server.client.post(path, &headers, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
    let list = answer.json()["recommendations"].clone();
    list.as_array()
        .unwrap()
        .iter()
        .map(|it| it["video_id"].as_str().unwrap().to_owned())
        .collect()
}

fn rules(max_per_maker: usize, max_per_performer: usize) -> Rules {
    Rules {
        max_per_maker,
        max_per_performer,
        ..Rules::default()
    }
}

#[test]
fn a_cap_is_exceeded_only_where_no_other_video_is_left() {
    let (fixture, known, me) = lopsided();
    let liked = LIKED.map(video);
    let for_me = nearest(&known, &me, &liked);
    let is_giant = |it: &&Known| it.video.maker.as_deref() == Some("Giant");
    assert!(for_me[..NEAREST as usize].iter().all(is_giant));
    let like_one = &known[known.len() - (NEXT + FAR) as usize - 1];
    assert!(is_giant(&like_one));
    let excluded = [&liked[..], &[like_one.video.id]].concat();
    let like_it = nearest(&known, &like_one.vector, &excluded);
    let mut popular: Vec<&Known> = known.iter().collect();
    popular.sort_by_key(|it| (Reverse(it.likes), it.video.id));

    for rules in [rules(1, 0), rules(3, 0), rules(0, 2), rules(2, 1)] {
        let server = fixture.serve_with(ServeConfig {
            policy: Policy {
                rules: rules.clone(),
                ..Policy::default()
            },
            ..fixture.config()
        });
        let recommended = |who: u128, body: Value| {
            let (list, _) = server
                .client
                .recommended(&token(user(who)), &body.to_string());
            list
        };
        for limit in [1, 7, 30, 100] {
            let what = format!("{limit} with {rules:?}");
            let list = recommended(ME, json!({"limit": limit}));
            assert_eq!(list, expected(&for_me, &rules, limit), "{what}");
            let list = recommended(ME + 1, json!({"limit": limit}));
            assert_eq!(list, expected(&popular, &rules, limit), "popular, {what}");
            let body = json!({"video_id": like_one.video.id, "limit": limit});
            let list = similar(&server, &body);
            assert_eq!(list, expected(&like_it, &rules, limit), "similar, {what}");

            // With diversity, others are chosen, but as many.
            let list = recommended(ME, json!({"limit": limit, "diversity": 0.3}));
            let in_order: Vec<&Known> = list
                .iter()
                .map(|id| known.iter().find(|it| it.video.id.to_string() == *id))
                .map(Option::unwrap)
                .collect();
            assert_eq!(list.len(), limit, "{what}");
            assert!(split(&in_order, &rules).1.is_empty(), "diverse, {what}");
        }
        // If nothing else passes the filter, the list has its full length nevertheless.
        let asked = json!({"limit": 100, "filter": {"makers": {"any": ["Giant", "Second"]}}});
        let of_two = for_me.iter().copied();
        let of_two: Vec<&Known> = of_two
            .filter(|it| ["Giant", "Second"].contains(&it.video.maker.as_deref().unwrap_or("")))
            .collect();
        let list = recommended(ME, asked);
        assert_eq!(list, expected(&of_two, &rules, 100), "{rules:?}");
        // Videos below `min_score` do not fill up the list.
        let score = |place: usize| dot(&me, &for_me[place].vector);
        let last = (NEAREST + NEXT) as usize - 200;
        let least = f32::midpoint(score(last), score(last + 1));
        let list = recommended(ME, json!({"limit": 100, "min_score": least}));
        assert_eq!(list, expected(&for_me[..=last], &rules, 100), "{rules:?}");
    }
}
