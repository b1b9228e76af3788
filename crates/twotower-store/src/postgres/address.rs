use crate::StoreError;
use crate::network::is_loopback;
use crate::store::redact;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::str::FromStr;

/// Parses the address and decides on encryption.
///
/// Likes are sensitive. Connections to other machines are encrypted and the server's name is
/// verified, unless the address itself asks for a weaker mode that still encrypts. The driver's
/// default would silently fall back to plain text.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|cause| StoreError::Connect {
        address: redact(url),
        cause,
    })?;
    let local = is_local(&options);
    let mode = match (ssl_mode(url), local) {
        (None, true) => PgSslMode::Prefer,
        (None, false) => PgSslMode::VerifyFull,
        (Some(mode), false) if !["require", "verify-ca", "verify-full"].contains(&mode) => {
            return Err(StoreError::Insecure {
                host: options.get_host().to_owned(),
                mode: mode.to_owned(),
            });
        }
        (Some(_), _) => options.get_ssl_mode(),
    };
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("twotower"),
    };
    Ok(options
        .ssl_mode(mode)
        // Poolers refuse the parameter, and numbers are transferred in binary anyway.
        .extra_float_digits(None)
        .disable_statement_logging())
}

/// Whether the server is on this machine.
pub(super) fn is_local(options: &PgConnectOptions) -> bool {
    !is_by_name(options) || is_loopback(options.get_host())
}

/// Whether the server is reached by network rather than by a Unix socket.
pub(super) fn is_by_name(options: &PgConnectOptions) -> bool {
    options.get_socket().is_none() && !options.get_host().starts_with('/')
}

/// The mode set in the address itself; the environment does not count.
fn ssl_mode(url: &str) -> Option<&str> {
    let query = url.split_once('?')?.1.split('#').next()?;
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| ["sslmode", "ssl-mode"].contains(key))
        .map(|(_, mode)| mode)
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<PgSslMode, StoreError> {
        parse(url).map(|options| options.get_ssl_mode())
    }

    #[test]
    fn outside_this_machine_connections_are_encrypted_and_verified() {
        for local in ["localhost", "127.0.0.1:5433", "127.9.9.9", "[::1]:5432"] {
            let url = format!("postgresql://me@{local}/db");
            assert!(matches!(mode(&url), Ok(PgSslMode::Prefer)), "{url}");
            let url = format!("{url}?sslmode=disable");
            assert!(matches!(mode(&url), Ok(PgSslMode::Disable)), "{url}");
        }
        for remote in ["db.example.com", "10.0.0.1:6543", "localhost.example.com"] {
            let url = format!("postgresql://me:s3cret@{remote}/db");
            assert!(matches!(mode(&url), Ok(PgSslMode::VerifyFull)), "{url}");
            let encrypted = format!("{url}?application_name=x&sslmode=require");
            assert!(matches!(mode(&encrypted), Ok(PgSslMode::Require)));
            for refused in ["disable", "allow", "prefer"] {
                let error = mode(&format!("{url}?sslmode={refused}")).unwrap_err();
                assert!(matches!(error, StoreError::Insecure { .. }), "{error}");
                assert!(!error.to_string().contains("s3cret"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_said_in_disguise_does_not_count() {
        let url = "postgresql://me@db.example.com/db?ssl%6dode=disable";
        assert!(matches!(mode(url), Ok(PgSslMode::VerifyFull)));
        let url = "postgresql://me@localhost/db?host=db.example.com&sslmode=disable";
        assert!(matches!(mode(url), Err(StoreError::Insecure { .. })));
    }

    #[test]
    fn errors_hold_no_password() {
        for url in [
            "postgresql://me:s3cret@host:notaport/db",
            "postgresql://me:s3cret@host/db?sslmode=nonsense",
            "postgresql://me:s3cret@ho st/db",
        ] {
            let error = parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }
}
