//! A hundred thousand videos: index use, recall, and full lists.

use super::functions::encoded;
use super::person::{ANN, Person};
use super::stand_in::Place;
use crate::database::{execute, few_connections};
use serde_json::Value;
use std::collections::HashSet;
use twotower_store::{IndexPlan, Store};

/// Vectors of 64 dimensions in 200 clusters with overlapping neighbours. Ann likes 5,000 of them.
const DATA: &str = "
    SELECT setseed(0.5);
    INSERT INTO videos (id, title, maker)
    SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'video ' || n, 'maker ' || n % 10 FROM generate_series(1, 100000) AS n;
    INSERT INTO twotower.models (version, state, embedding_dim, snapshot_sha256, hyperparameters, metrics, manifest_sha256)
    VALUES (7, 'active', 64, '', '{}', '{}', '');
    INSERT INTO twotower.active_model (version) VALUES (7);
    CREATE TEMP TABLE centres AS
    SELECT c, ARRAY(SELECT random() * 2 - 1 + 0 * c FROM generate_series(1, 64)) AS centre FROM generate_series(0, 199) AS c;
    INSERT INTO video_embeddings (video_id, model_version, embedding, fingerprint)
    SELECT id, 7, extensions.l2_normalize((SELECT array_agg((x + (random() * 2 - 1) * 1.2 + 0 * n)::real) FROM unnest(centre) AS x)::extensions.vector), 0
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM videos) AS v JOIN centres ON c = n % 200;
    INSERT INTO likes (user_id, video_id, created_at)
    SELECT 'aaaaaaaa-0000-4000-8000-000000000000', id, now() - n * interval '1 minute'
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM videos) AS v WHERE n % 200 < 10;
    SELECT twotower.refresh_statistics();
    ANALYZE";

fn ids(rows: &[Value]) -> HashSet<String> {
    rows.iter()
        .map(|row| row["video_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_index_finds_what_a_scan_finds() {
    let url = Place::Supabase.migrated().await;
    execute(&url, DATA).await;
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let plan = IndexPlan {
        version: 7,
        dim: 64,
        rows: 100_000,
        memory_cap_mb: 512,
    };
    store.build_vector_index(&plan).await.unwrap();
    let mut ann = Person::user(&url, ANN).await;

    ann.run("SET plan_cache_mode = force_custom_plan")
        .await
        .unwrap();
    let statement = ann
        .value("twotower.nearest(7, 64, ' and (v.maker is null or v.maker <> all ($4))')")
        .await
        .unwrap();
    let prepare = format!(
        "PREPARE nearest (real[], uuid[], integer, text[]) AS {}",
        statement.as_str().unwrap()
    );
    ann.run(&prepare).await.unwrap();
    let liked = ann
        .value("(SELECT array_agg(video_id)::text FROM likes)")
        .await
        .unwrap();
    let explain = format!(
        "EXPLAIN EXECUTE nearest (array_fill(0.125::real, ARRAY[64]), '{}', 100, ARRAY['maker 1'])",
        liked.as_str().unwrap()
    );
    let explained = ann.lines(&explain).await.unwrap();
    let by_index = explained.contains("Index Scan using video_embeddings_hnsw_7");
    assert!(by_index && !explained.contains("Sort"), "{explained}");

    let mut owner = Person::owner(&url).await;
    let (mut found, mut all) = (0_u32, 0_u32);
    // A user vector between two videos.
    let queries = "SELECT l2_normalize(a.embedding + b.embedding)::real[] AS vector
        FROM (SELECT embedding, row_number() OVER (ORDER BY md5(video_id::text)) AS n FROM video_embeddings) AS a
        JOIN (SELECT embedding, row_number() OVER (ORDER BY md5(video_id::text || '-')) AS n FROM video_embeddings) AS b USING (n)
        WHERE n <= 50";
    for query in owner.rows(queries).await.unwrap() {
        let vector = query["vector"].as_array().unwrap().iter();
        let vector: Vec<f32> = vector.map(|x| x.as_f64().unwrap() as f32).collect();
        let numbers = format!("{vector:?}");
        let query = encoded(&vector);
        for limit in [10, 100] {
            let exact = owner
                .rows(&format!(
                    "SELECT video_id FROM video_embeddings WHERE video_id NOT IN (SELECT video_id FROM likes)
                     ORDER BY embedding <#> '{numbers}' LIMIT {limit}"
                ))
                .await
                .unwrap();
            let recommended =
                format!("SELECT * FROM recommend_videos({limit}, query => '{query}')");
            let recommended = ann.rows(&recommended).await.unwrap();
            // 5,000 liked videos of 100,000 are left out, and the list is full.
            assert_eq!(recommended.len(), limit);
            let scores: Vec<f64> = recommended
                .iter()
                .map(|row| row["score"].as_f64().unwrap())
                .collect();
            assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
            if limit == 10 {
                found += ids(&recommended).intersection(&ids(&exact)).count() as u32;
                all += limit as u32;
            }
        }
    }
    let recall = f64::from(found) / f64::from(all);
    assert!(recall >= 0.95, "recall@10 is {recall}");

    // Blocks that leave one maker of ten, and a vector amid Ann's likes: still full, by the index
    // or a full scan.
    let blocks = "INSERT INTO recommendation_blocks (user_id, kind, value)
        SELECT 'aaaaaaaa-0000-4000-8000-000000000000', 'maker', 'maker ' || n FROM generate_series(0, 8) AS n";
    ann.run(blocks).await.unwrap();
    let rows = ann
        .rows("SELECT * FROM recommend_videos(100)")
        .await
        .unwrap();
    assert_eq!(ids(&rows).len(), 100);
}
