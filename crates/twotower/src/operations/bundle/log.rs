//! The last warnings and errors of log files.

use super::scrub::Scrubber;
use crate::operations::Place;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Number of bytes read from the end of a file.
const TAIL: u64 = 1 << 20;
const LINES: usize = 200;

const LEVELS: [&str; 3] = ["WARN", "ERROR", "CRITICAL"];

/// One text per file.
pub(super) fn last_errors(place: &Place, scrubber: &Scrubber) -> Vec<String> {
    let mut files = place.config.checks.log_files.clone();
    let named = std::env::var_os("TWOTOWER_LOG_FILE").filter(|file| !file.is_empty());
    files.extend(named.map(PathBuf::from));
    let errors = |file: &PathBuf| match tail(file) {
        Ok(text) => select(&text, scrubber),
        Err(error) => format!("cannot be read: {}\n", error.kind()),
    };
    files.iter().map(errors).collect()
}

fn tail(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn select(text: &str, scrubber: &Scrubber) -> String {
    let lines: Vec<String> = text
        .lines()
        .rev()
        .filter_map(|line| trouble(line, scrubber))
        .take(LINES)
        .collect();
    lines.into_iter().rev().map(|line| line + "\n").collect()
}

/// Time, level and plain words of a line, in JSON or text format, if it is a warning or an error.
fn trouble(line: &str, scrubber: &Scrubber) -> Option<String> {
    if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
        let level = fields.get("level")?.as_str()?;
        let level = LEVELS.into_iter().find(|known| *known == level)?;
        let time = fields
            .get("timestamp")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let message = fields
            .get("fields")
            .and_then(|fields| fields.get("message"))
            .and_then(Value::as_str);
        return Some(format!(
            "{} {level} {}",
            moment(time),
            scrubber.words(message.unwrap_or_default())
        ));
    }
    let (level, at) = LEVELS
        .into_iter()
        .filter_map(|level| Some((level, line.find(level)?)))
        .min_by_key(|(_, at)| *at)?;
    let (time, message) = (&line[..at], &line[at + level.len()..]);
    Some(format!(
        "{} {level}{}",
        moment(time),
        scrubber.words(message)
    ))
}

/// `text` if it consists only of digits and the punctuation of a time; else nothing.
fn moment(text: &str) -> &str {
    let text = text.trim();
    let time = text.len() <= 35
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || "-:.TZ+ ".contains(c));
    if time { text } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn only_trouble_is_told_and_only_in_plain_words() {
        let place = Place {
            db_url: "postgresql://me:s3cret-word@host/db".into(),
            config_file: None,
            config: Config::parse("", Path::new("x.toml")).unwrap(),
        };
        let scrubber = Scrubber::new(&place, std::iter::empty());
        let text = "2026-01-01T02:00:00.1Z  INFO update completed successfully\n\
            2026-01-01T02:00:01.1Z ERROR the password s3cret-word of 0b000000-0000-4000-8000-000000000001 was refused\n\
            {\"timestamp\":\"2026-01-02T02:00:00Z\",\"level\":\"WARN\",\"fields\":{\"message\":\"slow answer\",\"title\":\"夜明け\"}}\n\
            {\"timestamp\":\"2026-01-02T02:00:00Z\",\"level\":\"INFO\",\"fields\":{\"message\":\"fine\"}}\n";
        let expected = "2026-01-01T02:00:01.1Z ERROR the password … of … was refused\n2026-01-02T02:00:00Z WARN slow answer\n";
        assert_eq!(select(text, &scrubber), expected);
    }
}
