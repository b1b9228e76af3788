//! Progress on a terminal, a log line per interval elsewhere.
