//! The user tower in SQL: its vectors, and who can see its weights.

use super::context::decoded;
use super::functions::circle;
use super::person::{ANN, BOB, Person, video};
use super::stand_in::Place;
use crate::database::{execute, few_connections, postgres_url};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, Row};
use std::path::PathBuf;
use twotower_core::matrix::Matrix;
use twotower_core::tower::{Dense, Head, UserTower};
use twotower_store::{EmbeddingRow, Store, VectorTable};
use uuid::Uuid;

/// Arbitrary numbers of both signs.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        // SplitMix64 (Steele et al. 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn many(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| size * self.next()).collect()
    }

    fn unit(&mut self, dim: usize) -> Vec<f32> {
        let vector = self.many(dim, 1.0);
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / norm).collect()
    }
}

/// A tower with the shapes of a trained one, and hidden units about as far from 0.
fn tower(decays: Vec<f32>, hidden: usize, dim: usize) -> UserTower {
    let mut numbers = Numbers(7);
    let inputs = (decays.len() + 1) * dim + 2;
    let mut matrix = |rows, cols, size| {
        let mut matrix = Matrix::zeros(rows, cols);
        let random = numbers.many(rows * cols, size);
        matrix.as_mut_slice().copy_from_slice(&random);
        matrix
    };
    let (first, second) = (matrix(inputs, hidden, 0.8), matrix(hidden, dim, 0.3));
    let residual = matrix(inputs, dim, 0.5);
    let mut dense = |weight: Matrix| Dense {
        bias: numbers.many(weight.cols(), 0.2),
        weight,
    };
    UserTower {
        decays,
        skip_decay: 0.9,
        head: Head {
            hidden: dense(first),
            output: dense(second),
            residual,
        },
    }
}

fn fixture() -> UserTower {
    let path = "../../fixtures/user_tower/user_tower.safetensors";
    let bytes = std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    UserTower::from_safetensors(&bytes).unwrap()
}

/// Videos 1 to 2,000. Each tenth has no vector; from 1,801 on a vector has a single nonzero number.
const VIDEOS: usize = 2000;
const SPARSE: usize = 1800;

fn has_vector(n: usize) -> bool {
    !n.is_multiple_of(10)
}

async fn catalogue(url: &str, store: &Store, tower: &UserTower) -> Vec<Vec<f32>> {
    let dim = tower.dim();
    execute(
        url,
        &format!(
            "INSERT INTO videos (id) SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid FROM generate_series(1, {VIDEOS}) AS n;
             INSERT INTO twotower.models (version, state, embedding_dim, snapshot_sha256, hyperparameters, metrics, manifest_sha256)
             VALUES (7, 'active', {dim}, '', '{{}}', '{{}}', '');
             INSERT INTO twotower.active_model (version) VALUES (7)"
        ),
    )
    .await;
    let mut numbers = Numbers(1);
    let vectors: Vec<Vec<f32>> = (0..=VIDEOS)
        .map(|n| {
            let axis = |i| f32::from(u8::from(i == 0));
            if n > SPARSE {
                (0..dim).map(axis).collect()
            } else {
                numbers.unit(dim)
            }
        })
        .collect();
    let rows: Vec<EmbeddingRow<'_>> = (1..=VIDEOS)
        .filter(|&n| has_vector(n))
        .map(|n| EmbeddingRow {
            id: video(n as u128),
            fingerprint: 0,
            vector: &vectors[n],
        })
        .collect();
    store
        .write_embeddings(VectorTable::Videos, 7, &rows)
        .await
        .unwrap();
    assert!(store.write_user_tower(7, tower).await.unwrap());
    vectors
}

