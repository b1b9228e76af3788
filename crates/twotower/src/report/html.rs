mod evaluation;

mod training;

use super::chart;
use super::data::{Fact, ReportData, WorkedExample};
use super::words::{self, Difference};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use twotower_core::evaluate::Metric;

const STYLE: &str = include_str!("style.css");

/// Renders `report.html`: one file that loads nothing, for screen and print, light and dark.
///
/// # Errors
/// If a chart cannot be drawn.
pub(crate) fn render(data: &ReportData) -> anyhow::Result<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (data.title) " – evaluation" }
                style {
                    (PreEscaped(STYLE))
                    (PreEscaped(format!("@media screen and (prefers-color-scheme:dark){{{}}}", chart::DARK_RULES)))
                }
            }
            body {
                main {
                    header {
                        h1 { (data.title) ": evaluation" }
                        p { (data.protocol) }
                    }
                    (summary(data))
                    (evaluation::comparison(data))
                    (evaluation::breadth(data)?)
                    (training::training(data)?)
                    (examples(&data.examples))
                    (facts("Hyperparameters", &data.hyperparameters))
                    (facts("Data", &data.data))
                    (method())
                }
            }
        }
    };
    Ok(page.into_string())
}

fn summary(data: &ReportData) -> Markup {
    let Some(first) = data.comparison.evaluations.first() else {
        return html! { section { h2 { "Summary" } p { "Nothing was evaluated." } } };
    };
    let all = &first.summary.all;
    let difference =
        |metric| Difference::to_best_baseline(&data.comparison, metric, &data.bootstrap);
    html! {
        section {
            h2 { "Summary" }
            ul {
                li { (words::users(first)) "." }
                li {
                    "Of what people went on to like, the first ten recommendations of " (first.name) " held "
                    (percent(all.recall_at_10.mean)) " on average (± " (percent(all.recall_at_10.standard_error)) "), the first fifty "
                    (percent(all.recall_at_50.mean)) "."
                }
                li {
                    "The lists of ten together showed " (percent(all.coverage_at_10)) " of the catalogue."
                }
                @if let Some(difference) = Difference::between_models(&data.comparison, Metric::NdcgAt10, &data.bootstrap) {
                    li { (difference.sentence()) }
                }
                @for metric in [Metric::NdcgAt10, Metric::RecallAt10, Metric::Auc] {
                    @if let Some(difference) = difference(metric) {
                        li { (difference.sentence()) }
                    }
                }
                @if first.summary.cold.is_some() {
                    li { "Of cold users no like was known: the towers rank for those who have skipped something, and everybody else is served popular videos." }
                }
            }
        }
    }
}

fn examples(examples: &[WorkedExample]) -> Markup {
    html! {
        @if !examples.is_empty() {
            section {
                h2 { "Worked examples" }
                p { "A few people, spread evenly over the warm users and not picked for success. A held-out like that was found is marked." }
                @for (n, example) in examples.iter().enumerate() {
                    article {
                        h3 { "Person " (n + 1) }
                        div.pair {
                            div {
                                h4 { "Liked last, newest first" }
                                ol { @for title in &example.liked { li { (title) } } }
                            }
                            div {
                                h4 {
                                    "Recommended (" (example.recommended.iter().filter(|r| r.hit).count()) " of "
                                    (words::counted(example.held_out, "held-out like")) " found)"
                                }
                                ol {
                                    @for recommended in &example.recommended {
                                        li {
                                            @if recommended.hit { strong { (recommended.title) " ✓ liked later" } }
                                            @else { (recommended.title) }
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
}

fn facts(heading: &str, facts: &[Fact]) -> Markup {
    html! {
        @if !facts.is_empty() {
            section {
                h2 { (heading) }
                table.facts {
                    caption { (heading) }
                    tbody { @for fact in facts { tr { th scope="row" { (fact.name) } td { (fact.value) } } } }
                }
            }
        }
    }
}

fn method() -> Markup {
    html! {
        section {
            h2 { "How it was measured" }
            p.note {
                "Every user with at least one held-out like is ranked against the whole catalogue without the likes already known of them; nothing is sampled. "
                "P@10 divides hits by 10, R@K by the number of held-out likes, NDCG@K by the best order possible; AUC is exact, a tie counts one half. "
                "Means are unweighted over users. Standard errors and intervals come from resampling users. A difference counts only if its interval excludes zero, "
                "and with 20 users or more of whom something is known: popularity ranks for the others whatever the recommender. "
                "Which baseline is the best is seen on the same users, so that its interval is that of the distance to the best of all: below, the lowest end of any of them, "
                "above, the lowest of ends that hold for all of them together (Bonferroni)."
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn loads_nothing_and_runs_nothing() {
        let page = render(&sample::data()).unwrap();
        let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for forbidden in [
            "<script", "http:", "https:", "src=", "<link", "@import", "url(", " onload", "href=",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn every_table_has_a_caption_and_every_heading_cell_a_scope() {
        let page = render(&sample::data()).unwrap();
        assert_eq!(
            page.matches("<table").count(),
            page.matches("<caption>").count()
        );
        assert_eq!(
            page.matches("<th ").count(),
            page.matches("<th scope=").count()
        );
        assert!(!page.contains("<th>"));
        assert_eq!(page.matches("<svg role=\"img\"").count(), 3);
        assert_eq!(page.matches("<svg").count(), page.matches("<desc>").count());
    }

    /// A number that rounds to zero has no sign.
    #[test]
    fn another_model_has_a_table_of_its_own_and_nothing_is_below_zero_by_nothing() {
        let page = render(&sample::of_two_models()).unwrap();
        assert!(
            page.contains("model 2 minus model 1, user by user"),
            "{page}"
        );
        assert!(page.contains("model 2 is better than model 1: its NDCG@10"));
        assert!(!page.contains("-0.0000"));
    }

    #[test]
    fn titles_are_escaped_and_hits_said_in_words() {
        let page = render(&sample::data()).unwrap();
        assert!(page.contains("&lt;b&gt;Bold&lt;/b&gt; &amp; Co"));
        assert!(page.contains("夜の散歩"));
        assert!(page.contains("Second ✓ liked later"));
        assert!(page.contains("1 of 2 held-out likes found"));
    }

    #[test]
    fn parts_without_data_are_left_out() {
        let mut data = sample::data();
        data.epochs.clear();
        data.examples.clear();
        data.comparison.evaluations.clear();
        data.comparison.models = 0;
        let page = render(&data).unwrap();
        assert!(!page.contains("Worked examples") && !page.contains(">Training<"));
        assert!(page.contains("Nothing was evaluated."));
    }
}
