//! Authentication: identifies the caller, by nothing but a bearer token that one of our keys has
//! signed.

mod config;

mod key;

mod jwks;

mod key_file;

mod verified;

mod authenticator;

#[cfg(test)]
mod fuzz;

pub use authenticator::{Authenticator, Identity, ServiceIdentity};
pub use config::{Config, ConfigError, JwksSource, Refresh, Secret};

pub(crate) use authenticator::AuthError;
pub(crate) use key::SessionKey;
