//! `twotower models`, and what an unattended update does after a rollback.

use super::place::{Place, whole};
use serde_json::{Value, json};
use twotower_store::VectorTable;

fn states(place: &Place) -> Value {
    let models = place.json("models list");
    let models = models.as_array().unwrap().iter();
    models
        .map(|model| json!([model["version"], model["state"]]))
        .collect()
}

#[test]
fn versions_are_promoted_rolled_back_and_retired() {
    for place in Place::on_both() {
        let (one, two) = (place.next_model(), place.next_model());
        assert_eq!(
            place.json("update --model-path models/1")["activated"],
            true
        );
        let loaded = place.json("update --model-path models/2 --no-activate");
        assert_eq!(
            (&loaded["activated"], &loaded["active_version"]),
            (&json!(false), &json!(one))
        );
        assert_eq!(states(&place), json!([[2, "candidate"], [1, "active"]]));
        assert_eq!(place.vectors(), [whole(one), whole(two)]);
        // Held back deliberately: unattended updates do not activate it.
        assert_eq!(place.json("update")["version"], one);

        place.json("models promote 2 --reason better --by ann");
        let listed = place.json("models list");
        assert_eq!(listed[0]["state"], "active");
        assert_eq!(
            (&listed[0]["video_vectors"], &listed[0]["user_vectors"]),
            (&json!(40), &json!(300))
        );
        let shown = place.json("models show 2");
        assert_eq!(shown["activations"][0]["by"], "ann");
        assert_eq!(shown["activations"][0]["reason"], "better");
        assert_eq!(shown["activations"][0]["previous_version"], one);
        for field in [
            "snapshot_sha256",
            "manifest_sha256",
            "hyperparameters",
            "metrics",
        ] {
            assert!(!shown[field].is_null(), "{field}: {shown}");
        }
        assert!(
            place
                .refused("models retire 2", 1)
                .contains("version 2 is active")
        );

        let back = place.json("rollback --reason worse");
        assert_eq!(
            (&back["version"], &back["previous_version"]),
            (&json!(one), &json!(two))
        );
        let update = place.json("update");
        assert_eq!(
            (&update["version"], &update["activated"]),
            (&json!(one), &json!(false)),
            "a rollback is not undone by the next update"
        );
        assert!(place.refused("rollback", 1).contains("name one with --to"));
        place.json("models rollback --to 2");
        assert_eq!(
            place.history(),
            [(1, None), (2, Some(1)), (1, Some(2)), (2, Some(1))]
        );

        let three = place.next_model();
        assert_eq!(
            place.json("update")["version"],
            three,
            "a new model is made active"
        );
        let log = place.refused("update --model-path models/1", 1);
        assert!(log.contains("version 3 is served already"), "{log}");
        assert!(
            place
                .refused("models show 9", 1)
                .contains("version 9 is not registered")
        );
    }
}

#[test]
fn only_what_is_complete_becomes_active() {
    for place in Place::on_both() {
        let (one, two, three) = (place.next_model(), place.next_model(), place.next_model());
        place.json("update --model-path models/1");
        place.json("update --model-path models/2 --no-activate");
        place.json("update --model-path models/3 --no-activate");
        let delete = async {
            let table = VectorTable::Videos;
            let stored = place.store.read_fingerprints(table, two).await.unwrap();
            let ids: Vec<_> = stored.into_iter().map(|(id, _)| id).collect();
            place
                .store
                .delete_embeddings(table, two, &ids)
                .await
                .unwrap();
        };
        place.runtime.block_on(delete);
        let log = place.refused("models promote 2", 1);
        assert!(log.contains("vectors of version 2 are gone"), "{log}");
        assert_eq!(place.json("models retire 3")["state"], "retired");
        place.json("models promote 3");
        assert_eq!(place.history(), [(one, None), (three, Some(one))]);
        // The error suggests this.
        place.json("update --model-path models/2 --no-activate");
        place.json("models promote 2");
        assert_eq!(place.active(), Some(two));
    }
}
