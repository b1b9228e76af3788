use super::{Check, Severity};
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
    ($($topic:ident { $($name:literal $watched:ident $title:literal;)* })*) => {
        /// Every check, in the order in which the doctor reports.
        pub const CATALOGUE: &[Check] = &[
            $($(Check { name: $name, title: $title, topic: Topic::$topic, watched: $watched },)*)*
        ];
    };
}

catalogue! {
    Database {
        "database-reachable" CRITICAL "the database answers";
        "server-version" ASKED "PostgreSQL is recent enough";
        "pgvector" ASKED "pgvector is there and recent enough";
        "migrations" CRITICAL "the schema is complete";
        "grants" ASKED "roles may what they need, and no more";
        "row-security" ASKED "row level security is on";
        "policies" ASKED "policies are as the migrations made them";
        "functions" ASKED "functions are as the migrations made them";
        "triggers" ASKED "triggers are there and enabled";
        "indexes" ASKED "indexes are there and valid";
        "unique-likes" ASKED "a user likes and skips a video once";
        "index-used" ASKED "searches in SQL use the vector index";
        "tls" ASKED "the connection is encrypted and the server verified";
        "connections" WARNING "connections are left";
        "pooler" ASKED "what stands between us and the server";
        "database-load" ASKED "the database's processors have room";
    }
    Data {
        "data-sufficiency" ASKED "there is enough to learn from";
    }
    Models {
        "model-files" ASKED "the files of the active model are whole";
        "model-signature" ASKED "a trusted key has signed the active model";
        "model-quality" ASKED "the active model is good enough";
        "dimension" CRITICAL "vectors have the model's dimension";
        "vectors-fresh" CRITICAL "vectors are kept up to date";
        "vectors-complete" ASKED "every video has a good vector";
        "gate-refused" WARNING "no newer model was refused";
        "drift" WARNING "users like what they are shown as before";
        "erasure-overdue" CRITICAL "no model is served that should have been replaced";
        "bucket-private" CRITICAL "strangers cannot read the models";
    }
    Serving {
        "server-ready" CRITICAL "the server is ready";
        "server-current" CRITICAL "the server reaches the database and answers from the active version";
        "server-latency" WARNING "lists are answered fast enough";
        "server-errors" CRITICAL "requests are answered without errors";
        "server-recall" WARNING "the server's index finds the best videos";
        "edge-function" ASKED "the edge function answers, and asks for a token";
    }
    Jobs {
        "run-failed" CRITICAL "the last run of each job succeeded";
        "run-missed" CRITICAL "each job has run when it was due";
        "run-slow" WARNING "updates are fast enough";
        "backup-age" WARNING "the last backup is recent";
    }
    Machine {
        "disk-space" CRITICAL "space is left where models, state, backups and an embedded database are kept";
        "memory" WARNING "memory is left";
        "clock" WARNING "our clock and the database's agree";
        "key-age" WARNING "keys are changed regularly";
        "certificate" CRITICAL "certificates do not expire soon";
        "secrets-readable" ASKED "secrets are readable by their owner alone";
        "environment" ASKED "the environment has what the configuration needs";
        "logs" ASKED "log files can be written and are rotated";
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
