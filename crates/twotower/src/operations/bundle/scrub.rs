//! Removes secrets and personal data from text.

use crate::operations::Place;
use std::borrow::Cow;

/// Placeholder of what was removed.
const PLACEHOLDER: &str = "…";

/// A shorter secret is not searched for: it would match in every other word.
const SHORTEST_SECRET: usize = 6;

/// A longer word with digits is taken for a token, a hash or a key.
const LONGEST_WORD: usize = 24;

/// Knows the secrets of this process, so that they are removed wherever they occur.
#[derive(Debug)]
pub(super) struct Scrubber {
    secrets: Vec<String>,
}

impl Scrubber {
    /// `hosts`: names of machines that jobs have run on.
    pub(super) fn new(place: &Place, hosts: impl Iterator<Item = String>) -> Self {
        let of_environment = std::env::vars().filter(|(name, _)| holds_secret(name));
        let of_environment = of_environment.map(|(_, value)| value);
        let checks = &place.config.checks;
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let names = checks
            .certificate_hosts
            .iter()
            .filter_map(|host| host.split(':').next())
            .chain([machine.trim()]);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let replica = std::env::var("DATABASE_REPLICA_URL").unwrap_or_default();
        let addresses = [place.db_url.as_str(), replica.as_str()];
        let known = of_environment.chain(addresses.into_iter().flat_map(of_address));
        Self::knowing(known.chain(hosts).chain(names))
    }

    fn knowing(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET)
            .collect();
        // The longest first, since one may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// Cleans sentences of our own of secrets, ids, addresses and tokens.
    pub(super) fn text(&self, text: &str) -> String {
        let text = self.without_secrets(text);
        each_word(&text, |word| !is_identifying(word))
    }

    /// Cleans sentences that may hold text of others: only plain words and small numbers stay, and
    /// nothing in quotation marks.
    pub(super) fn words(&self, text: &str) -> String {
        let text = without_quoted(&self.without_secrets(text));
        each_word(&text, is_plain)
    }

    fn without_secrets<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), PLACEHOLDER).into();
            }
        }
        text
    }
}

/// Whether a variable with this name may hold a secret.
fn holds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    [
        "KEY",
        "SECRET",
        "TOKEN",
        "PASS",
        "CREDENTIAL",
        "WEBHOOK",
        "DATABASE_URL",
        "DATABASE_REPLICA_URL",
        // Names of people, and of their folders.
        "USER",
        "LOGNAME",
        "HOME",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// User, password and host of an address.
fn of_address(url: &str) -> Vec<String> {
    let Some((_, rest)) = url.split_once("://") else {
        return Vec::new();
    };
    let Some((credentials, place)) = rest.rsplit_once('@') else {
        return Vec::new();
    };
    let host = place.split(['/', '?', ':']).next().unwrap_or_default();
    let password = credentials.split_once(':').map(|(_, password)| password);
    [Some(credentials), password, Some(host)]
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect()
}

/// Replaces the words that `keep` rejects; the characters around them stay.
fn each_word(text: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut scrubbed = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let around = |c: char| c.is_whitespace() || "(){}<>,;\"'`".contains(c) || c == '…';
        let word = piece.trim_matches(around);
        // A full stop or colon at the end is punctuation; inside a word it belongs to the word.
        let word = word.trim_end_matches(['.', ':', '?', '!']);
        if word.is_empty() || keep(word) {
            scrubbed.push_str(piece);
            continue;
        }
        scrubbed.push_str(&piece.replace(word, PLACEHOLDER));
    }
    scrubbed
}

/// Whether it is a UUID, an address, or looks like a token.
fn is_identifying(word: &str) -> bool {
    let parts = word.split(|c: char| "=,;()\"'`/".contains(c));
    word.contains('@') || word.contains("://") || is_ip(word) || parts.into_iter().any(is_token)
}

fn is_token(part: &str) -> bool {
    let letters = part
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .count();
    let digits = part.chars().filter(char::is_ascii_digit).count();
    let hex = part.len() >= 16 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    part.starts_with("eyJ")
        || part.starts_with("sb_secret")
        || hex
        || (letters >= LONGEST_WORD && digits >= 4)
}

fn is_ip(word: &str) -> bool {
    let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
    word.parse::<std::net::IpAddr>().is_ok()
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok()
}

/// Lower-case ASCII letters with hyphens or underscores, or a number of at most seven digits with a
/// unit.
fn is_plain(word: &str) -> bool {
    let words = !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'_');
    let number = word.trim_end_matches(['%', 's', 'm']);
    let number = number.len() <= 7
        && !number.is_empty()
        && number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    words || number
}

/// Removes what is in quotation marks of any kind.
fn without_quoted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut closing = None;
    for c in text.chars() {
        match closing {
            Some(mark) if c == mark => closing = None,
            Some(_) => {}
            None => {
                closing = match c {
                    '"' | '`' => Some(c),
                    '“' | '„' => Some('”'),
                    '「' => Some('」'),
                    '『' => Some('』'),
                    '(' => Some(')'),
                    _ => None,
                };
                match closing {
                    Some(_) => kept.push_str(PLACEHOLDER),
                    None => kept.push(c),
                }
            }
        }
    }
    kept
}

/// Whether it is an identifier: lower-case letters, digits, underscores.
pub(super) fn is_key(text: &str) -> bool {
    text.len() <= 40
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_somebody_goes_and_our_sentences_stay() {
        let scrubber =
            Scrubber::knowing(of_address("postgresql://me:s3cret!@db.example.com:5432/x"));
        let cases = [
            (
                "cannot connect to postgresql://db.example.com/x: refused",
                "cannot connect to …: refused",
            ),
            (
                "user 0b000000-0000-4000-8000-000000000001 likes",
                "user … likes",
            ),
            ("mail jane@example.com, please", "mail …, please"),
            ("from 10.1.2.3:5432 and [::1]:80", "from … and …"),
            ("password s3cret! is wrong", "password … is wrong"),
            ("token eyJhbGciOi.J9.x", "token …"),
            (
                "policy \"twotower: users read own likes\" of public.likes is missing",
                "policy \"twotower: users read own likes\" of public.likes is missing",
            ),
            (
                "index video_embeddings_updated_at_idx: 12 of 100",
                "index video_embeddings_updated_at_idx: 12 of 100",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(scrubber.text(text), expected);
        }
    }

    #[test]
    fn of_others_sentences_plain_words_stay() {
        let scrubber = Scrubber::knowing([]);
        let cases = [
            (
                "the video 夜明けの街角 was refused after 30 s",
                "the video … was refused after 30 s",
            ),
            ("title \"the quiet harbour\" of Jane", "title … of …"),
            (
                "likes: created_at is 12345678901 from 1970",
                "likes: created_at is … from 1970",
            ),
            ("wrote models/7/weights.safetensors", "wrote …"),
        ];
        for (text, expected) in cases {
            assert_eq!(scrubber.words(text), expected);
        }
    }
}
