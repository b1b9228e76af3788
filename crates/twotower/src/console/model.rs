use super::layout::{self, Page};
use super::{Console, curves, metrics};
use crate::serve::ApiError;
use crate::time::minute_utc;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use maud::{Markup, html};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twotower_store::ModelRecord;
use twotower_store::model_files::{self, Manifest};

const REPORT: &str = "report.html";

/// The report brings its own styles and pictures, and no scripts.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// `GET /model`: what the active model was trained on, and its metrics.
pub(super) async fn page(State(console): State<Arc<Console>>) -> Result<Html<String>, ApiError> {
    let active = console.within(console.app.store.active_model()).await?;
    let content = match active {
        None => html! {
            h1 { "Model" }
            p.notice { "No model is active yet. Train one with " code { "twotower train --update-db" } "." }
        },
        Some(record) => {
            let folder = folder(&console, record.version);
            let has_report = folder.join(REPORT).is_file();
            let manifest = tokio::task::spawn_blocking(move || model_files::manifest(&folder))
                .await
                .map_err(ApiError::internal)?;
            if let Err(error) = &manifest {
                tracing::warn!(%error, "the model page goes without its manifest");
            }
            describe(&record, manifest.ok().as_ref(), has_report)
        }
    };
    Ok(layout::page(Page::Model, "Model", &content))
}

fn describe(record: &ModelRecord, manifest: Option<&Manifest>, has_report: bool) -> Markup {
    let metrics = manifest.map_or(&record.metrics, |manifest| &manifest.metrics);
    html! {
        div.title-row {
            h1 { "Model version " (record.version) }
            @if has_report { a.button href="/model/report" { "Full report" } }
        }
        dl.facts {
            (fact("Active since", &record.activated_at_us.map_or("–".into(), minute_utc)))
            (fact("Data up to", &record.cut_off_us.map_or("–".into(), minute_utc)))
            @if let Some(manifest) = manifest {
                @let data = &manifest.trained_on;
                (fact("Videos", &metrics::grouped(data.videos)))
                (fact("Users", &metrics::grouped(data.users)))
                (fact("Likes", &metrics::grouped(data.likes)))
                (fact("Skips", &metrics::grouped(data.skips)))
                (fact("Split", data.split.name()))
            }
            (fact("Dimensions", &record.embedding_dim.to_string()))
        }
        @match manifest {
            None => p.notice role="alert" {
                "The files of this version are missing or damaged here, so there are no curves: copy its folder to "
                code { "--model-path" } "."
            },
            Some(manifest) => {
                section {
                    h2 { "Training" }
                    (curves::render(&manifest.training_log))
                }
            }
        }
        section {
            h2 { "Metrics" }
            (metrics::render(metrics))
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// `GET /model/report`: the report of the active version, if training wrote one.
pub(super) async fn report(State(console): State<Arc<Console>>) -> Result<Response, ApiError> {
    let active = console.within(console.app.store.active_model()).await?;
    let path = folder(&console, active.ok_or(ApiError::NotFound)?.version).join(REPORT);
    let page = tokio::task::spawn_blocking(move || read(&path))
        .await
        .map_err(ApiError::internal)?
        .ok_or(ApiError::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, REPORT_POLICY),
    ];
    Ok((headers, page).into_response())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

fn folder(console: &Console, version: i64) -> PathBuf {
    console.models.join(version.to_string())
}
