use super::layout::{self, Page};
use axum::response::Html;
use maud::html;

/// An empty page: its script fills it through the HTTP API, as any client would.
pub(super) async fn page() -> Html<String> {
    let content = html! {
        div.title-row {
            h1 { "Recommendations" }
            p #who.who {}
        }
        noscript { p.notice { "This page needs JavaScript: it calls the HTTP API as an app would." } }
        div.status-row {
            p #status.status role="status" aria-live="polite" {}
            button #undo type="button" hidden { "Undo" }
        }
        p #problem.notice role="alert" hidden {}
        div.columns {
            section aria-labelledby="list-title" {
                h2 #list-title { "For you" }
                p #explanation.muted {}
                ol #recommendations.cards aria-busy="true" {}
                p #end.muted hidden { "That is all: there is nothing else left to show." }
            }
            aside aria-labelledby="likes-title" {
                h2 #likes-title { "Your likes " span #like-count.count { "0" } }
                p #no-likes.muted { "None yet." }
                ol #likes.likes {}
            }
        }
        template #card-template {
            li.card {
                div.tile aria-hidden="true" {
                    span.rank {}
                    span.move {}
                    span.glyph {}
                }
                div.body {
                    h3 {}
                    p.meta {}
                    ul.tags aria-label="Tags" {}
                    p.score { span.track aria-hidden="true" { span.fill {} } span.score-text {} }
                }
                div.actions {
                    button type="button" data-kind="like" { "Like" }
                    button type="button" data-kind="skip" { "Skip" }
                    button type="button" data-kind="hide" { "Hide" }
                }
            }
        }
    };
    layout::page(Page::TryOut, "Try out", &content)
}
