//! Sizes as people write them, in bytes.

use std::str::FromStr;
use thiserror::Error;

/// A number of bytes: `4GB`, `1.5 GiB`, `800MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// The text is not a size.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no size: write a number and KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024)"
)]
pub(crate) struct SizeError(String);

impl FromStr for Bytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = text[..text.len() - unit.len()]
            .parse()
            .map_err(|_| error())?;
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" | "g" => 1e9,
            "tb" => 1e12,
            "kib" => 1024.0,
            "mib" => 1024_f64.powi(2),
            "gib" => 1024_f64.powi(3),
            "tib" => 1024_f64.powi(4),
            _ => return Err(error()),
        };
        Ok(Self((number * factor) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let parsed = |text: &str| text.parse::<Bytes>().map(|Bytes(bytes)| bytes);
        assert_eq!(parsed("4GB"), Ok(4_000_000_000));
        assert_eq!(parsed("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(parsed("512"), Ok(512));
        for wrong in ["", "GB", "4 apples", "-1GB", "1.2.3MB"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