/// Lets `user` like or skip `videos`, a second apart, oldest first.
async fn interact(url: &str, table: &str, user: Uuid, videos: &[usize]) {
    let rows: Vec<String> = videos
        .iter()
        .enumerate()
        .map(|(second, &n)| {
            let id = video(n as u128);
            format!("('{user}', '{id}', timestamptz '2026-01-01' + {second} * interval '1 second')")
        })
        .collect();
    if !rows.is_empty() {
        execute(
            url,
            &format!("INSERT INTO {table} VALUES {}", rows.join(", ")),
        )
        .await;
    }
}

async fn user_vector(url: &str, user: Uuid) -> (Value, Option<Vec<f32>>) {
    let mut person = Person::user(url, user).await;
    let rows = person
        .rows("SELECT * FROM twotower.user_vector(7)")
        .await
        .unwrap();
    let vector = rows[0]["vector"].as_array();
    let numbers = |vector: &Vec<Value>| vector.iter().map(|x| x.as_f64().unwrap() as f32).collect();
    (rows[0]["known"].clone(), vector.map(numbers))
}

/// The vector that an Edge Function computes from the vectors it receives.
async fn vector_at_the_edge(url: &str, user: Uuid, tower: &UserTower) -> Option<Vec<f32>> {
    let mut person = Person::user(url, user).await;
    let context = person.value("recommendation_context()").await.unwrap();
    let (likes, skips) = (decoded(&context["likes"]), decoded(&context["skips"]));
    let dim = tower.dim();
    tower.embed(&tower.history(likes.chunks_exact(dim), skips.chunks_exact(dim)))
}

#[tokio::test]
async fn it_gives_what_the_rust_tower_gives() {
    let towers = [
        (Place::Supabase, fixture()),
        (Place::Plain, tower(vec![0.0, 0.5, 0.8, 0.95, 1.0], 128, 64)),
        // One time scale; and many, some of which forget all but a few likes, or nothing.
        (Place::Plain, tower(vec![1.0], 3, 4)),
        (
            Place::OlderSupabase,
            tower(vec![1.0, 1e-30, 0.999_999_9, 0.0, 0.3, 0.7], 16, 12),
        ),
    ];
    for (place, tower) in towers {
        let url = place.migrated().await;
        let store = Store::connect(&url, few_connections()).await.unwrap();
        let vectors = catalogue(&url, &store, &tower).await;
        let spread = |n: usize| (0..n).map(|i| 1 + i * 7 % SPARSE).collect::<Vec<_>>();
        let histories: [(Vec<usize>, Vec<usize>); 10] = [
            (vec![], vec![]),
            (vec![3], vec![]),
            (vec![5, 4], vec![]),
            (spread(50), vec![]),
            (spread(50), vec![9, 1, 20, 12]),
            (spread(1500), spread(30)),
            (vec![], vec![7, 2]),
            (vec![], spread(1200)),
            // None of them has a vector.
            (vec![10, 40], vec![30]),
            // Sums decay over hundreds of likes without vectors.
            (
                [vec![1, 2], (SPARSE + 1..=VIDEOS).collect()].concat(),
                [vec![3], (SPARSE + 1..=VIDEOS).collect()].concat(),
            ),
        ];
        for (user, (likes, skips)) in histories.iter().enumerate() {
            let id = Uuid::from_u128(user as u128 + 1);
            interact(&url, "likes", id, likes).await;
            interact(&url, "skips", id, skips).await;
            let known = |videos: &[usize]| {
                let known = videos.iter().copied().filter(|&n| has_vector(n));
                known.map(|n| &vectors[n][..]).collect::<Vec<_>>()
            };
            // All likes with a vector; of the latest 1,000 skips those with one.
            let skips = known(&skips[skips.len().saturating_sub(1000)..]);
            let expected = tower.embed(&tower.history(known(likes), skips));
            let (told, in_sql) = user_vector(&url, id).await;
            assert_eq!(told, true);
            for found in [in_sql, vector_at_the_edge(&url, id, &tower).await] {
                assert_eq!(expected.is_some(), found.is_some(), "{user}");
                for (x, y) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!((x - y).abs() < 1e-5, "{user}: {found:?} {expected:?}");
                }
            }
        }
        // Writing again changes nothing, and a pruned tower is gone.
        assert!(store.write_user_tower(7, &tower).await.unwrap());
        assert!(user_vector(&url, Uuid::from_u128(2)).await.1.is_some());
        execute(&url, "UPDATE twotower.models SET state = 'retired'").await;
        store.prune_model(7).await.unwrap();
        assert_eq!(
            user_vector(&url, Uuid::from_u128(2)).await,
            (json!(false), None)
        );
    }
}

