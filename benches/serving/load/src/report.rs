use crate::options::Options;
use crate::outcome::Log;
use crate::schedule::Schedule;
use std::fmt::Display;

/// One line of JSON.
pub(crate) fn report(options: &Options, mut log: Log, schedule: &Schedule) -> String {
    let length = schedule.length().as_secs_f64();
    let ok = log.latency_us.len();
    let answered: u64 = log.statuses.values().sum();
    let failed: u64 = log.failures.values().sum();
    let seconds: Vec<String> = log
        .seconds
        .iter()
        .map(|second| {
            format!(
                r#"{{"ok":{},"partial":{},"refused":{},"other":{},"failed":{},"slowest_us":{}}}"#,
                second.ok,
                second.partial,
                second.refused,
                second.other,
                second.failed,
                second.slowest_us
            )
        })
        .collect();
    let fields = [
        ("connections", options.connections.to_string()),
        ("rate_wanted", options.rate.to_string()),
        ("seconds", format!("{length:.3}")),
        ("sent", (answered + failed).to_string()),
        ("ok", ok.to_string()),
        ("ok_in_time", log.ok_in_time.to_string()),
        ("statuses", object(&log.statuses)),
        ("failures", object(&log.failures)),
        ("without_retry_after", log.without_retry_after.to_string()),
        ("partial", log.partial.to_string()),
        ("cached", log.cached.to_string()),
        ("latency_us", quantiles(&mut log.latency_us)),
        ("service_us", quantiles(&mut log.service_us)),
        ("refusal_us", quantiles(&mut log.refusal_us)),
        ("timeline", format!("[{}]", seconds.join(","))),
    ];
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!(r#""{name}":{value}"#))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn object<'a, K: Display + 'a>(entries: impl IntoIterator<Item = (&'a K, &'a u64)>) -> String {
    let entries: Vec<String> = entries
        .into_iter()
        .map(|(key, count)| format!(r#""{key}":{count}"#))
        .collect();
    format!("{{{}}}", entries.join(","))
}

/// The smallest value that so many per mille of all values do not exceed.
fn quantiles(values: &mut [u32]) -> String {
    values.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (values.len() * per_mille).div_ceil(1000);
        values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    format!(
        r#"{{"p50":{},"p90":{},"p99":{},"p999":{},"max":{}}}"#,
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut values: Vec<u32> = (1..=1000).rev().collect();
        assert_eq!(
            quantiles(&mut values),
            r#"{"p50":500,"p90":900,"p99":990,"p999":999,"max":1000}"#
        );
        assert_eq!(
            quantiles(&mut []),
            r#"{"p50":0,"p90":0,"p99":0,"p999":0,"max":0}"#
        );
    }
}
