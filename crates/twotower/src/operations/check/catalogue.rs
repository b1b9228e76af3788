use super::{Asks, Check, Severity};
use serde::Serialize;
use std::fmt;

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// The database server, the way to it, the schema.
    Database,
    /// What is learned from.
    Data,
    /// Models and their vectors.
    Models,
    /// What answers requests.
    Serving,
    /// What runs by itself.
    Jobs,
    /// The machine, keys, certificates.
    Machine,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Data => "data",
            Self::Models => "models",
            Self::Serving => "serving",
            Self::Jobs => "jobs",
            Self::Machine => "machine",
        })
    }
}

const CRITICAL: Option<Severity> = Some(Severity::Critical);
const WARNING: Option<Severity> = Some(Severity::Warning);
/// Asked by `twotower doctor` alone: it changes when somebody changes something, or costs too much to be asked every few minutes.
const ASKED: Option<Severity> = None;

macro_rules! catalogue {
    ($($topic:ident { $($name:literal $watched:ident $asks:ident $title:literal;)* })*) => {
        /// Every check, in the order in which the doctor reports.
        pub const CATALOGUE: &[Check] = &[
            $($(Check { name: $name, title: $title, topic: Topic::$topic, watched: $watched, asks: Asks::$asks },)*)*
        ];
    };
}

catalogue! {
    Database {
        "database-reachable" CRITICAL Database "the database answers";
        "server-version" ASKED DatabaseServer "PostgreSQL is recent enough";
        "pgvector" ASKED DatabaseServer "pgvector is there and recent enough";
        "migrations" CRITICAL Database "the schema is complete";
        "grants" ASKED DatabaseServer "roles may what they need, and no more";
        "row-security" ASKED DatabaseServer "row level security is on";
        "policies" ASKED DatabaseServer "policies are as the migrations made them";
        "functions" ASKED DatabaseServer "functions are as the migrations made them";
        "triggers" ASKED DatabaseServer "triggers are there and enabled";
        "indexes" ASKED DatabaseServer "indexes are there and valid";
        "unique-likes" ASKED DatabaseServer "a user likes and skips a video once";
        "index-used" ASKED DatabaseServer "searches in SQL use the vector index";
        "tls" ASKED DatabaseServer "the connection is encrypted and the server verified";
        "connections" WARNING DatabaseServer "connections are left";
        "pooler" ASKED DatabaseServer "what stands between us and the server";
        "database-load" ASKED Others "the database's processors have room";
    }
    Data {
        "data-sufficiency" ASKED Database "there is enough to learn from";
    }
    Models {
        "model-files" ASKED Database "the files of the active model are whole";
        "model-signature" ASKED Database "a trusted key has signed the active model";
        "model-quality" ASKED Database "the active model is good enough";
        "dimension" CRITICAL Database "vectors have the model's dimension";
        "vectors-fresh" CRITICAL Database "vectors are kept up to date";
        "vectors-complete" ASKED Database "every video has a good vector";
        "gate-refused" WARNING Database "no newer model was refused";
        "drift" WARNING Database "users like what they are shown as before";
        "erasure-overdue" CRITICAL Database "no model is served that should have been replaced";
        "bucket-private" CRITICAL Others "strangers cannot read the models";
    }
    Serving {
        "server-ready" CRITICAL Others "the server is ready";
        "server-current" CRITICAL Others "the server reaches the database and answers from the active version";
        "server-latency" WARNING Others "lists are answered fast enough";
        "server-errors" CRITICAL Others "requests are answered without errors";
        "server-recall" WARNING Others "the server's index finds the best videos";
        "edge-function" ASKED Others "the edge function answers, and asks for a token";
    }
    Jobs {
        "run-failed" CRITICAL Database "the last run of each job succeeded";
        "run-missed" CRITICAL Database "each job has run when it was due";
        "run-slow" WARNING Database "updates are fast enough";
        "backup-age" WARNING Database "the last backup is recent";
    }
    Machine {
        "disk-space" CRITICAL Others "space is left where models, state, backups and an embedded database are kept";
        "memory" WARNING Others "memory is left";
        "clock" WARNING DatabaseServer "our clock and the database's agree";
        "key-age" WARNING Others "keys are changed regularly";
        "certificate" CRITICAL Others "certificates do not expire soon";
        "secrets-readable" ASKED Others "secrets are readable by their owner alone";
        "environment" ASKED Others "the environment has what the configuration needs";
        "logs" ASKED Others "log files can be written and are rotated";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_hyphens_and_come_once() {
        for (n, check) in CATALOGUE.iter().enumerate() {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(check.name.bytes().all(plain), "{}", check.name);
            let again = CATALOGUE[..n].iter().any(|other| other.name == check.name);
            assert!(!again, "{} comes twice", check.name);
        }
    }
}
