use serde::{Deserialize, Serialize};

/// Section `[rules]`: which videos `serve` recommends at all, and how many of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Most videos of one maker in a list; 0 for any number.
    pub max_per_maker: usize,
    /// Most videos of one performer in a list; 0 for any number.
    pub max_per_performer: usize,
    /// What a video must be like.
    pub only: Conditions,
}

/// What videos must be like, all of it. What is not stated allows everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// Names of tags.
    #[serde(skip_serializing_if = "Choice::is_open")]
    pub tags: Choice,
    /// Makers.
    #[serde(skip_serializing_if = "Choice::is_open")]
    pub makers: Choice,
    /// Names of performers.
    #[serde(skip_serializing_if = "Choice::is_open")]
    pub performers: Choice,
    /// Genres.
    #[serde(skip_serializing_if = "Choice::is_open")]
    pub genres: Choice,
    /// Price in the application's currency; a video without one is outside every range.
    #[serde(skip_serializing_if = "Range::is_open")]
    pub price: Range,
    /// Days since publication.
    #[serde(skip_serializing_if = "Range::is_open")]
    pub age_days: Range,
}

/// Names of which a video must have one, and names of which it may have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// At least one of these; empty for no such condition.
    pub any: Vec<String>,
    /// None of these.
    pub none: Vec<String>,
}

/// Bounds, both inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    /// Least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f32>,
    /// Most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f32>,
}

impl Choice {
    /// Whether it allows everything.
    pub fn is_open(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

impl Range {
    /// Whether it allows everything.
    pub fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}
