use super::{Check, Needs, Severity};
use serde::Serialize;
use std::fmt;

/// Topic of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// The database server, the connection to it, the schema.
    Database,
    /// Training data.
    Data,
    /// Models and their vectors.
    Models,
    /// The server that answers requests.
    Serving,
    /// Scheduled jobs.
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
/// Run by `twotower doctor` only: it changes only when somebody changes something, or is too
/// expensive for every few minutes.
const DOCTOR_ONLY: Option<Severity> = None;

macro_rules! catalogue {
    ($($topic:ident { $($name:literal $watched:ident $needs:ident $title:literal;)* })*) => {
        /// Every check, in the order in which the doctor reports them.
        pub const CATALOGUE: &[Check] = &[
            $($(Check { name: $name, title: $title, topic: Topic::$topic, watched: $watched, needs: Needs::$needs },)*)*
        ];
    };
}

catalogue! {
    Database {
        "database-reachable" CRITICAL Database "the database answers";
        "server-version" DOCTOR_ONLY DatabaseServer "PostgreSQL is recent enough";
        "pgvector" DOCTOR_ONLY DatabaseServer "pgvector is there and recent enough";
        "migrations" CRITICAL Database "the schema is complete";
        "grants" DOCTOR_ONLY DatabaseServer "roles may what they need, and no more";
        "row-security" DOCTOR_ONLY DatabaseServer "row level security is on";
        "policies" DOCTOR_ONLY DatabaseServer "policies are as the migrations made them";
        "functions" DOCTOR_ONLY DatabaseServer "functions are as the migrations made them";
        "triggers" DOCTOR_ONLY DatabaseServer "triggers are there and enabled";
        "indexes" DOCTOR_ONLY DatabaseServer "indexes are there and valid";
        "unique-likes" DOCTOR_ONLY DatabaseServer "a user likes and skips a video once";
        "index-used" DOCTOR_ONLY DatabaseServer "searches in SQL use the vector index";
        "tls" DOCTOR_ONLY DatabaseServer "the connection is encrypted and the server verified";
        "connections" WARNING DatabaseServer "connections are left";
        "pooler" DOCTOR_ONLY DatabaseServer "what stands between us and the server";
        "database-load" DOCTOR_ONLY Others "the database's processors have room";
    }
    Data {
        "data-sufficiency" DOCTOR_ONLY Database "there is enough to learn from";
    }
    Models {
        "model-files" DOCTOR_ONLY Database "the files of the active model are whole";
        "model-signature" DOCTOR_ONLY Database "a trusted key has signed the active model";
        "model-quality" DOCTOR_ONLY Database "the active model is good enough";
        "dimension" CRITICAL Database "vectors have the model's dimension";
        "vectors-fresh" CRITICAL Database "vectors are kept up to date";
        "vectors-complete" DOCTOR_ONLY Database "every video has a good vector";
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
        "edge-function" CRITICAL Others "the edge function answers, and asks for a token";
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
        "secrets-readable" DOCTOR_ONLY Others "secrets are readable by their owner alone";
        "environment" DOCTOR_ONLY Others "the environment has what the configuration needs";
        "logs" DOCTOR_ONLY Others "log files can be written and are rotated";
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
