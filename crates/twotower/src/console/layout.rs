use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

/// A page, for the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Start,
    TryOut,
    Model,
    Experiment,
}

const NAVIGATION: [(Page, &str, &str); 4] = [
    (Page::Start, "/", "Start"),
    (Page::TryOut, "/try", "Try out"),
    (Page::Model, "/model", "Model"),
    (Page::Experiment, "/experiment", "Experiment"),
];

/// The frame of every page.
pub(super) fn page(current: Page, title: &str, content: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · twotower" }
                link rel="icon" href="/console/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/console/console.css";
                @if current == Page::TryOut {
                    script src="/console/try.js" defer {}
                }
            }
            body {
                a.skip-link href="#content" { "Skip to content" }
                header.site {
                    div.bar {
                        a.brand href="/" {
                            img src="/console/icon.svg" alt="" width="24" height="24";
                            "twotower"
                        }
                        nav aria-label="Pages" {
                            @for (page, address, name) in NAVIGATION {
                                @if page == current {
                                    a href=(address) aria-current="page" { (name) }
                                } @else {
                                    a href=(address) { (name) }
                                }
                            }
                        }
                    }
                    div.warning {
                        p {
                            strong { "Try-out console. " }
                            "Whoever opens this page can act as any user, and likes and skips are written to the database."
                        }
                    }
                }
                main #content tabindex="-1" { (content) }
            }
        }
    };
    Html(page.into_string())
}
