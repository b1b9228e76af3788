use super::Videos;
use super::build::{PRICE, PUBLISHED};
use super::terms::TermKind;
use crate::config::{Choice, Conditions, Range};
use std::time::{SystemTime, UNIX_EPOCH};
use twotower_core::index::{Condition, Filter};
use twotower_core::time::DAY;
use twotower_store::{Block, BlockKind};

impl Videos {
    /// A filter for the operator's `rules`, the request's `filter` and the user's `blocks`, except
    /// blocks of single videos, at `now`.
    pub(crate) fn filter(
        &self,
        rules: &Conditions,
        filter: &Conditions,
        blocks: &[Block],
        now: SystemTime,
    ) -> Filter {
        let mut conditions = Vec::new();
        for wanted in [rules, filter] {
            self.add(&mut conditions, TermKind::Tag, &wanted.tags);
            self.add(&mut conditions, TermKind::Maker, &wanted.makers);
            self.add(&mut conditions, TermKind::Performer, &wanted.performers);
            self.add(&mut conditions, TermKind::Genre, &wanted.genres);
            between(&mut conditions, PRICE, wanted.price);
            between(&mut conditions, PUBLISHED, published(wanted.age_days, now));
        }
        let blocked: Vec<u32> = blocks
            .iter()
            .filter_map(|block| {
                let kind = match block.kind {
                    BlockKind::Video => return None,
                    BlockKind::Maker => TermKind::Maker,
                    BlockKind::Performer => TermKind::Performer,
                    BlockKind::Tag => TermKind::Tag,
                    BlockKind::Genre => TermKind::Genre,
                };
                self.terms.get(kind, &block.value)
            })
            .collect();
        if !blocked.is_empty() {
            conditions.push(Condition::NoneOf(blocked));
        }
        Filter { conditions }
    }

    fn add(&self, conditions: &mut Vec<Condition>, kind: TermKind, choice: &Choice) {
        let terms = |names: &[String]| -> Vec<u32> {
            names
                .iter()
                .filter_map(|name| self.terms.get(kind, name))
                .collect()
        };
        if !choice.any.is_empty() {
            // If no video has any of the names, no video passes.
            conditions.push(Condition::AnyOf(terms(&choice.any)));
        }
        let none = terms(&choice.none);
        if !none.is_empty() {
            conditions.push(Condition::NoneOf(none));
        }
    }
}

fn between(conditions: &mut Vec<Condition>, column: usize, range: Range) {
    if !range.is_open() {
        let min = range.min.map_or(f64::NEG_INFINITY, f64::from);
        let max = range.max.map_or(f64::INFINITY, f64::from);
        conditions.push(Condition::Between {
            column,
            values: min..=max,
        });
    }
}

/// Converts ages in days to days since 1970.
fn published(age_days: Range, now: SystemTime) -> Range {
    let today = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
        / DAY.as_secs_f64();
    let day = |age: f32| (today - f64::from(age)) as f32;
    Range {
        min: age_days.max.map(day),
        max: age_days.min.map(day),
    }
}
