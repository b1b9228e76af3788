//! Extracts the last error from a command's log.

use serde::Deserialize;

/// Reads log lines of either format, one after the other.
#[derive(Debug, Default)]
pub(super) struct LastError {
    message: Option<String>,
    /// Whether the next line may continue the error.
    open: bool,
}

impl LastError {
    pub(super) fn read(&mut self, line: &str) {
        match LogLine::parse(line) {
            LogLine::Error(message) => {
                self.message = Some(message);
                self.open = true;
            }
            LogLine::Other => self.open = false,
            // The message spans several lines, such as a verdict.
            LogLine::Continuation => {
                if let Some(message) = self.message.as_mut().filter(|_| self.open) {
                    message.push('\n');
                    message.push_str(line);
                }
            }
        }
    }

    pub(super) fn into_message(self) -> Option<String> {
        self.message
    }
}

enum LogLine {
    Error(String),
    Other,
    Continuation,
}

#[derive(Deserialize)]
struct JsonLine {
    level: String,
    fields: JsonFields,
}

#[derive(Deserialize)]
struct JsonFields {
    #[serde(default)]
    message: String,
}

impl LogLine {
    fn parse(line: &str) -> Self {
        if let Ok(JsonLine { level, fields }) = serde_json::from_str(line) {
            return if level == "ERROR" {
                Self::Error(fields.message)
            } else {
                Self::Other
            };
        }
        let line = line.trim_start();
        let line = match line.split_once(' ') {
            Some((time, rest)) if is_time(time) => rest.trim_start(),
            _ => line,
        };
        let (level, message) = line.split_once(' ').unwrap_or((line, ""));
        match level {
            "ERROR" => Self::Error(message.to_owned()),
            "WARN" | "INFO" | "DEBUG" | "TRACE" => Self::Other,
            _ => Self::Continuation,
        }
    }
}

/// Whether it has the form `2026-11-26T02:00:00.000000Z`.
fn is_time(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
        && word.contains('T')
        && word.ends_with('Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(log: &str) -> Option<String> {
        let mut last = LastError::default();
        log.lines().for_each(|line| last.read(line));
        last.into_message()
    }

    #[test]
    fn it_is_found_in_either_format() {
        let timed = "2026-11-26T16:44:29.123456Z ERROR one\n2026-11-26T16:44:29.2Z  INFO x\n2026-11-26T16:44:30.1Z ERROR load: disk full";
        assert_eq!(last(timed).as_deref(), Some("load: disk full"));
        assert_eq!(
            last(" WARN a\nERROR b: c\n INFO d").as_deref(),
            Some("b: c")
        );
        let json = r#"{"timestamp":"2026-11-26T16:44:29Z","level":"ERROR","fields":{"message":"b: c"}}
{"timestamp":"2026-11-26T16:44:29Z","level":"INFO","fields":{"message":"d","rows":1}}"#;
        assert_eq!(last(json).as_deref(), Some("b: c"));
        assert_eq!(last("thread 'main' panicked at x\nno level"), None);
    }

    #[test]
    fn it_may_have_several_lines() {
        let log = "ERROR version 2 was refused\nREFUSED  AUC is 0.5\nreaders keep what they see\n INFO ended\nnot of it";
        assert_eq!(
            last(log).as_deref(),
            Some("version 2 was refused\nREFUSED  AUC is 0.5\nreaders keep what they see")
        );
    }
}
