use super::auth::{self, JwksSource, Secret};
use super::{Policy, ReplicaConfig, ServeConfig};
use crate::config;
use anyhow::Context;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;
use twotower_store::Replica;

/// Environment variables with the HS256 secret. The first one that is set counts.
const SECRET_VARIABLES: [&str; 2] = ["TWOTOWER_JWT_SECRET", "SUPABASE_JWT_SECRET"];

const SECRET_FILE_VARIABLE: &str = "TWOTOWER_JWT_SECRET_FILE";
const JWKS_VARIABLE: &str = "SUPABASE_JWKS";
const ISSUER_VARIABLE: &str = "TWOTOWER_JWT_ISSUER";
const AUDIENCE_VARIABLE: &str = "TWOTOWER_JWT_AUDIENCE";

/// The issuer that stands for any issuer.
const ANY: &str = "*";

/// Flags of `twotower serve`.
///
/// The HS256 secret has no flag, since a command line is visible to other users of the machine: it
/// comes from `TWOTOWER_JWT_SECRET` or `SUPABASE_JWT_SECRET`, or from a file.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::doc_markdown,
    reason = "comments on flags are shown as help, where backticks would stand as they are"
)]
pub struct ServeArgs {
    /// Address and port to listen on
    #[arg(
        long,
        env = "TWOTOWER_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// Folder of models, with one folder for each version
    #[arg(
        long,
        env = "TWOTOWER_MODEL_PATH",
        default_value = "models",
        value_name = "FOLDER"
    )]
    pub model_path: PathBuf,

    /// File with the secret of HS256 tokens [or set TWOTOWER_JWT_SECRET or SUPABASE_JWT_SECRET]
    #[arg(
        long,
        env = SECRET_FILE_VARIABLE,
        value_name = "FILE",
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub jwt_secret_file: Option<PathBuf>,

    /// Public keys of ES256, RS256 and EdDSA tokens: an https address, a file, or (in the
    /// environment) the JSON itself
    #[arg(
        long,
        env = JWKS_VARIABLE,
        hide_env_values = true,
        value_name = "URL|FILE"
    )]
    pub jwks: Option<String>,

    /// Issuer (`iss`) that tokens must name; * for any [default: any]
    #[arg(long, env = ISSUER_VARIABLE, value_name = "ISSUER")]
    pub issuer: Option<String>,

    /// Audience (`aud`) that tokens must name
    #[arg(
        long,
        env = AUDIENCE_VARIABLE,
        default_value = "authenticated",
        value_name = "AUDIENCE"
    )]
    pub audience: String,

    /// Address and port of the metrics for Prometheus, at /metrics [default: none; metrics are not
    /// served]
    #[arg(long, env = "TWOTOWER_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// Streaming replica of the database: postgresql://user@host/database. Users' likes are read
    /// there while it is fresh enough [default: none]
    #[arg(
        long,
        env = "DATABASE_REPLICA_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub replica_url: Option<String>,

    /// The replica must have everything that was committed this many milliseconds ago, or the
    /// primary is read [default: 1000]
    #[arg(long, value_name = "MS")]
    pub replica_max_lag_ms: Option<u32>,

    /// Also serve the console. Anybody who has the printed address can act as any user, so
    /// addresses other than loopback are refused
    #[arg(long)]
    pub console: bool,

    /// Serve the console even on an address that other machines can reach, or behind a proxy:
    /// anybody who has its key can act as any user
    #[arg(long, requires = "console")]
    pub console_on_any_address: bool,
}

