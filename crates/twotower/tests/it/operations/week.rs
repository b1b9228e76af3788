//! A week of operation in minutes: scheduler, server and database on a clock that the test moves,
//! with faults in between. Nobody repairs anything; the test checks the alerts that arrive and the
//! final state.

mod clock;

mod household;

mod office;

use household::Household;
use office::Keys;
use std::time::Duration;

/// Every night: backup, update, maintenance. Likes come in during the day.
fn night(house: &mut Household, day: u64) {
    house.likes_come_in();
    for (at, job) in [
        ("01:30", "backup"),
        ("02:00", "update"),
        ("04:30", "maintain"),
    ] {
        house.at(day, at);
        assert_eq!(house.ended(job), "succeeded", "{}", house.log());
    }
    house.recommends();
}

#[test]
fn a_week_runs_itself() {
    let mut house = Household::start();
    let first = house.active_version();

    // Monday: nothing happens.
    night(&mut house, 0);
    house.told_no_more();

    // Tuesday: the update fails because of the database. Readers keep what they see.
    house.likes_come_in();
    house.at(1, "01:30");
    assert_eq!(house.ended("backup"), "succeeded", "{}", house.log());
    house.sql("ALTER TABLE public.user_embeddings ADD CONSTRAINT out_of_order CHECK (updated_at < '2000-01-01') NOT VALID");
    house.at(1, "02:00");
    assert_eq!(house.ended("update"), "failed", "{}", house.log());
    house.told(&["firing run-failed/update"]);
    assert_eq!(house.active_version(), first);
    house.recommends();
    house.sql("ALTER TABLE public.user_embeddings DROP CONSTRAINT out_of_order");
    house.at(1, "04:30");
    assert_eq!(house.ended("maintain"), "succeeded", "{}", house.log());

    // Wednesday: vectors are two days old. The next update succeeds. A cron entry that the
    // scheduler does not know of starts a second one at the same time.
    house.likes_come_in();
    house.at(2, "01:30");
    assert_eq!(house.ended("backup"), "succeeded", "{}", house.log());
    house.told(&["firing vectors-fresh"]);
    let held = house.hold_updates();
    house.at(2, "02:00");
    house.wait("the update is at work", |house| {
        house.sql(
            "SELECT count(*) FROM twotower.job_runs WHERE job = 'update' AND state = 'running'",
        ) == "1"
    });
    assert_eq!(house.twotower("run update"), Some(0));
    assert_eq!(house.ended("update"), "skipped");
    drop(held);
    house.wait("the update is through", |house| house.running() == "0");
    house.told(&["resolved run-failed/update", "resolved vectors-fresh"]);
    // A model that the gate refuses: the threshold is higher than any model reaches.
    house.configure("[gate]\nmin_auc = 0.9999");
    house.at(2, "03:00");
    assert_eq!(house.ended("retrain"), "refused", "{}", house.log());
    house.told(&["firing gate-refused"]);
    assert_eq!(house.active_version(), first);
    house.configure("[gate]\nmin_auc = 0.5");
    house.at(2, "04:30");
    assert_eq!(house.ended("maintain"), "succeeded", "{}", house.log());
    house.recommends();

    // Thursday: the machine is off when the update is due, and comes back later.
    house.likes_come_in();
    house.at(3, "01:30");
    assert_eq!(house.ended("backup"), "succeeded", "{}", house.log());
    house.power_cut();
    house.at(3, "02:20");
    house.power_returns();
    assert_eq!(house.ended("update"), "succeeded", "{}", house.log());
    house.at(3, "04:30");
    assert_eq!(house.ended("maintain"), "succeeded", "{}", house.log());
    house.recommends();

    // Friday: keys are rotated: those of tokens with an overlap, and that of models because of its
    // age.
    night(&mut house, 4);
    // The refusal is alerted again after two days.
    house.told(&["firing key-age", "still_firing gate-refused"]);
    house.office.rotate(Keys::Both);
    assert_eq!(house.recommended_to("old"), 200);
    // The server fetches unknown keys at most once a minute.
    house.wait("the new key is known", |house| {
        house.recommended_to("new") == 200
    });
    house.office.rotate(Keys::New);
    house.new_signing_key();
    house.move_by(Duration::from_mins(6));
    house.told(&["resolved key-age"]);
    house.signer = "new";

    // Saturday: logs are rotated like logrotate does.
    house.likes_come_in();
    house.rotate_logs();
    night(&mut house, 5);
    house.no_line_is_torn();

    // Sunday: the weekly model passes and becomes active.
    house.likes_come_in();
    for (at, job) in [
        ("01:30", "backup"),
        ("02:00", "update"),
        ("03:00", "retrain"),
        ("04:30", "maintain"),
    ] {
        house.at(6, at);
        assert_eq!(house.ended(job), "succeeded", "{}", house.log());
    }
    let last = house.active_version();
    assert!(last > first);
    house.told(&["resolved gate-refused"]);
    house.recommends();

    house.told_no_more();
    let runs = house.sql(
        "SELECT string_agg(format('%s %s %s', job, state, n), ', ' ORDER BY job, state)
         FROM (SELECT job, state, count(*) AS n FROM twotower.job_runs GROUP BY job, state) AS runs",
    );
    assert_eq!(
        runs,
        "backup succeeded 7, maintain succeeded 7, retrain refused 1, retrain succeeded 1, update failed 1, update skipped 1, update succeeded 6"
    );
    let visible = house.sql("SELECT count(*) FROM twotower.models WHERE state = 'active'");
    assert_eq!(visible, "1");
}
