//! SHA-256 sums of files, as 64 lower-case hexadecimal digits.

use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use twotower_store::hex;

/// Number of bytes read at once.
const BUFFER: usize = 1 << 20;

/// The sum of a file, which need not fit into memory. `go_on` is called before each read; its error
/// ends the reading.
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

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_store::sha256;

    #[test]
    fn a_file_has_the_sum_of_its_bytes_and_reading_can_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = vec![7; 2 * BUFFER + 1];
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(of_file(&path, || Ok(())).unwrap(), sha256(&bytes));
        // FIPS 180-4, of "abc".
        assert!(sha256(b"abc").starts_with("ba7816bf8f01cfea414140de5dae2223"));
        let ended = of_file(&path, || anyhow::bail!("asked to stop"));
        assert_eq!(ended.unwrap_err().to_string(), "asked to stop");
    }
}
