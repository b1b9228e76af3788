//! SHA-256 sums as files name them: 64 lower-case hexadecimal digits.

use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Of a file, which need not fit into memory; `go_on` is asked before each piece, and its error ends it.
pub(crate) fn of_file(
    path: &Path,
    go_on: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let context = || format!("read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut buffer = vec![0; BUFFER];
    let mut hash = Sha256::new();
    loop {
        go_on()?;
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// The digits of a sum.
pub(crate) fn hex(sum: &[u8]) -> String {
    sum.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_sum_of_its_bytes_and_reading_can_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = vec![7; 2 * BUFFER + 1];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(of_file(&path, || Ok(())).unwrap(), of_bytes(&bytes));
        // FIPS 180-4, of "abc".
        assert!(of_bytes(b"abc").starts_with("ba7816bf8f01cfea414140de5dae2223"));
        let ended = of_file(&path, || anyhow::bail!("asked to stop"));
        assert_eq!(ended.unwrap_err().to_string(), "asked to stop");
    }
}
