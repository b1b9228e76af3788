use super::Console;
use super::layout::{self, Page};
use super::metrics::{decimal, grouped};
use crate::jobs::experiment::{self, MetricReport, Report};
use crate::serve::ApiError;
use crate::time::minute_utc;
use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use std::sync::Arc;
use twotower_core::ab_test::Estimate;

/// `GET /experiment`: the results of the latest experiment so far.
pub(super) async fn page(State(console): State<Arc<Console>>) -> Result<Html<String>, ApiError> {
    let store = &console.app.store;
    let content = if console.within(store.experiments()).await?.is_empty() {
        html! {
            h1 { "Experiment" }
            p.notice {
                "There has been none yet. Serve a second version to half of the users with "
                code { "twotower experiment start --challenger VERSION --share 0.5" } "."
            }
        }
    } else {
        // Reads every event of the experiment, which may take longer than a single step is allowed
        // to.
        let report = experiment::report(store, None);
        describe(
            &report
                .await
                .map_err(|error| ApiError::Unavailable(format!("{error:#}").into()))?,
        )
    };
    Ok(layout::page(Page::Experiment, "Experiment", &content))
}

fn describe(report: &Report) -> Markup {
    let experiment = &report.experiment;
    html! {
        h1 { "Experiment " (experiment.id) }
        dl.facts {
            (fact("Started", &minute_utc(experiment.started_at_us)))
            (fact("Ended", &experiment.ended_at_us.map_or("–".into(), minute_utc)))
            (fact("Share of the challenger", &decimal(experiment.share)))
            (fact("Reason", &experiment.reason))
        }
        @if let Some(warning) = report.warning() {
            p.notice role="alert" { (warning) }
        }
        section {
            h2 { "Arms" }
            div.scroll tabindex="0" role="region" aria-label="Arms" { table {
                thead { tr {
                    td {}
                    @for column in ["version", "users", "shown", "distinct videos", "of the catalogue"] { th scope="col" { (column) } }
                } }
                tbody { @for arm in &report.arms { tr {
                    th scope="row" { (arm.arm) }
                    td { (arm.version) }
                    td { (grouped(arm.users)) }
                    td { (grouped(arm.shown)) }
                    td { (grouped(arm.coverage.videos)) }
                    td { (grouped(arm.coverage.catalogue)) }
                } } }
            } }
        }
        section {
            h2 { "Metrics" }
            p.muted {
                "In parentheses 95 % confidence intervals, with users as the unit that was drawn. Those of differences, and p, hold however often \
                 you look."
            }
            div.scroll tabindex="0" role="region" aria-label="Metrics" { table {
                thead { tr {
                    td {}
                    @for column in ["control", "challenger", "difference", "p", "in words"] { th scope="col" { (column) } }
                } }
                tbody { @for metric in &report.metrics { (row(metric)) } }
            } }
        }
    }
}

fn row(metric: &MetricReport) -> Markup {
    let estimate = |estimate: Option<Estimate>| {
        estimate.map_or("–".into(), |found| {
            with_interval(found.value, found.interval())
        })
    };
    let told = metric.difference.zip(metric.at_any_time);
    html! {
        tr {
            th scope="row" { (metric.metric) }
            td { (estimate(metric.control)) }
            td { (estimate(metric.challenger)) }
            td { (told.map_or("–".into(), |(found, at)| with_interval(found.value, (at.low, at.high)))) }
            td { (told.map_or("–".into(), |(_, at)| decimal(at.p_value))) }
            td { (metric.verdict()) }
        }
    }
}

fn with_interval(value: f64, (low, high): (f64, f64)) -> String {
    format!("{} ({} to {})", decimal(value), decimal(low), decimal(high))
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
