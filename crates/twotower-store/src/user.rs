//! The state of a user when a request of theirs is answered.

use crate::StoreError;
use uuid::Uuid;

/// A user's likes, skips and blocks, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserState {
    /// Every liked video, oldest like first.
    pub likes: Vec<Uuid>,
    /// The latest skipped videos, up to the requested number, oldest skip first.
    pub skips: Vec<Uuid>,
    /// Blocks, ascending by the spelling of the kind, then by value.
    pub blocks: Vec<Block>,
}

impl UserState {
    /// Requests every skip. A user likes and skips a video at most once, so a state has at most 16
    /// bytes per video and kind.
    pub const EVERY_SKIP: u32 = u32::MAX;
}

/// Something that must never be recommended to a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// Kind of `value`.
    pub kind: BlockKind,
    /// A name as spelled in the catalogue, or a video's id in canonical form.
    pub value: String,
}

/// Kind of a block.
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
    /// Maximum number of characters of a value.
    pub const MAX_CHARS: usize = 200;

    /// The video that the block names, if any: a UUID in any spelling, like in
    /// `twotower.caller_blocks`, since users write into the table directly.
    pub fn video(&self) -> Option<Uuid> {
        if self.kind != BlockKind::Video {
            return None;
        }
        let usual = Uuid::try_parse(&self.value);
        usual.or_else(|_| Uuid::try_parse(&self.digits())).ok()
    }

    /// The value without the characters that may surround or separate the digits of a UUID.
    fn digits(&self) -> String {
        let urn = "urn:uuid:";
        let (prefix, rest) = self.value.split_at_checked(urn.len()).unwrap_or_default();
        let digits = if prefix.eq_ignore_ascii_case(urn) {
            rest
        } else {
            &self.value
        };
        digits.replace(['{', '}', '-'], "")
    }

    /// Refuses values that an engine would refuse, or that could never match a video.
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
    /// All kinds, ascending by spelling.
    pub const ALL: [Self; 5] = [
        Self::Genre,
        Self::Maker,
        Self::Performer,
        Self::Tag,
        Self::Video,
    ];

    /// Spelling in the database.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_named_in_any_spelling_of_its_id() {
        let id = Uuid::from_u128(0xa000_0000_0000_4000_8000_0000_0000_00ff);
        let block = |value: &str| Block {
            kind: BlockKind::Video,
            value: value.into(),
        };
        for value in [
            "a0000000-0000-4000-8000-0000000000ff",
            "A0000000-0000-4000-8000-0000000000FF",
            "a0000000000040008000-0000000000ff",
            "a00000000000400080000000000000ff",
            "{a0000000-0000-4000-8000-0000000000ff}",
            "{A00000000000400080000000000000FF}",
            "URN:uuid:a0000000-0000-4000-8000-0000000000ff",
            "urn:uuid:a00000000000400080000000000000ff",
        ] {
            assert_eq!(block(value).video(), Some(id), "{value}");
        }
        for value in [
            "",
            "drama",
            "urn:uuid:",
            "a0000000-0000-4000-8000-0000000000f",
            "ａ0000000-0000-4000-8000-0000000000ff",
            " a0000000-0000-4000-8000-0000000000ff",
        ] {
            assert_eq!(block(value).video(), None, "{value}");
        }
        let genre = Block {
            kind: BlockKind::Genre,
            ..block(&id.to_string())
        };
        assert_eq!(genre.video(), None);
    }
}
