use serde::{Deserialize, Serialize};

/// Section `[rules]`: which videos `serve` recommends, and how many of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// At most this many videos of one maker in a list; 0 for no limit.
    pub max_per_maker: usize,
    /// At most this many videos of one performer in a list; 0 for no limit.
    pub max_per_performer: usize,
    /// Conditions that every recommended video meets.
    pub only: Conditions,
}

/// Conditions on videos, all of which must hold. One that is not given allows everything.
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

/// Names of which a video must have at least one, and names of which it must have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// At least one of these; empty for no condition.
    pub any: Vec<String>,
    /// None of these.
    pub none: Vec<String>,
}

/// Bounds, both inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Range {
    /// Minimum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f32>,
    /// Maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f32>,
}

impl Choice {
    /// Whether it allows every video.
    pub fn is_open(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }
}

impl Range {
    /// Whether it allows every value.
    pub fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}
