use super::Console;
use super::layout::{self, Page};
use crate::serve::ApiError;
use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use std::sync::Arc;
use twotower_store::UserActivity;

/// At most this many users are offered.
const USERS: u32 = 24;

/// Offers a choice of users, and starting as a new one.
pub(super) async fn page(State(console): State<Arc<Console>>) -> Result<Html<String>, ApiError> {
    let users = console
        .within(console.app.store.active_users(USERS))
        .await?;
    let snapshot = console.app.snapshots.current();
    let version = snapshot.as_ref().and_then(|held| held.version());
    let content = html! {
        section.hero {
            h1 { "What should this person see next?" }
            p.lead {
                "Become somebody, like a few videos, and watch the list follow. "
                @match version {
                    Some(version) => { "Model version " (version) " is answering." }
                    None => { "There is no trained model yet, so everybody sees the most liked videos." }
                }
            }
            p { a.button.primary href="/try#new" { "Start as a new user" } }
        }
        @if let Some(problem) = console.app.snapshots.problem() {
            p.notice role="alert" { (problem) }
        }
        section {
            h2 { "Or be somebody who is already there" }
            @if users.is_empty() {
                p.notice {
                    "Nobody has liked or skipped anything yet. Fill the database with "
                    code { "twotower import" } ", or see it all at work with " code { "twotower demo" } "."
                }
            } @else {
                ul.users { @for user in &users { (entry(user)) } }
            }
        }
    };
    Ok(layout::page(Page::Start, "Start", &content))
}

/// The id follows `#`: browsers do not send that part, so no log contains it.
fn entry(user: &UserActivity) -> Markup {
    let id = user.user.to_string();
    html! {
        li {
            a href={ "/try#" (id) } {
                span.user-id { (id[..8]) "…" (id[32..]) }
                span.user-likes {
                    (user.likes) @if user.likes == 1 { " like" } @else { " likes" }
                }
            }
        }
    }
}
