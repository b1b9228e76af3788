//! Section `[gate]`, which twotower-core defines.

use super::ConfigError;
use super::error::Section;
use std::ops::RangeInclusive;
use std::path::Path;
use twotower_core::gate::GateOptions;

/// Shares of a catalogue, or relative to the active version.
const SHARE: RangeInclusive<f64> = 0.0..=1.0;

/// Rise of a percentile; a negative maximum requires a fall.
const RISE: RangeInclusive<f64> = -1.0..=1.0;

/// Standard deviations; the maximum in effect disables the check.
const DRIFT: RangeInclusive<f64> = 0.0..=1e6;

/// Refuses values that no model or every model would pass, above all `NaN`, with which every
/// comparison is false.
pub(super) fn check(gate: &GateOptions, path: &Path) -> Result<(), ConfigError> {
    let section = Section { path, name: "gate" };
    section.within("min_auc", gate.min_auc, SHARE)?;
    section.within("min_precision_at_10", gate.min_precision_at_10, SHARE)?;
    section.within("min_coverage_ratio", gate.min_coverage_ratio, SHARE)?;
    section.within("max_popularity_rise", gate.max_popularity_rise, RISE)?;
    section.within("max_mean_norm", gate.max_mean_norm, SHARE)?;
    section.within("max_near_duplicates", gate.max_near_duplicates, SHARE)?;
    section.within("min_known_videos", gate.min_known_videos, SHARE)?;
    section.within("min_data_ratio", gate.min_data_ratio, SHARE)?;
    section.within("max_drift", gate.max_drift, DRIFT)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    /// Keys, and the maximum of each.
    const KEYS: [(&str, &str); 9] = [
        ("min_auc", "0 to 1"),
        ("min_precision_at_10", "0 to 1"),
        ("min_coverage_ratio", "0 to 1"),
        ("max_popularity_rise", "-1 to 1"),
        ("max_mean_norm", "0 to 1"),
        ("max_near_duplicates", "0 to 1"),
        ("min_known_videos", "0 to 1"),
        ("min_data_ratio", "0 to 1"),
        ("max_drift", "0 to 1000000"),
    ];

    #[test]
    fn what_is_no_share_is_refused_by_name() {
        for (key, range) in KEYS {
            let parse = |value: &str| {
                Config::parse(&format!("[gate]\n{key} = {value}"), Path::new("x.toml"))
            };
            for value in ["nan", "-nan", "inf", "-inf", "-1.5", "2000000.0"] {
                let said = parse(value).unwrap_err().to_string();
                let begin = format!("configuration x.toml, section [gate]: {key} is ");
                assert!(said.starts_with(&begin), "{said}");
                assert!(said.ends_with(&format!(", expected {range}")), "{said}");
            }
            for value in ["0.0", "0.5", "1.0"] {
                parse(value).unwrap();
            }
        }
    }

    #[test]
    fn every_key_that_is_no_number_of_users_has_a_range() {
        let defaults = toml::Table::try_from(Config::default().gate).unwrap();
        let floats = defaults.iter().filter(|(_, value)| value.is_float());
        let mut named: Vec<&str> = floats.map(|(key, _)| key.as_str()).collect();
        named.sort_unstable();
        let mut checked = KEYS.map(|(key, _)| key);
        checked.sort_unstable();
        assert_eq!(named, checked);
    }
}
