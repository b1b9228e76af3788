use crate::config::{Config, Rules};

/// What the operator has decided about lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Which videos are recommended at all, and how many of one kind.
    pub rules: Rules,
    /// Share of a list that is given to new videos drawn at random, 0 to 1.
    pub exploration_share: f32,
}

impl Policy {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        Self {
            rules: config.rules.clone(),
            exploration_share: config.serve.exploration_share,
        }
    }
}
