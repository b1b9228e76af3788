//! A sequence of 32-bit numbers, in memory or in a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes per number; little-endian in a file.
const BYTES: usize = size_of::<u32>();

/// A sequence being written.
#[derive(Debug)]
pub(crate) enum NumbersWriter {
    Memory(Vec<u32>),
    File(BufWriter<File>),
}

impl NumbersWriter {
    /// In memory, with capacity for `numbers`.
    pub(crate) fn in_memory(numbers: usize) -> Self {
        Self::Memory(Vec::with_capacity(numbers))
    }

    /// In an unnamed file in `folder`, which is deleted with the process, however that ends.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = tempfile::tempfile_in(folder)?;
        Ok(Self::File(BufWriter::with_capacity(1 << 20, file)))
    }

    pub(crate) fn push(&mut self, number: u32) -> io::Result<()> {
        match self {
            Self::Memory(numbers) => numbers.push(number),
            Self::File(file) => file.write_all(&number.to_le_bytes())?,
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<Numbers> {
        Ok(match self {
            Self::Memory(numbers) => Numbers::Memory(numbers),
            Self::File(file) => Numbers::File(file.into_inner()?),
        })
    }
}

/// A complete sequence.
#[derive(Debug)]
pub(crate) enum Numbers {
    Memory(Vec<u32>),
    File(File),
}

impl Numbers {
    /// `n` numbers from `first` on, if they are in memory.
    pub(super) fn held(&self, first: u64, n: usize) -> Option<&[u32]> {
        match self {
            Self::Memory(numbers) => Some(&numbers[first as usize..first as usize + n]),
            Self::File(_) => None,
        }
    }

    /// `n` numbers from `first` on.
    pub(super) fn read(&self, first: u64, n: usize) -> io::Result<Vec<u32>> {
        match self {
            Self::Memory(numbers) => Ok(numbers[first as usize..first as usize + n].to_vec()),
            Self::File(file) => {
                let mut bytes = vec![0; n * BYTES];
                file.read_exact_at(&mut bytes, first * BYTES as u64)?;
                let (numbers, _) = bytes.as_chunks::<BYTES>();
                Ok(numbers.iter().copied().map(u32::from_le_bytes).collect())
            }
        }
    }

    /// Bytes of memory used.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Memory(numbers) => size_of_val(&numbers[..]),
            Self::File(_) => 0,
        }
    }
}
