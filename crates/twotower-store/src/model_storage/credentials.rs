use super::StorageError;
use std::fmt;

/// Credentials for a bucket's server. They come only from the environment and are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
}

impl Credentials {
    /// Reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set, `AWS_SESSION_TOKEN`.
    ///
    /// # Errors
    /// [`StorageError::Credentials`] names the missing variable.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StorageError> {
        let optional = |name: &str| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let required =
            |name: &'static str| optional(name).ok_or(StorageError::Credentials { variable: name });
        Ok(Self {
            access_key_id: required("AWS_ACCESS_KEY_ID")?,
            secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
            session_token: optional("AWS_SESSION_TOKEN"),
        })
    }

    /// Values that no message may contain.
    pub(super) fn secrets(&self) -> Vec<String> {
        let secrets = [Some(&self.secret_access_key), self.session_token.as_ref()];
        secrets.into_iter().flatten().cloned().collect()
    }
}

/// `text` without secrets: a server that refuses a signature can quote what was signed.
pub(super) fn blot(secrets: &[String], text: String) -> String {
    secrets
        .iter()
        .fold(text, |text, secret| text.replace(secret, "[redacted]"))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_is_there_is_not_shown() {
        let variables = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("canary-secret".to_owned()),
            "AWS_SESSION_TOKEN" => Some("canary-token".to_owned()),
            _ => None,
        };
        let credentials = Credentials::from_variables(variables).unwrap();
        assert!(!format!("{credentials:?}").contains("canary"));
        let text = blot(
            &credentials.secrets(),
            "a canary-token b canary-secret".into(),
        );
        assert_eq!(text, "a [redacted] b [redacted]");
        let none =
            Credentials::from_variables(|name| variables(name).filter(|_| name.ends_with("ID")));
        assert!(
            none.unwrap_err()
                .to_string()
                .contains("AWS_SECRET_ACCESS_KEY")
        );
    }
}
