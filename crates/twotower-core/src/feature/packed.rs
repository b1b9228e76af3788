//! Many small texts and lists, each kind in contiguous memory.

/// Texts, numbered in the order of arrival.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    joined: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, text: &str) {
        self.joined.push_str(text);
        self.ends.push(self.joined.len());
    }

    /// The text with number `n`.
    pub(super) fn get(&self, n: usize) -> &str {
        &self.joined[range(&self.ends, n)]
    }
}

/// Lists of numbers; the lists are numbered as well.
#[derive(Debug, Clone, Default)]
pub(super) struct Lists {
    joined: Vec<u32>,
    ends: Vec<usize>,
}

impl Lists {
    /// `lists` lists from pairs (list, number), each list ascending and without duplicates.
    pub(super) fn of_pairs(lists: usize, mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut ends = vec![0; lists];
        for &(list, _) in &pairs {
            ends[list as usize] += 1;
        }
        let mut end = 0;
        for length in &mut ends {
            end += *length;
            *length = end;
        }
        Self {
            joined: pairs.into_iter().map(|(_, number)| number).collect(),
            ends,
        }
    }

    /// The list with number `n`.
    pub(super) fn get(&self, n: usize) -> &[u32] {
        &self.joined[range(&self.ends, n)]
    }
}

fn range(ends: &[usize], n: usize) -> std::ops::Range<usize> {
    let start = n.checked_sub(1).map_or(0, |before| ends[before]);
    start..ends[n]
}
