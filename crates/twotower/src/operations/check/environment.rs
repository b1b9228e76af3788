//! Environment variables that the configuration needs, and placeholders that were copied from a
//! guide and never replaced.

use super::Finding;
use super::round::Round;
use crate::operations::Place;

/// Placeholders of guides, in place of a value.
const PLACEHOLDERS: [&str; 9] = [
    "[YOUR-PASSWORD]",
    "your-project",
    "your-region",
    "your-anon-key",
    "your-service-role-key",
    "sb_secret_your-key",
    "your-access-key-id",
    "your-secret-access-key",
    "<ref>",
];

const SECRET_KEYS: [&str; 3] = [
    "SUPABASE_SECRET_KEYS",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
];

/// Variables that the guides set with a placeholder.
const OF_GUIDES: [&str; 10] = [
    "DATABASE_URL",
    "SUPABASE_URL",
    "SUPABASE_ANON_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_SECRET_KEYS",
    "SUPABASE_JWKS",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
];

pub(super) fn examine(round: &Round<'_>) -> Option<Finding> {
    let variable = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    round
        .wants("environment")
        .then(|| judge(round.place, &variable))
}

fn judge(place: &Place, variable: &dyn Fn(&str) -> Option<String>) -> Finding {
    let check = "environment";
    let mut missing: Vec<String> = Vec::new();
    for name in OF_GUIDES {
        // The address may also be given with --db-url.
        let value = if name == "DATABASE_URL" {
            Some(place.db_url.clone())
        } else {
            variable(name)
        };
        let unfilled = |value: &String| {
            PLACEHOLDERS
                .iter()
                .any(|placeholder| value.contains(placeholder))
        };
        if value.as_ref().is_some_and(unfilled) {
            missing.push(format!(
                "{name} still holds what the guide writes for a value of yours"
            ));
        }
    }
    let storage = &place.config.storage;
    let url = storage.url.as_deref().unwrap_or_default();
    if url.starts_with("supabase://") {
        if storage.supabase_url.is_none() && variable("SUPABASE_URL").is_none() {
            missing.push(
                "SUPABASE_URL is not set, and `supabase_url` of section [storage] neither".into(),
            );
        }
        if SECRET_KEYS.iter().all(|&name| variable(name).is_none()) {
            missing.push(format!("none of {} is set", SECRET_KEYS.join(", ")));
        }
    }
    if url.starts_with("s3://") {
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            if variable(name).is_none() {
                missing.push(format!("{name} is not set"));
            }
        }
    }
    if missing.is_empty() {
        return Finding::passed(check, "what the configuration needs is set");
    }
    let fix = "set them where the jobs get their environment (EnvironmentFile= of the service, the crontab, the container), not in twotower.toml";
    Finding::failed(check, missing.join("; "), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::operations::check::Verdict;
    use std::path::Path;

    fn look(toml: &str, db_url: &str, set: &[(&str, &str)]) -> Finding {
        let place = Place {
            db_url: db_url.into(),
            config_file: None,
            config: Config::parse(toml, Path::new("x.toml")).unwrap(),
        };
        judge(&place, &|name| {
            let found = set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_the_storage_needs_must_be_set_and_filled_in() {
        let url = "postgresql://a/b";
        assert_eq!(look("", url, &[]).verdict, Verdict::Passed);
        let supabase = "[storage]\nurl = \"supabase://models\"";
        let missing = look(supabase, url, &[]).evidence;
        assert!(
            missing.contains("SUPABASE_URL is not set")
                && missing.contains("none of SUPABASE_SECRET_KEYS"),
            "{missing}"
        );
        let set = [
            ("SUPABASE_URL", "https://abc.supabase.co"),
            ("SUPABASE_SERVICE_ROLE_KEY", "s3cret"),
        ];
        let found = look(supabase, url, &set);
        assert_eq!(found.verdict, Verdict::Passed);
        assert!(
            look("[storage]\nurl = \"s3://models\"", url, &[])
                .evidence
                .contains("AWS_ACCESS_KEY_ID")
        );
        let unfilled = look(
            "",
            "postgresql://postgres:[YOUR-PASSWORD]@db.your-project.supabase.co/postgres",
            &[],
        );
        assert!(
            unfilled.evidence.starts_with("DATABASE_URL still holds"),
            "{}",
            unfilled.evidence
        );
        assert!(
            !unfilled.evidence.contains("PASSWORD"),
            "{}",
            unfilled.evidence
        );
    }

    /// Every variable that docs/deployment.md sets to something with a placeholder, as it stands
    /// there.
    #[test]
    fn placeholders_of_our_guide_are_found_in_every_variable() {
        let guide = include_str!("../../../../../docs/deployment.md");
        let exports = guide
            .lines()
            .filter_map(|line| line.strip_prefix("export "));
        let mut placeholders = 0;
        for (name, value) in exports.filter_map(|export| export.split_once('=')) {
            let value = value.trim_matches(['"', '\'']);
            if !value.to_lowercase().contains("your-") {
                continue;
            }
            placeholders += 1;
            let found = if name == "DATABASE_URL" {
                look("", value, &[])
            } else {
                look("", "postgresql://a/b", &[(name, value)])
            };
            assert_eq!(found.verdict, Verdict::Failed, "{name}={value}");
            let expected = format!("{name} still holds");
            assert!(found.evidence.starts_with(&expected), "{}", found.evidence);
        }
        assert!(placeholders >= 8, "{placeholders}");
    }
}
