//! The configuration and the environment, without secrets and personal data.

use crate::config::Config;
use serde_json::{Value, json};

/// Sections whose numbers, switches and choices are included. `source`, `erase` and `rules` are
/// not: they hold SQL and words of the application. Neither is `alerts`, which holds addresses of
/// people.
const SECTIONS: [&str; 13] = [
    "hyperparameters",
    "training",
    "update",
    "gate",
    "prune",
    "serve",
    "database",
    "events",
    "run",
    "schedule",
    "checks",
    "maintenance",
    "backup",
];

/// Keys whose text is one of a few words, or a time of a schedule.
const CHOICES: [&str; 10] = [
    "split",
    "selection",
    "store",
    "time_zone",
    "update",
    "retrain",
    "fine_tune",
    "maintain",
    "backup",
    "window",
];

/// Variables that our commands read.
const VARIABLES: [&str; 39] = [
    "DATABASE_URL",
    "DATABASE_REPLICA_URL",
    "TWOTOWER_LOG",
    "TWOTOWER_LOG_FORMAT",
    "TWOTOWER_LOG_FILE",
    "TWOTOWER_ENV",
    "TWOTOWER_LISTEN",
    "TWOTOWER_MODEL_PATH",
    "TWOTOWER_METRICS_LISTEN",
    "TWOTOWER_JWT_SECRET",
    "TWOTOWER_JWT_SECRET_FILE",
    "TWOTOWER_JWT_ISSUER",
    "TWOTOWER_JWT_AUDIENCE",
    "TWOTOWER_SIGNING_KEY",
    "TWOTOWER_SIGNING_KEY_FILE",
    "TWOTOWER_TRUSTED_KEYS",
    "TWOTOWER_ALERT_WEBHOOK",
    "TWOTOWER_ALERT_WEBHOOK_FILE",
    "TWOTOWER_ALERT_SLACK",
    "TWOTOWER_ALERT_SLACK_FILE",
    "TWOTOWER_ALERT_HEARTBEAT",
    "TWOTOWER_ALERT_HEARTBEAT_FILE",
    "TWOTOWER_SMTP_URL",
    "TWOTOWER_SMTP_URL_FILE",
    "TWOTOWER_PROBE_TOKEN_FILE",
    "SUPABASE_URL",
    "SUPABASE_JWKS",
    "SUPABASE_JWT_SECRET",
    "SUPABASE_ANON_KEY",
    "SUPABASE_PUBLISHABLE_KEYS",
    "SUPABASE_PUBLISHABLE_KEY",
    "SUPABASE_SECRET_KEYS",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

/// What differs from the defaults; of free text only that it is set.
pub(super) fn describe(config: &Config) -> anyhow::Result<Value> {
    let changed: toml::Table = toml::from_str(&config.to_toml(&[])?)?;
    let mut sections = serde_json::Map::new();
    for (name, section) in changed {
        let told = match section {
            toml::Value::Table(keys) if SECTIONS.contains(&name.as_str()) => {
                let keys = keys
                    .iter()
                    .map(|(key, value)| (key.clone(), told(key, value)));
                Value::Object(keys.collect())
            }
            _ => json!("set"),
        };
        sections.insert(name, told);
    }
    Ok(Value::Object(sections))
}

fn told(key: &str, value: &toml::Value) -> Value {
    match value {
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) => json!(number),
        toml::Value::Boolean(switch) => json!(switch),
        toml::Value::String(text) if CHOICES.contains(&key) => json!(text),
        toml::Value::Array(values) => {
            let numbers = values
                .iter()
                .all(|value| value.is_integer() || value.is_float());
            if numbers {
                values.iter().map(|value| told(key, value)).collect()
            } else {
                json!(format!("{} set", values.len()))
            }
        }
        _ => json!("set"),
    }
}

/// Which variables are set.
pub(super) fn environment() -> Value {
    let set = VARIABLES.map(|name| (name.to_owned(), json!(std::env::var_os(name).is_some())));
    Value::Object(set.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Variables of flags, and those that docs/configuration.md lists besides.
    #[test]
    fn every_variable_that_commands_read_is_told() {
        fn of_flags(command: &clap::Command, names: &mut BTreeSet<String>) {
            let variables = command.get_arguments().filter_map(clap::Arg::get_env);
            names.extend(variables.map(|name| name.to_str().unwrap().to_owned()));
            for sub in command.get_subcommands() {
                of_flags(sub, names);
            }
        }
        let mut read = BTreeSet::new();
        of_flags(&Cli::command(), &mut read);
        let docs = include_str!("../../../../../docs/configuration.md");
        let section = docs.split("\n## Environment\n").nth(1).unwrap();
        let section = section.split("\n### ").next().unwrap();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let names = row.split('|').nth(1).unwrap().split(", ");
            read.extend(names.map(|name| name.trim().trim_matches('`').to_owned()));
        }
        // Read by the script that starts jobs from cron.
        read.insert("TWOTOWER_ENV".into());
        let told: BTreeSet<String> = VARIABLES.map(str::to_owned).into();
        assert_eq!(told, read);
    }

    #[test]
    fn addresses_paths_and_sql_are_told_to_be_set_and_no_more() {
        let text = "
            [hyperparameters]\nepochs = 3\ndecays = [0.0, 1.0]
            [training]\nsplit = \"llo\"\noutput_dir = \"/srv/jane/models\"
            [source]\nlikes = \"SELECT secret FROM favourites\"
            [checks]\nserver = \"http://10.1.2.3:8080\"\ncertificate_hosts = [\"a.example.com\"]
            [serve]\ncors_origins = [\"https://app.example\"]";
        let config = Config::parse(text, Path::new("x.toml")).unwrap();
        let expected = json!({
            "hyperparameters": {"epochs": 3, "decays": [0.0, 1.0]},
            "training": {"split": "llo", "output_dir": "set"},
            "source": "set",
            "checks": {"server": "set", "certificate_hosts": "1 set"},
            "serve": {"cors_origins": "1 set"},
        });
        assert_eq!(describe(&config).unwrap(), expected);
    }
}
