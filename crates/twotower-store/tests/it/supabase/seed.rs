//! The seed of `supabase db reset`.

use super::person::{BOB, Person};
use super::stand_in::Place;
use serde_json::json;

const SEED: &str = include_str!("../../../../../supabase/seed.sql");

#[tokio::test]
async fn it_is_sown_once_and_recommended_from() {
    for place in Place::ALL {
        let url = place.migrated().await;
        let mut owner = Person::owner(&url).await;
        owner.run(SEED).await.unwrap();
        let counts =
            "SELECT json_build_array((SELECT count(*) FROM videos), (SELECT count(*) FROM likes),
                                              (SELECT count(*) FROM skips))";
        let sown = owner.value(counts).await.unwrap();
        assert_eq!(sown, json!([400, 7904, 1880]), "{place:?}");
        let mut again = Person::owner(&url).await;
        again.run(SEED).await.unwrap();
        assert_eq!(again.value(counts).await.unwrap(), sown, "{place:?}");

        let mut bob = Person::user(&url, BOB).await;
        let rows = bob.rows("SELECT * FROM recommend_videos(10)").await;
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 10, "{place:?}");
        assert!(rows.iter().all(|row| row["source"] == "popular"));
    }
}
