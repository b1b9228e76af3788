use axum::http::header;
use axum::response::IntoResponse;

pub(super) async fn css() -> impl IntoResponse {
    typed("text/css; charset=utf-8", include_str!("console.css"))
}

pub(super) async fn script() -> impl IntoResponse {
    typed("text/javascript; charset=utf-8", include_str!("try.js"))
}

pub(super) async fn icon() -> impl IntoResponse {
    typed("image/svg+xml", include_str!("icon.svg"))
}

fn typed(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], text)
}