/// Arguments with which no server can start. A retry does not help; the operator has to change
/// them.
#[derive(Debug, Error)]
pub enum UsageError {
    /// The file of the secret cannot be read.
    #[error("read the JWT secret {path}: {cause}")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Other machines could reach the console.
    #[error(
        "the console lets its visitor act as any user, and {listen} can be reached from other machines: listen on 127.0.0.1, or add \
         --console-on-any-address if that is what you want"
    )]
    ConsoleInReach {
        /// Address and port.
        listen: SocketAddr,
    },
    /// A lag outside its range.
    #[error("--replica-max-lag-ms is {ms}, expected {least} to {most}")]
    ReplicaMaxLag {
        /// The value given.
        ms: u32,
        /// The smallest allowed value.
        least: u32,
        /// The largest allowed value.
        most: u32,
    },
    /// The database is an SQLite file, which has no replica.
    #[error(
        "--replica-url names a replica of a PostgreSQL server, and the database is a file: leave it out, or set DATABASE_URL"
    )]
    ReplicaOfFile,
}

/// Who can open the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsoleAccess {
    /// Nobody.
    #[default]
    Off,
    /// Anybody on this machine.
    Loopback,
    /// Anybody who reaches the address.
    AnyAddress,
}

impl ServeArgs {
    /// The address of the replica. An empty environment variable counts as not set.
    pub fn replica_url(&self) -> Option<&str> {
        let address = self.replica_url.as_deref()?.trim();
        (!address.is_empty()).then_some(address)
    }

    /// Reads secrets and validates the arguments together.
    ///
    /// # Errors
    /// If a secret cannot be read or is too short, or the source of keys is not trustworthy.
    pub fn into_config(self, config: &config::Config) -> anyhow::Result<ServeConfig> {
        self.into_config_with(config, |variable| std::env::var(variable).ok())
    }

