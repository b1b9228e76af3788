use super::*;
use twotower_core::split::SplitKind;

#[test]
fn a_file_overrides_defaults_and_nothing_else() {
    let config = Config::parse("[hyperparameters]\nepochs = 3\n[training]\nsplit = \"llo\"\n[source]\nlikes = \"SELECT 1\"", Path::new("x.toml")).unwrap();
    assert_eq!(
        config.hyperparameters,
        Hyperparameters {
            epochs: 3,
            ..Hyperparameters::default()
        }
    );
    assert_eq!(
        config.training,
        Training {
            split: SplitKind::Llo,
            ..Training::default()
        }
    );
    assert_eq!(
        config.source,
        Source {
            likes: "SELECT 1".into(),
            ..Source::default()
        }
    );
}

#[test]
fn a_configuration_survives_being_written() {
    let config = Config {
        hyperparameters: Hyperparameters {
            temperature: 0.0837,
            weight_decay: 1e-5,
            epochs: 3,
            ..Hyperparameters::default()
        },
        training: Training {
            split: SplitKind::Llo,
            max_age_days: Some(90),
            allow_few_users: true,
            ..Training::default()
        },
        update: Update {
            index: false,
            ..Update::default()
        },
        gate: GateOptions {
            min_precision_at_10: 0.02,
            ..GateOptions::default()
        },
        storage: Storage {
            url: Some("s3://models".into()),
            trusted_keys: vec!["ed25519:a".into(), "ed25519:b".into()],
            ..Storage::default()
        },
        erase: Erase {
            statements: vec!["delete from b where \"a\" = $1".into()],
            ..Erase::default()
        },
        rules: Rules {
            max_per_maker: 2,
            only: Conditions {
                tags: Choice {
                    none: vec!["a".into()],
                    ..Choice::default()
                },
                ..Conditions::default()
            },
            ..Rules::default()
        },
        serve: Serve {
            request_seconds: 5,
            ..Serve::default()
        },
        database: Database {
            max_connections: 4,
            ..Database::default()
        },
        events: Events {
            store: twotower_store::EventPolicy::LikesAndSkips,
            ..Events::default()
        },
        prune: Prune {
            keep_versions: 1,
            ..Prune::default()
        },
        run: Run {
            state_dir: "elsewhere".into(),
            ..Run::default()
        },
        schedule: Schedule {
            retrain: String::new(),
            ..Schedule::default()
        },
        checks: Checks {
            server: Some("http://127.0.0.1:8080".into()),
            error_percent: 0.5,
            ..Checks::default()
        },
        alerts: Alerts {
            repeat_hours: 12,
            command: vec!["/usr/local/bin/page".into(), "--team".into()],
            ..Alerts::default()
        },
        maintenance: Maintenance {
            window: "22:00-02:00".into(),
            ..Maintenance::default()
        },
        backup: Backup {
            keep: 3,
            ..Backup::default()
        },
        source: Source {
            likes: "SELECT 'it''s', \"a\"\nFROM b".into(),
            ..Source::default()
        },
    };
    let text = config.to_toml(&["temperature", "negatives"]).unwrap();
    assert_eq!(Config::parse(&text, Path::new("x.toml")).unwrap(), config);
    let begin =
        "[hyperparameters]\nepochs = 3\nnegatives = 512\ntemperature = 0.0837\nweight_decay = ";
    assert!(text.starts_with(begin), "{text}");
    assert!(
        !text.contains("embedding_dim") && !text.contains("videos"),
        "{text}"
    );
    let default = Config::parse("", Path::new("x.toml")).unwrap();
    assert_eq!(default.to_toml(&[]).unwrap(), "");
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_one() {
    let error = format!(
        "{:#}",
        Config::parse("[hyperparameters]\n\nembeding_dim = 3", Path::new("x.toml")).unwrap_err()
    );
    assert!(
        error.contains("line 3") && error.contains("did you mean `embedding_dim`?"),
        "{error}"
    );
}

#[test]
fn a_value_outside_its_range_is_refused() {
    let error = format!(
        "{:#}",
        Config::parse("[hyperparameters]\ntemperature = 0", Path::new("x.toml")).unwrap_err()
    );
    assert_eq!(
        error,
        "configuration x.toml, section [hyperparameters]: temperature is 0, expected 0.03 to 10"
    );
}

/// A row trained on few users reveals what they like, so that a number alone does not allow it.
#[test]
fn few_users_are_allowed_by_name_only() {
    let parse = |text: &str| Config::parse(text, Path::new("x.toml"));
    for min_users in [0, 1, 9] {
        let text = format!("[hyperparameters]\nmin_users = {min_users}");
        let said = parse(&text).unwrap_err().to_string();
        let begin =
            format!("configuration x.toml, section [hyperparameters]: min_users is {min_users}, ");
        assert!(said.starts_with(&begin), "{said}");
        assert!(said.contains("from 10 users on"), "{said}");
        assert!(
            said.contains("allow_few_users = true in section [training]"),
            "{said}"
        );
        let allowed = format!("{text}\n[training]\nallow_few_users = true");
        assert_eq!(
            parse(&allowed).unwrap().hyperparameters.min_users,
            min_users
        );
    }
    parse("[hyperparameters]\nmin_users = 10").unwrap();
}
