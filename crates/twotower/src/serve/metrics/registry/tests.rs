use super::*;
use crate::serve::metrics::{CATALOGUE, Kind};

#[test]
fn a_histogram_is_cumulative() {
    let metrics = Metrics::default();
    let timing = Timing::default();
    for ms in [1, 2, 40_000] {
        metrics.answered("/x", 200, Duration::from_millis(ms), &timing);
    }
    let text = metrics.render();
    for line in [
        r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="0.001"} 1"#,
        r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="0.0025"} 2"#,
        r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="30"} 2"#,
        r#"twotower_http_request_duration_seconds_bucket{route="/x",status="200",le="+Inf"} 3"#,
        r#"twotower_http_request_duration_seconds_sum{route="/x",status="200"} 40.003"#,
        r#"twotower_http_request_duration_seconds_count{route="/x",status="200"} 3"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn all_of_the_catalogue_is_told_once_it_is_known() {
    let metrics = Metrics::default();
    let timing = Timing::default();
    drop(timing.stage(Stage::Rank));
    metrics.answered("/x", 200, Duration::from_millis(1), &timing);
    metrics.shed("queue_full");
    metrics.recommended(Answered {
        source: "two_tower",
        cached: true,
        partial: false,
    });
    metrics.looked_up(CacheOutcome::Stale);
    metrics.set_cache_entries(3);
    metrics.set_pool_connections(PoolState::Idle, 2);
    metrics.set_pool_connections(PoolState::Busy, 1);
    metrics.read_states(ReadFrom::Primary, 2);
    metrics.fell_back(Fallback::Behind, 1);
    metrics.fell_back(Fallback::Failed, 0);
    metrics.set_replica_lag(Duration::from_millis(300));
    metrics.set_snapshot(SnapshotFigures {
        videos: 10,
        bytes: 4000,
    });
    metrics.set_model(Some(7));
    metrics.set_embedding_staleness(Duration::ZERO);
    metrics.set_recall_probe(0.998);
    metrics.set_load(8, 1, 0);
    metrics.set_quality(BTreeMap::from([("auc", 0.81)]));
    let success = Success {
        at_s: 1_767_225_600.0,
        took_s: 12.5,
    };
    let mut figures = JobFigures {
        state: Some(RunState::Succeeded),
        success: Some(success),
    };
    metrics.set_job("update", figures);
    figures.state = Some(RunState::Failed);
    figures.success = None;
    metrics.set_job("update", figures);
    let text = metrics.render();
    assert!(
        text.contains("twotower_job_run_state{job_name=\"update\",state=\"failed\"} 1\n")
            && text.contains("twotower_job_run_state{job_name=\"update\",state=\"succeeded\"} 0\n")
            && text.contains("timestamp_seconds{job_name=\"update\"} 1767225600\n"),
        "{text}"
    );
    for metric in CATALOGUE {
        let series = match metric.kind {
            Kind::Histogram => format!("{}_count", metric.name),
            Kind::Counter | Kind::Gauge => metric.name.to_owned(),
        };
        let of_linux = metric.name.starts_with("process_") && !cfg!(target_os = "linux");
        let told = text.lines().any(|line| {
            line.strip_prefix(&series)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        assert!(told || of_linux, "{series}\n{text}");
    }
    metrics.set_model(None);
    assert!(!metrics.render().contains("twotower_model_version "));
}

#[test]
fn connections_are_counted_while_they_last() {
    let metrics = Metrics::default();
    let connection = metrics.connection();
    assert!(metrics.render().contains("twotower_http_connections 1\n"));
    drop(connection);
    assert!(metrics.render().contains("twotower_http_connections 0\n"));
}
