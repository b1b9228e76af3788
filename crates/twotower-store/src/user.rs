//! What is known of a user when a request of theirs is answered.

use crate::StoreError;
use uuid::Uuid;

/// What a user did and what they do not want to see, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserState {
    /// Every video they like, oldest like first.
    pub likes: Vec<Uuid>,
    /// The videos they skipped last, as many as were asked for, oldest skip first.
    pub skips: Vec<Uuid>,
    /// Ascending by kind (as it is spelled) and value.
    pub blocks: Vec<Block>,
}

/// Something that a user never wants to be recommended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// What `value` is.
    pub kind: BlockKind,
    /// A name as the catalogue spells it, or the id of a video in its usual form.
    pub value: String,
}

/// What can be blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockKind {
    /// All videos of a genre.
    Genre,
    /// All videos of a maker.
    Maker,
    /// All videos with a performer.
    Performer,
    /// All videos with a tag.
    Tag,
    /// One video.
    Video,
}

impl Block {
    /// Most characters of a value.
    pub const MAX_CHARS: usize = 200;

    /// Refuses what the engines would refuse, or keep without it ever matching a video.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let reason = if self.value.is_empty() {
            "is empty"
        } else if self.value.chars().count() > Self::MAX_CHARS {
            "has more than 200 characters"
        } else if self.value.contains('\0') {
            "holds a NUL character"
        } else if self.kind == BlockKind::Video && !self.names_a_video() {
            "is not the id of a video in its usual form"
        } else {
            return Ok(());
        };
        Err(StoreError::Block { reason })
    }

    fn names_a_video(&self) -> bool {
        Uuid::try_parse(&self.value).is_ok_and(|id| id.hyphenated().to_string() == self.value)
    }
}

impl BlockKind {
    /// All of them, ascending by their spelling.
    pub const ALL: [Self; 5] = [
        Self::Genre,
        Self::Maker,
        Self::Performer,
        Self::Tag,
        Self::Video,
    ];

    /// How the database spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Genre => "genre",
            Self::Maker => "maker",
            Self::Performer => "performer",
            Self::Tag => "tag",
            Self::Video => "video",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| StoreError::Row {
                query: "recommendation_blocks",
                column: "kind",
                reason: "is none that this version of twotower knows".into(),
            })
    }
}
