use std::collections::HashMap;
use twotower_core::feature::tidy;

/// What a name is a name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TermKind {
    Tag,
    Maker,
    Performer,
    Genre,
}

/// Numbers for names: 0, 1, 2, … in the order in which they are met.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    numbers: [HashMap<Box<str>, u32>; 4],
    count: u32,
}

impl Terms {
    /// The number of a name that may be new.
    pub(super) fn intern(&mut self, kind: TermKind, name: &str) -> u32 {
        let numbers = &mut self.numbers[kind as usize];
        if let Some(&number) = numbers.get(name) {
            return number;
        }
        let number = self.count;
        numbers.insert(name.into(), number);
        self.count += 1;
        number
    }

    /// The number of a name, if some video carries it. Facts of videos are tidy; a block may name what a table holds, blanks and all.
    pub(super) fn get(&self, kind: TermKind, name: &str) -> Option<u32> {
        self.numbers[kind as usize].get(tidy(name)?).copied()
    }

    /// Number of names.
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Memory in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(Box<str>, u32)>() + 1;
        let of = |names: &HashMap<Box<str>, u32>| {
            names.capacity() * entry + names.keys().map(|name| name.len()).sum::<usize>()
        };
        self.numbers.iter().map(of).sum()
    }
}
