//! Text formats that are read line by line.

use crate::import::reader::{LONGEST_ROW, ReadError};
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

/// Calls `visit` with each line, its line end included, and its number from 1. A line longer than
/// any row is an error that asks whether the file is `what`; so memory is limited.
pub(crate) fn each_line(
    file: impl Read,
    what: &str,
    mut take: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>, ReadError>,
) -> Result<(), ReadError> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = reader
            .by_ref()
            .take(LONGEST_ROW)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if length as u64 == LONGEST_ROW && line.last() != Some(&b'\n') {
            return Err(ReadError::Format(format!(
                "line {number} is longer than {} MiB: is it {what}?",
                LONGEST_ROW >> 20
            )));
        }
        if take(number, &line)?.is_break() {
            break;
        }
    }
    Ok(())
}
