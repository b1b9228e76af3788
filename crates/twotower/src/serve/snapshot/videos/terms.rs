use std::collections::HashMap;
use twotower_core::feature::tidy;

/// Kind of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TermKind {
    Tag,
    Maker,
    Performer,
    Genre,
}

/// Numbers for names: 0, 1, 2, … in the order of their first occurrence.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    numbers: [HashMap<Box<str>, u32>; 4],
    count: u32,
}

impl Terms {
    /// The number of a name, which is added if it is new.
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

    /// The number of a name, if any video has it. Names in the facts of videos are tidied; a block
    /// may have a name as in a table, with blanks around it.
    pub(super) fn get(&self, kind: TermKind, name: &str) -> Option<u32> {
        self.numbers[kind as usize].get(tidy(name)?).copied()
    }

    /// Number of names.
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Approximate memory, bytes.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(Box<str>, u32)>() + 1;
        let of = |names: &HashMap<Box<str>, u32>| {
            names.capacity() * entry + names.keys().map(|name| name.len()).sum::<usize>()
        };
        self.numbers.iter().map(of).sum()
    }
}
