use crate::config::{Config, Rules};

/// The operator's settings for all lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Which videos may be recommended, and how many of one maker or performer.
    pub rules: Rules,
    /// Share of a list that is given to new videos drawn at random, 0 to 1.
    pub exploration_share: f32,
}

impl Policy {
    /// The settings of a configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            rules: config.rules.clone(),
            exploration_share: config.serve.exploration_share,
        }
    }
}
