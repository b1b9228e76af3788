use super::super::StorageError;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};
use std::fmt;

const API_KEY: HeaderName = HeaderName::from_static("apikey");
/// Prefix of the keys that are not JWTs. They are accepted only in the header `apikey`.
const NEW_KEY: &str = "sb_";

/// A key of a project. It comes only from the environment and is never shown.
#[derive(Clone)]
pub(in super::super) struct ApiKey(String);

impl ApiKey {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        visible.then(|| Self(text.to_owned()))
    }

    /// Adds the headers that the gateway and the storage expect. A key that is not a JWT is refused
    /// in `Authorization`.
    pub(in super::super) fn put_into(&self, headers: &mut HeaderMap) {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let bearer = (!self.0.starts_with(NEW_KEY)).then(|| format!("Bearer {}", self.0));
        let values = [
            (API_KEY, sensitive(&self.0)),
            (
                header::AUTHORIZATION,
                bearer.and_then(|text| sensitive(&text)),
            ),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }

    /// Values that no message may contain.
    pub(in super::super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

/// The key that can read and write every bucket: the first that is set of `SUPABASE_SECRET_KEYS`,
/// `SUPABASE_SECRET_KEY` and `SUPABASE_SERVICE_ROLE_KEY`.
pub(in super::super) fn secret(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ApiKey, StorageError> {
    let refuse = |reason| StorageError::ServiceKey { reason };
    let text = find(
        &variable,
        "SUPABASE_SECRET_KEYS",
        &["SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"],
    );
    let text = text.map_err(refuse)?.ok_or_else(|| {
        refuse("is not set: a private bucket wants SUPABASE_SECRET_KEYS or SUPABASE_SERVICE_ROLE_KEY (dashboard: Settings, API keys)")
    })?;
    if text.starts_with("sb_publishable_") {
        return Err(refuse(
            "is a publishable one, which may write to no private bucket: take the secret one, sb_secret_…",
        ));
    }
    ApiKey::parse(&text).ok_or_else(|| refuse("holds characters that no key has"))
}

/// The key that every copy of an app contains, if known. What it can read is public.
pub(in super::super) fn publishable(variable: impl Fn(&str) -> Option<String>) -> Option<ApiKey> {
    let text = find(
        &variable,
        "SUPABASE_PUBLISHABLE_KEYS",
        &["SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"],
    );
    ApiKey::parse(&text.ok()??)
}

/// Of a JSON object of named keys, the one named `default` or the only one; else the first of the
/// `single` variables that is set.
fn find(
    variable: &impl Fn(&str) -> Option<String>,
    named: &str,
    single: &[&str],
) -> Result<Option<String>, &'static str> {
    let set = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
    if let Some(text) = set(named) {
        let keys: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|_| "is no JSON object of named keys, {\"default\": \"sb_…\"}")?;
        let only = keys.values().next().filter(|_| keys.len() == 1);
        let key = keys.get("default").or(only).and_then(Value::as_str);
        return match key {
            Some(key) => Ok(Some(key.to_owned())),
            None => Err("is not among the named keys: name one of them `default`"),
        };
    }
    Ok(single.iter().find_map(|name| set(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&'static str, &'static str)]) -> Result<ApiKey, StorageError> {
        secret(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    fn headers(key: &ApiKey) -> (String, Option<String>) {
        let mut headers = HeaderMap::new();
        key.put_into(&mut headers);
        let text = |name: HeaderName| Some(headers.get(name)?.to_str().unwrap().to_owned());
        (text(API_KEY).unwrap(), text(header::AUTHORIZATION))
    }

    #[test]
    fn new_keys_go_into_one_header_and_old_ones_into_both() {
        let new = of(&[
            ("SUPABASE_SERVICE_ROLE_KEY", "old"),
            (
                "SUPABASE_SECRET_KEYS",
                "{\"mail\":\"sb_secret_a\",\"default\":\"sb_secret_b\"}",
            ),
        ]);
        assert_eq!(headers(&new.unwrap()), ("sb_secret_b".into(), None));
        let only = of(&[("SUPABASE_SECRET_KEYS", "{\"mail\":\"sb_secret_a\"}")]);
        assert_eq!(headers(&only.unwrap()).0, "sb_secret_a");
        let old = of(&[
            ("SUPABASE_SECRET_KEYS", " "),
            ("SUPABASE_SERVICE_ROLE_KEY", "e.y.J\n"),
        ]);
        let expected = ("e.y.J".to_owned(), Some("Bearer e.y.J".to_owned()));
        assert_eq!(headers(&old.unwrap()), expected);
    }

    #[test]
    fn what_is_no_service_key_is_refused_and_not_shown() {
        for variables in [
            &[][..],
            &[("SUPABASE_SECRET_KEYS", "sb_secret_canary")],
            &[(
                "SUPABASE_SECRET_KEYS",
                "{\"a\":\"canary\",\"b\":\"canary\"}",
            )],
            &[("SUPABASE_SECRET_KEYS", "{\"default\":7}")],
            &[("SUPABASE_SECRET_KEY", "sb_publishable_canary")],
            &[("SUPABASE_SERVICE_ROLE_KEY", "can\nary")],
            &[("SUPABASE_SERVICE_ROLE_KEY", "canary\u{1f511}")],
        ] {
            let error = of(variables).unwrap_err();
            assert!(error.is_usage());
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let key = of(&[("SUPABASE_SECRET_KEY", "canary")]).unwrap();
        assert!(!format!("{key:?}").contains("canary"));
    }
}