/// A tower whose vector is the mean of the likes minus the mean of the skips.
pub(super) fn mean_tower() -> UserTower {
    let mut tower = UserTower::zeros(vec![0.5, 1.0], 1.0, 1, 2);
    for axis in 0..2 {
        tower.head.residual.row_mut(2 + axis)[axis] = 1.0;
        tower.head.residual.row_mut(4 + axis)[axis] = -1.0;
    }
    tower
}

#[tokio::test]
async fn recommendations_follow_every_like_and_every_like_taken_back() {
    for place in Place::ALL {
        let url = circle(place).await;
        let store = Store::connect(&url, few_connections()).await.unwrap();
        // A stored vector, newer than the last like at that time.
        execute(
            &url,
            &format!(
                "DELETE FROM skips; INSERT INTO user_embeddings (user_id, model_version, embedding, fingerprint)
                 VALUES ('{ANN}', 7, '[0, -1]', 0)"
            ),
        )
        .await;
        let mut ann = Person::user(&url, ANN).await;
        let best = "(SELECT title FROM recommend_videos(1))";
        assert_eq!(ann.value(best).await.unwrap(), "video 9");
        store.write_user_tower(7, &mean_tower()).await.unwrap();
        // 30° and 60°: both neighbours are equally near. Then 90° and 120°, then the rest without
        // the first two.
        let first = ann.value(best).await.unwrap();
        assert!(first == "video 3" || first == "video 12", "{first}");
        for n in [3, 4] {
            ann.value(&format!("like_video('{}')", video(n)))
                .await
                .unwrap();
        }
        let far = "(SELECT round(score::numeric, 3) FROM recommend_videos(1, false))";
        let between = ann.value(far).await.unwrap();
        assert_eq!(between, json!(0.966), "75° is 15° from two videos");
        for n in [1, 2] {
            ann.value(&format!("like_video('{}', false)", video(n)))
                .await
                .unwrap();
        }
        let near: Vec<Value> = ann
            .rows("SELECT title FROM recommend_videos(2)")
            .await
            .unwrap();
        let titles: Vec<&str> = near
            .iter()
            .map(|row| row["title"].as_str().unwrap())
            .collect();
        assert!(titles.contains(&"video 2") && titles.contains(&"video 5"));
        for n in [3, 4] {
            ann.value(&format!("like_video('{}', false)", video(n)))
                .await
                .unwrap();
        }
        let rows = ann.rows("SELECT * FROM recommend_videos(1)").await.unwrap();
        assert_eq!(rows[0]["source"], "popular");
        // A version without a tower uses the stored vectors.
        execute(&url, "DELETE FROM twotower.user_towers").await;
        ann.value(&format!("like_video('{}')", video(1)))
            .await
            .unwrap();
        let rows = ann.rows("SELECT * FROM recommend_videos(1)").await.unwrap();
        assert_eq!(rows[0]["source"], "two_tower");
    }
}

