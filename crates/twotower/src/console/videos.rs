use super::Console;
use crate::serve::{ApiError, invalid};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use twotower_store::VideoCard;
use uuid::Uuid;

/// At most this many cards per answer.
const MAX_CARDS: usize = 100;

/// At most this many likes of a user are shown.
const LIKES_SHOWN: u32 = 100;

#[derive(Serialize)]
pub(super) struct Card {
    video_id: Uuid,
    title: String,
    genre: Option<String>,
    maker: Option<String>,
    price: Option<f32>,
    duration_seconds: Option<f32>,
    tags: Vec<String>,
}

impl From<VideoCard> for Card {
    fn from(card: VideoCard) -> Self {
        Self {
            video_id: card.id,
            title: card.title,
            genre: card.genre,
            maker: card.maker,
            price: card.price,
            duration_seconds: card.duration_seconds,
            tags: card.tags,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Ids {
    #[serde(default)]
    ids: String,
}

#[derive(Serialize)]
pub(super) struct Cards {
    videos: Vec<Card>,
}

#[derive(Serialize)]
pub(super) struct Likes {
    /// Number of all likes.
    count: usize,
    /// The latest ones, newest first.
    likes: Vec<Card>,
}

/// `GET /console/videos?ids=…,…`: what cards show of videos.
pub(super) async fn cards(
    State(console): State<Arc<Console>>,
    Query(query): Query<Ids>,
) -> Result<Json<Cards>, ApiError> {
    let ids: Vec<Uuid> = query
        .ids
        .split(',')
        .filter(|id| !id.is_empty())
        .map(Uuid::try_parse)
        .collect::<Result<_, _>>()
        .map_err(|_| invalid("`ids` must be UUIDs with commas between them"))?;
    if ids.len() > MAX_CARDS {
        return Err(invalid("`ids` may name at most 100 videos"));
    }
    let videos = console.within(console.app.store.video_cards(&ids)).await?;
    Ok(Json(Cards {
        videos: videos.into_iter().map(Card::from).collect(),
    }))
}

/// `GET /console/history`: the likes of the token's user.
pub(super) async fn history(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
) -> Result<Json<Likes>, ApiError> {
    let user = console.app.auth.authenticate(&headers).await?.user;
    let store = &console.app.store;
    let recent = console
        .within(store.user_history(user, LIKES_SHOWN))
        .await?
        .likes;
    let count = if recent.len() < LIKES_SHOWN as usize {
        recent.len()
    } else {
        console.within(store.liked_videos(user)).await?.len()
    };
    let latest_first: Vec<Uuid> = recent.into_iter().rev().collect();
    let likes = console.within(store.video_cards(&latest_first)).await?;
    Ok(Json(Likes {
        count,
        likes: likes.into_iter().map(Card::from).collect(),
    }))
}
