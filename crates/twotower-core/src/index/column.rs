use std::ops::RangeInclusive;

/// One number per video, such as its price or the time of its publication. Numbers may be missing.
#[derive(Debug, Clone)]
pub struct Column {
    values: Values,
    /// Positions with a value, ordered by value and then by position.
    order: Vec<u32>,
}

/// Missing values are stored as NaN, or as the smallest integer.
#[derive(Debug, Clone)]
enum Values {
    Float(Vec<f32>),
    Integer(Vec<i64>),
}

/// Inclusive bounds in the type of the column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bounds {
    Float(f32, f32),
    Integer(i64, i64),
}

const MISSING: i64 = i64::MIN;

impl Column {
    /// 32-bit floats, one per video. Values that are not finite count as missing.
    pub fn floats(values: impl IntoIterator<Item = Option<f32>>) -> Self {
        let values: Vec<f32> = values
            .into_iter()
            .map(|value| value.filter(|value| value.is_finite()).unwrap_or(f32::NAN))
            .collect();
        let mut order = present(values.iter().map(|value| !value.is_nan()));
        order.sort_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
        Self {
            values: Values::Float(values),
            order,
        }
    }

    /// Integers, one per video, such as microseconds since 1970.
    pub fn integers(values: impl IntoIterator<Item = Option<i64>>) -> Self {
        let values: Vec<i64> = values
            .into_iter()
            .map(|value| value.unwrap_or(MISSING))
            .collect();
        let mut order = present(values.iter().map(|&value| value != MISSING));
        order.sort_by_key(|&position| values[position as usize]);
        Self {
            values: Values::Integer(values),
            order,
        }
    }

    /// Number of videos, with or without a value.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Float(values) => values.len(),
            Values::Integer(values) => values.len(),
        }
    }

    /// Whether there are no videos.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Float(values) => size_of_val(values.as_slice()),
            Values::Integer(values) => size_of_val(values.as_slice()),
        };
        values + size_of_val(self.order.as_slice())
    }

    /// `values` as bounds on this column. A float is rounded to the column's precision, like its
    /// values, so that a price is inside bounds that are written the same way.
    pub(super) fn bounds(&self, values: &RangeInclusive<f64>) -> Bounds {
        let (from, to) = (*values.start(), *values.end());
        match self.values {
            Values::Float(_) => Bounds::Float(from as f32, to as f32),
            // NaN bounds nothing; the conversion would turn it into 0.
            Values::Integer(_) if from.is_nan() || to.is_nan() => Bounds::Integer(0, -1),
            Values::Integer(_) => {
                Bounds::Integer((from.ceil() as i64).max(MISSING + 1), to.floor() as i64)
            }
        }
    }

    /// Whether the video at `position` has a value within the bounds.
    pub(super) fn contains(&self, position: u32, bounds: Bounds) -> bool {
        match (&self.values, bounds) {
            (Values::Float(values), Bounds::Float(from, to)) => {
                (from..=to).contains(&values[position as usize])
            }
            (Values::Integer(values), Bounds::Integer(from, to)) => {
                (from..=to).contains(&values[position as usize])
            }
            _ => false,
        }
    }

    /// Positions with a value within the bounds, in the order of their values.
    pub(super) fn within(&self, bounds: Bounds) -> &[u32] {
        let (from, to) = match (&self.values, bounds) {
            (Values::Float(values), Bounds::Float(from, to)) => (
                self.order.partition_point(|&p| values[p as usize] < from),
                self.order.partition_point(|&p| values[p as usize] <= to),
            ),
            (Values::Integer(values), Bounds::Integer(from, to)) => (
                self.order.partition_point(|&p| values[p as usize] < from),
                self.order.partition_point(|&p| values[p as usize] <= to),
            ),
            _ => (0, 0),
        };
        self.order.get(from..to).unwrap_or(&[])
    }
}

impl Bounds {
    /// Whether `value`, rounded to the column's precision, is within the bounds.
    pub(super) fn contain(self, value: f64) -> bool {
        match self {
            Self::Float(from, to) => (from..=to).contains(&(value as f32)),
            Self::Integer(from, to) => {
                value.fract() == 0.0 && (from..=to).contains(&(value as i64))
            }
        }
    }
}

fn present(values: impl Iterator<Item = bool>) -> Vec<u32> {
    (0u32..)
        .zip(values)
        .filter_map(|(position, there)| there.then_some(position))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(column: &Column, values: RangeInclusive<f64>) -> Vec<u32> {
        let bounds = column.bounds(&values);
        let mut within = column.within(bounds).to_vec();
        within.sort_unstable();
        let tested: Vec<u32> = (0..column.len() as u32)
            .filter(|&position| column.contains(position, bounds))
            .collect();
        assert_eq!(within, tested);
        within
    }

    #[test]
    fn bounds_are_inclusive_and_a_missing_value_is_outside() {
        let prices = Column::floats([Some(9.99), None, Some(0.0), Some(25.0), Some(f32::NAN)]);
        assert_eq!(inside(&prices, 9.99..=25.0), [0, 3]);
        assert_eq!(
            inside(&prices, f64::NEG_INFINITY..=f64::INFINITY),
            [0, 2, 3]
        );
        assert_eq!(inside(&prices, -0.0..=0.0), [2]);
        assert!(inside(&prices, 30.0..=9.0).is_empty());
        assert!(inside(&prices, f64::NAN..=f64::NAN).is_empty());
        let times = Column::integers([Some(-5), None, Some(1_700_000_000_000_001)]);
        assert_eq!(inside(&times, -5.0..=1_700_000_000_000_001.0), [0, 2]);
        assert!(inside(&times, -4.5..=1_700_000_000_000_000.5).is_empty());
        assert_eq!(inside(&times, f64::NEG_INFINITY..=0.0), [0]);
        assert!(inside(&times, f64::NAN..=0.0).is_empty());
    }

    #[test]
    fn a_number_alone_is_judged_like_one_of_the_column() {
        let prices = Column::floats([Some(9.99)]);
        assert!(prices.bounds(&(9.99..=9.99)).contain(9.99));
        assert!(!prices.bounds(&(0.0..=1.0)).contain(f64::NAN));
        let times = Column::integers([Some(7)]);
        assert!(times.bounds(&(6.5..=7.5)).contain(7.0));
    }
}
