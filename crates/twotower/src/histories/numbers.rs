//! Numbers of 32 bits one after the other, in memory or in a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a number, in a file little-endian.
const BYTES: usize = size_of::<u32>();

/// What is being written.
#[derive(Debug)]
pub(crate) enum NumbersWriter {
    Memory(Vec<u32>),
    File(BufWriter<File>),
}

impl NumbersWriter {
    /// In memory, `numbers` of them.
    pub(crate) fn in_memory(numbers: usize) -> Self {
        Self::Memory(Vec::with_capacity(numbers))
    }

    /// In a file of `folder` that has no name, and so is gone when the process is, however it ends.
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

/// What was written.
#[derive(Debug)]
pub(crate) enum Numbers {
    Memory(Vec<u32>),
    File(File),
}

impl Numbers {
    /// Numbers `first..first + n`, if they are in memory.
    pub(super) fn held(&self, first: u64, n: usize) -> Option<&[u32]> {
        match self {
            Self::Memory(numbers) => Some(&numbers[first as usize..first as usize + n]),
            Self::File(_) => None,
        }
    }

    /// Numbers `first..first + n`.
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

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Memory(numbers) => size_of_val(&numbers[..]),
            Self::File(_) => 0,
        }
    }
}
