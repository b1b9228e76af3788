/// Titles, concatenated: one `String` for each would cost 24 bytes and an allocation more.
#[derive(Debug, Clone, Default)]
pub(super) struct Titles {
    text: String,
    /// End of each title in `text`.
    ends: Vec<u32>,
}

impl Titles {
    /// Adds the title of the next position. Beyond 4 GiB of text, titles are empty.
    pub(super) fn push(&mut self, title: &str) {
        if u32::try_from(self.text.len() + title.len()).is_ok() {
            self.text.push_str(title);
        }
        self.ends.push(self.text.len() as u32);
    }

    pub(super) fn get(&self, position: u32) -> &str {
        let position = position as usize;
        let start = position
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[position] as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + 4 * self.ends.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::Titles;

    #[test]
    fn each_gets_its_own_back() {
        let mut titles = Titles::default();
        let all = ["", "夜明け", "b", "", "c"];
        for title in all {
            titles.push(title);
        }
        for (position, title) in (0..).zip(all) {
            assert_eq!(titles.get(position), title);
        }
    }
}