    fn into_config_with(
        self,
        config: &config::Config,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<ServeConfig> {
        let auth = self.auth(&environment)?;
        let limits = config.serve.limits();
        let replica = match self.replica_url() {
            Some(address) => Some(ReplicaConfig {
                replica: Replica::open(address, config.database.options().hurried(limits.database))
                    .context("use the replica of --replica-url")?,
                max_lag: config.serve.replica_max_lag(self.replica_max_lag_ms)?,
            }),
            None => None,
        };
        Ok(ServeConfig {
            listen: self.listen,
            models: self.model_path,
            auth,
            console: match (self.console, self.console_on_any_address) {
                (false, _) => ConsoleAccess::Off,
                (true, false) => ConsoleAccess::Loopback,
                (true, true) => ConsoleAccess::AnyAddress,
            },
            limits,
            policy: Policy::new(config),
            new_days: config.serve.new_days,
            cors: config.serve.cors(),
            metrics_listen: self.metrics_listen,
            events: config.events.store,
            replica,
        })
    }

    /// Keys and claims that tokens are checked against. A flag or variable that is blank counts as
    /// not set, for example `--issuer "$ISSUER"` without that variable: it neither overrides
    /// another source nor makes the server refuse every token.
    fn auth(&self, environment: impl Fn(&str) -> Option<String>) -> anyhow::Result<auth::Config> {
        let set = |flag: Option<&str>, variable: &str| {
            let texts = flag.map(str::to_owned).into_iter();
            texts.chain(environment(variable)).find_map(|text| {
                let text = text.trim();
                (!text.is_empty()).then(|| text.to_owned())
            })
        };
        let flag = self.jwt_secret_file.clone();
        let file = flag
            .into_iter()
            .chain(environment(SECRET_FILE_VARIABLE).map(PathBuf::from));
        let is_blank = |path: &PathBuf| path.to_str().is_some_and(|text| text.trim().is_empty());
        let secret = match file.into_iter().find(|path| !is_blank(path)) {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(secret) => Some(secret),
                Err(cause) => return Err(UsageError::SecretFile { path, cause }.into()),
            },
            None => SECRET_VARIABLES
                .iter()
                .find_map(|variable| set(None, variable)),
        };
        let jwks = set(self.jwks.as_deref(), JWKS_VARIABLE);
        let issuer = set(self.issuer.as_deref(), ISSUER_VARIABLE);
        let default = auth::Config::default();
        Ok(auth::Config {
            secret: secret.as_deref().map(Secret::new).transpose()?,
            jwks: jwks.as_deref().map(JwksSource::parse).transpose()?,
            issuer: issuer.filter(|issuer| issuer != ANY),
            audience: set(Some(&self.audience), AUDIENCE_VARIABLE).unwrap_or(default.audience),
            ..default
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn config(
        arguments: &[&str],
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<ServeConfig> {
        let arguments = std::iter::once(&"serve").chain(arguments);
        Cli::try_parse_from(arguments)?
            .serve
            .into_config_with(&config::Config::parse("", "x.toml".as_ref())?, environment)
    }

    #[test]
    fn defaults() {
        let config = config(&[], |_| None).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.models, PathBuf::from("models"));
        assert_eq!(config.console, ConsoleAccess::Off);
        assert_eq!(config.auth, auth::Config::default());
    }

    #[test]
    fn the_secret_comes_from_the_environment_or_a_file() {
        let secret = "0123456789abcdef0123456789abcdef";
        let named = |wanted: &'static str| {
            move |variable: &str| (variable == wanted).then(|| secret.to_owned())
        };
        let expected = Some(Secret::new(secret).unwrap());
        for variable in SECRET_VARIABLES {
            assert_eq!(config(&[], named(variable)).unwrap().auth.secret, expected);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{secret}\n")).unwrap();
        let flag = format!("--jwt-secret-file={}", file.path().display());
        assert_eq!(config(&[&flag], |_| None).unwrap().auth.secret, expected);
        let short = |variable: &str| {
            let is_secret = variable == SECRET_VARIABLES[0];
            is_secret.then(|| "short".to_owned())
        };
        assert!(config(&[], short).is_err());
    }

    #[test]
    fn a_blank_value_counts_as_not_set() {
        let secret = "0123456789abcdef0123456789abcdef";
        let one = |wanted: &'static str, text: &'static str| {
            move |variable: &str| match variable {
                _ if variable == wanted => Some(text.to_owned()),
                "SUPABASE_JWT_SECRET" => Some(secret.to_owned()),
                _ => None,
            }
        };
        let expected = auth::Config {
            secret: Some(Secret::new(secret).unwrap()),
            ..auth::Config::default()
        };
        for empty in ["", " ", "\n"] {
            for variable in [
                "TWOTOWER_JWT_SECRET",
                SECRET_FILE_VARIABLE,
                JWKS_VARIABLE,
                ISSUER_VARIABLE,
                AUDIENCE_VARIABLE,
            ] {
                let auth = config(&[], one(variable, empty)).unwrap().auth;
                assert_eq!(auth, expected, "{variable}");
            }
            for flag in ["--jwt-secret-file", "--jwks", "--issuer", "--audience"] {
                let auth = config(&[flag, empty], one("OTHER", "")).unwrap().auth;
                assert_eq!(auth, expected, "{flag}");
            }
        }
        // A blank flag does not override the variable.
        let auth = config(&["--issuer", ""], one(ISSUER_VARIABLE, "us")).unwrap();
        assert_eq!(auth.auth.issuer.as_deref(), Some("us"));
        let auth = config(&["--audience", " "], one(AUDIENCE_VARIABLE, "us")).unwrap();
        assert_eq!(auth.auth.audience, "us");
    }

    #[test]
    fn an_issuer_may_be_any() {
        let issuer = |text: &str| config(&["--issuer", text], |_| None).unwrap().auth.issuer;
        assert_eq!(issuer("*"), None);
        assert_eq!(
            issuer(" https://us.example\n").as_deref(),
            Some("https://us.example")
        );
    }

    #[test]
    fn the_console_on_any_address_needs_two_flags() {
        assert!(config(&["--console-on-any-address"], |_| None).is_err());
        let both = ["--console", "--console-on-any-address"];
        let access = |arguments: &[&str]| config(arguments, |_| None).unwrap().console;
        assert_eq!(access(&both), ConsoleAccess::AnyAddress);
        assert_eq!(access(&both[..1]), ConsoleAccess::Loopback);
    }
}
