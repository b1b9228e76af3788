//! Erasures among many writers, and behind those who do not end.

use super::super::functions::circle;
use super::super::person::{ANN, BOB, Person, video};
use super::super::stand_in::Place;
use super::rows_of;
use crate::database::execute;
use std::time::Duration;

/// The application may keep a count of the likes of each video, which writers of other users wait
/// for while an erasure deletes.
#[tokio::test]
async fn an_erasure_is_done_while_others_write_the_same_counts() {
    let url = circle(Place::Plain).await;
    let counts = "CREATE TABLE counts (video_id uuid PRIMARY KEY, likes bigint NOT NULL DEFAULT 0);
        INSERT INTO counts SELECT id FROM videos;
        CREATE FUNCTION count_like() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE public.counts SET likes = likes + 1 WHERE video_id = coalesce(NEW.video_id, OLD.video_id);
            RETURN NULL;
        END $$;
        CREATE TRIGGER counted AFTER INSERT OR DELETE ON likes FOR EACH ROW EXECUTE FUNCTION count_like()";
    execute(&url, counts).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut person = Person::owner(&url).await;
        writers.spawn(async move {
            loop {
                person
                    .run(
                        "INSERT INTO likes (user_id, video_id)
                         SELECT gen_random_uuid(), video_id FROM likes
                         WHERE user_id = 'aaaaaaaa-0000-4000-8000-000000000000' LIMIT 1",
                    )
                    .await
                    .unwrap();
            }
        });
    }
    let mut owner = Person::owner(&url).await;
    let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
    let erased = tokio::time::timeout(Duration::from_secs(30), owner.value(&erase)).await;
    assert_eq!(erased.unwrap().unwrap(), true);
    writers.abort_all();
    assert_eq!(rows_of(&mut owner, ANN).await, 0);
}

/// An erasure lines up for nobody who will not be done in time.
#[tokio::test]
async fn an_erasure_lines_up_behind_no_old_transaction() {
    let url = circle(Place::Plain).await;
    let (_, database) = url.rsplit_once('/').unwrap();
    let patience = format!("ALTER DATABASE {database} SET twotower.erasure_patience = '4 s'");
    execute(&url, &patience).await;
    let mut restoring = Person::owner(&url).await;
    let hold = "BEGIN; SELECT pg_advisory_xact_lock_shared(7310012293695300979)";
    restoring.run(hold).await.unwrap();
    let mut owner = Person::owner(&url).await;
    let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
    let erase = owner.value(&erase);
    tokio::pin!(erase);
    let mut bob = Person::user(&url, BOB).await;
    bob.run("SET statement_timeout = '3s'").await.unwrap();
    let like = format!("like_video('{}')", video(9));
    let erased = loop {
        tokio::select! {
            erased = &mut erase => break erased,
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                bob.value(&like).await.unwrap();
            }
        }
    };
    assert!(erased.is_err());
}

/// Writers who come one after the other, each before the one before it is done, keep no erasure out.
#[tokio::test]
async fn an_erasure_lines_up_in_the_end() {
    let url = circle(Place::Plain).await;
    let (_, database) = url.rsplit_once('/').unwrap();
    let patience = format!("ALTER DATABASE {database} SET twotower.erasure_patience = '4 s'");
    execute(&url, &patience).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let mut person = Person::owner(&url).await;
        writers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(400 * writer)).await;
            loop {
                person
                    .run(
                        "BEGIN; SELECT pg_advisory_xact_lock_shared(7310012293695300979);
                         SELECT pg_sleep(1.6); COMMIT",
                    )
                    .await
                    .unwrap();
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let mut owner = Person::owner(&url).await;
    let erase = format!("(SELECT first_time FROM twotower.erase_user('{ANN}'))");
    assert_eq!(owner.value(&erase).await.unwrap(), true);
    writers.abort_all();
    assert_eq!(rows_of(&mut owner, ANN).await, 0);
}
