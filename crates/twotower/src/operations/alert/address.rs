//! Secret addresses: whoever knows one can write to the team. They come from the environment, or
//! from a file that it names; no message and no log line shows them.

use std::fmt;
use thiserror::Error;
use url::{Host, Url};

/// An address that is never displayed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretUrl(Url);

/// Why an address cannot be used. Names the variable, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The file cannot be read.
    #[error("{variable}: the file cannot be read: {reason}")]
    Unreadable {
        /// The variable that names the file.
        variable: String,
        /// What the system said.
        reason: std::io::ErrorKind,
    },
    /// Not a valid address.
    #[error("{variable} is no address: it should be like {example}")]
    Malformed {
        /// The variable it came from.
        variable: String,
        /// An example of a valid one.
        example: &'static str,
    },
    /// Unencrypted: anybody on the network path could read it.
    #[error(
        "{variable} has no encryption: it must begin with https://, except on this machine itself"
    )]
    Plain {
        /// The variable it came from.
        variable: String,
    },
}

impl SecretUrl {
    /// The value of `variable`, or the content of the file that `variable` with the suffix `_FILE`
    /// names; `None` if neither is set.
    ///
    /// # Errors
    /// [`AddressError`]
    pub(super) fn given(
        variable: &str,
        schemes: [&str; 2],
        example: &'static str,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, AddressError> {
        let file = format!("{variable}_FILE");
        let set = |name: &str| environment(name).filter(|text| !text.trim().is_empty());
        let (place, text) = if let Some(text) = set(variable) {
            (variable.to_owned(), text)
        } else if let Some(path) = set(&file) {
            let text = std::fs::read_to_string(path.trim());
            let text = text.map_err(|error| AddressError::Unreadable {
                variable: file.clone(),
                reason: error.kind(),
            })?;
            (file, text)
        } else {
            return Ok(None);
        };
        let malformed = || AddressError::Malformed {
            variable: place.clone(),
            example,
        };
        let url = Url::parse(text.trim()).map_err(|_| malformed())?;
        if !schemes.contains(&url.scheme()) || url.host().is_none() {
            return Err(malformed());
        }
        let address = Self(url);
        if address.0.scheme() == "http" && !address.is_loopback() {
            return Err(AddressError::Plain { variable: place });
        }
        Ok(Some(address))
    }

    /// The address itself, to connect to.
    pub(super) fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether it is on this machine, so that nobody is on the network path.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            // For schemes other than the web's, the parser leaves IP addresses as text.
            Some(Host::Domain(name)) => {
                let number = name.parse::<std::net::IpAddr>();
                name.eq_ignore_ascii_case("localhost") || number.is_ok_and(|it| it.is_loopback())
            }
            None => false,
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Result<Option<SecretUrl>, AddressError> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let environment = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| key == name);
            pair.map(|(_, value)| value.clone())
        };
        SecretUrl::given("HOOK", ["https", "http"], "https://host/path", &environment)
    }

    #[test]
    fn an_address_is_taken_from_the_environment_or_a_file_and_shown_by_neither() {
        assert_eq!(given(&[]), Ok(None));
        assert_eq!(given(&[("HOOK", " ")]), Ok(None));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "https://hooks.example/canary\n").unwrap();
        let path = file.path().to_str().unwrap();
        let address = given(&[("HOOK_FILE", path)]).unwrap().unwrap();
        assert_eq!(address.expose().path(), "/canary");
        assert_eq!(format!("{address:?}"), "SecretUrl(…)");
        for wrong in [
            "canary",
            "ftp://canary.example/x",
            "https://?canary",
            "http://canary.example/",
        ] {
            let error = given(&[("HOOK", wrong)]).unwrap_err().to_string();
            assert!(
                error.starts_with("HOOK ") && !error.contains("canary"),
                "{error}"
            );
        }
        let missing = given(&[("HOOK_FILE", "/nowhere/canary")])
            .unwrap_err()
            .to_string();
        assert_eq!(
            missing,
            "HOOK_FILE: the file cannot be read: entity not found"
        );
    }

    #[test]
    fn without_encryption_only_this_machine_is_written_to() {
        for local in [
            "http://127.0.0.1:1/x",
            "http://localhost/x",
            "http://[::1]/x",
        ] {
            assert!(given(&[("HOOK", local)]).unwrap().unwrap().is_loopback());
        }
        assert!(given(&[("HOOK", "http://localhost.example/x")]).is_err());
        let smtp = SecretUrl(Url::parse("smtp://127.0.0.1:25").unwrap());
        assert!(smtp.is_loopback());
    }
}