#[tokio::test]
async fn it_tells_of_the_caller_alone_and_nobody_reads_its_weights() {
    for place in Place::ALL {
        let url = circle(place).await;
        let store = Store::connect(&url, few_connections()).await.unwrap();
        store.write_user_tower(7, &mean_tower()).await.unwrap();
        let (_, of_ann) = user_vector(&url, ANN).await;
        assert!(of_ann.is_some());
        assert_eq!(user_vector(&url, BOB).await, (json!(true), None));
        let mut nobody =
            Person::with_claims(&url, "authenticated", &json!({"role": "authenticated"})).await;
        let call = "SELECT * FROM twotower.user_vector(7)";
        assert_eq!(nobody.rows(call).await.unwrap()[0]["vector"], Value::Null);
        let mut ann = Person::user(&url, ANN).await;
        let mut anonymous = Person::anonymous(&url).await;
        assert_eq!(anonymous.refused(call).await.0, "42501");
        let read = "SELECT weights::text FROM twotower.user_towers";
        for person in [&mut ann, &mut anonymous, &mut nobody] {
            assert_eq!(person.refused(read).await.0, "42501");
        }
        ann.value("erase_me()").await.unwrap();
        assert_eq!(user_vector(&url, ANN).await, (json!(true), None));
        // Likes that follow afterwards are no way around it.
        let like = format!(
            "INSERT INTO likes (user_id, video_id) VALUES ('{ANN}', '{}')",
            video(1)
        );
        execute(&url, &like).await;
        assert_eq!(user_vector(&url, ANN).await, (json!(true), None));
    }
}

/// The application's own tables with text ids, and pgvector moved as the advisors of Supabase
/// suggest.
#[tokio::test]
async fn ids_may_be_text_and_pgvector_may_move() {
    let url = Place::Plain.empty().await;
    execute(
        &url,
        "CREATE TABLE likes (user_id text, video_id text, created_at timestamptz DEFAULT now(), PRIMARY KEY (user_id, video_id));
         CREATE TABLE skips (LIKE likes INCLUDING ALL)",
    )
    .await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    store.migrate().await.unwrap();
    let tower = fixture();
    let vectors = catalogue(&url, &store, &tower).await;
    interact(&url, "likes", ANN, &[3, 4]).await;
    interact(&url, "skips", ANN, &[5]).await;
    let expected = tower
        .embed(&tower.history([&vectors[3][..], &vectors[4]], [&vectors[5][..]]))
        .unwrap();
    let close = |found: Option<Vec<f32>>| {
        let found = found.unwrap();
        let close = |(x, y): (&f32, &f32)| (x - y).abs() < 1e-5;
        assert!(
            found.iter().zip(&expected).all(close),
            "{found:?} {expected:?}"
        );
    };
    close(user_vector(&url, ANN).await.1);
    execute(
        &url,
        "CREATE SCHEMA elsewhere; ALTER EXTENSION vector SET SCHEMA elsewhere",
    )
    .await;
    close(user_vector(&url, ANN).await.1);
}

/// Units of a larger tower would be added to those of a smaller one.
#[tokio::test]
async fn nothing_is_left_of_the_tower_before() {
    let url = postgres_url().await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut rows = async |version: i64| -> String {
        let rows = "SELECT coalesce(string_agg(layer || ' ' || units, ', ' ORDER BY layer), '') FROM
                    (SELECT layer, count(*) AS units FROM twotower.user_towers WHERE version = $1 GROUP BY layer) AS _";
        let rows = sqlx::query(rows).bind(version);
        connection.fetch_one(rows).await.unwrap().get(0)
    };
    let large = UserTower::zeros(vec![0.5, 1.0], 1.0, 8, 4);
    for version in [6, 7] {
        assert!(store.write_user_tower(version, &large).await.unwrap());
    }
    assert_eq!(rows(7).await, "decays 1, hidden 8, output 4");
    assert!(store.write_user_tower(7, &mean_tower()).await.unwrap());
    assert_eq!(rows(7).await, "decays 1, hidden 1, output 2");
    // A tower that does not fit leaves nothing, not even the previous one.
    let wide = UserTower::zeros(vec![1.0], 1.0, 16_000, 2);
    assert!(!store.write_user_tower(7, &wide).await.unwrap());
    assert_eq!(rows(7).await, "");
    assert_eq!(rows(6).await, "decays 1, hidden 8, output 4");
}
