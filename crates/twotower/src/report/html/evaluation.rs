use crate::report::chart::{self, Description};
use crate::report::data::ReportData;
use crate::report::words::{self, Difference};
use maud::{Markup, html};
use twotower_core::evaluate::{CohortSummary, Evaluation, Metric};
use twotower_core::metric::signed;

pub(super) fn comparison(data: &ReportData) -> Markup {
    let evaluations = &data.comparison.evaluations;
    let both = evaluations
        .first()
        .is_some_and(|e| e.summary.warm.is_some() && e.summary.cold.is_some());
    html! {
        section {
            h2 { @if data.comparison.models > 1 { "Against another model and the baselines" } @else { "Against the baselines" } }
            (metrics("All users", evaluations, |e| Some(e.summary.all)))
            @if both {
                (metrics("Warm users (at least one like known)", evaluations, |e| e.summary.warm))
                (metrics("Cold users (no like known)", evaluations, |e| e.summary.cold))
            }
            (differences(data))
        }
    }
}

fn metrics(
    cohort_name: &str,
    evaluations: &[Evaluation],
    cohort: impl Fn(&Evaluation) -> Option<CohortSummary>,
) -> Markup {
    let users = evaluations.iter().find_map(&cohort).map_or(0, |c| c.users);
    html! {
        div.scroll tabindex="0" {
            table {
                caption { (cohort_name) ": " (words::counted(users, "user")) ", mean ± standard error" }
                thead {
                    tr {
                        th scope="col" { "Recommender" }
                        @for metric in Metric::ALL { th scope="col" { (metric.label()) } }
                    }
                }
                tbody {
                    @for evaluation in evaluations {
                        @if let Some(cohort) = cohort(evaluation) {
                            tr {
                                th scope="row" { (evaluation.name) }
                                @for metric in Metric::ALL {
                                    @let estimate = cohort.metric(metric);
                                    td {
                                        (format!("{:.4}", estimate.mean))
                                        @if cohort.users > 1 { span.error { (format!(" ±\u{a0}{:.4}", estimate.standard_error)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn differences(data: &ReportData) -> Markup {
    let (comparison, bootstrap) = (&data.comparison, &data.bootstrap);
    let in_each_metric = |are_models: bool| -> Vec<Difference<'_>> {
        let difference = |metric| {
            if are_models {
                Difference::between_models(comparison, metric, bootstrap)
            } else {
                Difference::to_best_baseline(comparison, metric, bootstrap)
            }
        };
        Metric::ALL.into_iter().filter_map(difference).collect()
    };
    html! {
        (table(&in_each_metric(true)))
        (table(&in_each_metric(false)))
    }
}

/// The rows compare the same two in each metric, or a model with the best baseline of each.
fn table(differences: &[Difference<'_>]) -> Markup {
    let Some(first) = differences.first() else {
        return html! {};
    };
    let model = &first.model().name;
    let caption = if first.baselines > 0 {
        format!(
            "{model} minus the best baseline of each metric, user by user, with the 95 % bootstrap interval, which allows for the choice among {}",
            words::counted(first.baselines, "baseline")
        )
    } else {
        let other = &first.other().name;
        format!("{model} minus {other}, user by user, with the 95 % bootstrap interval")
    };
    html! {
        div.scroll tabindex="0" {
            table {
                caption { (caption) }
                thead {
                    tr {
                        th scope="col" { "Metric" }
                        th scope="col" { @if first.baselines > 0 { "Best baseline" } @else { "Compared with" } }
                        th scope="col" { "Difference" }
                        th scope="col" { "Interval" }
                        th scope="col" { (model) " is" }
                    }
                }
                tbody {
                    @for difference in differences {
                        tr {
                            th scope="row" { (difference.metric.label()) }
                            td { (difference.other().name) }
                            td { (signed(difference.mean(), 4)) }
                            td { (difference.range().unwrap_or_else(|| "–".into())) }
                            td { (difference.verdict()) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn breadth(data: &ReportData) -> anyhow::Result<Markup> {
    let evaluations = &data.comparison.evaluations;
    let rows: Vec<(&str, [f64; 2])> = evaluations
        .iter()
        .map(|evaluation| {
            let all = &evaluation.summary.all;
            let values = [all.coverage_at_10, all.popularity_percentile_at_10];
            (evaluation.name.as_str(), values)
        })
        .collect();
    let description = Description {
        title: "Coverage of the catalogue and popularity of what is shown",
        text: "Two bars per recommender: the share of the catalogue in any list of ten, and the mean popularity percentile of the videos in them. The table below has the numbers.",
    };
    let chart = chart::bars(&description, ["coverage", "popularity percentile"], &rows)?;
    Ok(html! {
        section {
            h2 { "How much of the catalogue is shown" }
            (chart)
            div.scroll tabindex="0" {
                table {
                    caption { "Breadth of the lists of ten, all users" }
                    thead {
                        tr {
                            th scope="col" { "Recommender" }
                            th scope="col" { "Coverage" }
                            th scope="col" { "Popularity percentile" }
                            th scope="col" { "Gini of exposure" }
                            th scope="col" { "Novelty, bits" }
                        }
                    }
                    tbody {
                        @for evaluation in evaluations {
                            @let all = &evaluation.summary.all;
                            tr {
                                th scope="row" { (evaluation.name) }
                                td { (format!("{:.3}", all.coverage_at_10)) }
                                td { (format!("{:.3}", all.popularity_percentile_at_10)) }
                                td { (format!("{:.3}", all.exposure_gini_at_10)) }
                                td { (format!("{:.2}", all.novelty_at_10)) }
                            }
                        }
                    }
                }
            }
            p.note {
                "Coverage: share of the catalogue in at least one list. Popularity percentile: 1 if only the most liked videos are shown, 0.5 for a random choice. "
                "Gini: 0 if every video is shown equally often, near 1 if a few get everything. Novelty: how surprising a shown video is, from the share of users who liked it."
            }
        }
    })
}
