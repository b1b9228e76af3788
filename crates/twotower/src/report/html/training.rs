use crate::report::chart::{self, Description};
use crate::report::data::ReportData;
use maud::{Markup, html};

pub(super) fn training(data: &ReportData) -> anyhow::Result<Markup> {
    if data.epochs.is_empty() {
        return Ok(Markup::default());
    }
    let kept = data.best_epoch.map(|epoch| epoch as f64);
    let losses: Vec<(f64, f64)> = data
        .epochs
        .iter()
        .map(|e| (e.epoch as f64, e.loss))
        .collect();
    let scores: Vec<(f64, f64)> = data
        .epochs
        .iter()
        .filter_map(|e| Some((e.epoch as f64, e.validation_ndcg_at_10?)))
        .collect();
    let said = |what: &str, points: &[(f64, f64)]| match points {
        [first, .., last] => format!(
            "{what} goes from {:.4} in epoch {:.0} to {:.4} in epoch {:.0}. The table below has every epoch.",
            first.1, first.0, last.1, last.0
        ),
        _ => format!("{what} of one epoch. The table below has the number."),
    };
    let loss = Description {
        title: "Training loss per epoch, nats",
        text: &said("The mean loss", &losses),
    };
    let score = Description {
        title: "Validation NDCG@10 per epoch",
        text: &said("NDCG@10 on the validation part", &scores),
    };
    Ok(html! {
        section {
            h2 { "Training" }
            @if let Some(epoch) = data.best_epoch {
                p { "The weights of epoch " (epoch) " were kept, the larger dot." }
            }
            div.charts {
                (chart::curve(&loss, &losses, kept)?)
                @if !scores.is_empty() { (chart::curve(&score, &scores, kept)?) }
            }
            (epochs(data))
        }
    })
}

fn epochs(data: &ReportData) -> Markup {
    html! {
        div.scroll tabindex="0" {
            table {
                caption { "Every epoch" }
                thead {
                    tr {
                        th scope="col" { "Epoch" }
                        th scope="col" { "Loss, nats" }
                        th scope="col" { "Validation NDCG@10" }
                        th scope="col" { "Seconds" }
                        th scope="col" { "Examples per second" }
                    }
                }
                tbody {
                    @for epoch in &data.epochs {
                        tr {
                            th scope="row" { (epoch.epoch) @if data.best_epoch == Some(epoch.epoch) { " (kept)" } }
                            td { (format!("{:.4}", epoch.loss)) }
                            td { (epoch.validation_ndcg_at_10.map_or("–".to_owned(), |x| format!("{x:.4}"))) }
                            td { (epoch.seconds.map_or("–".to_owned(), |x| format!("{x:.1}"))) }
                            td { (epoch.examples_per_second.map_or("–".to_owned(), |x| format!("{x:.0}"))) }
                        }
                    }
                }
            }
        }
    }
}
