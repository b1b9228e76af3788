//! Events one after the other, in memory or in a file: 8 bytes each.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use twotower_core::interaction::Event;

/// Bytes of an event in a file: the video's position and the seconds since 1970, little-endian.
const BYTES: usize = 8;

/// What is being written.
#[derive(Debug)]
pub(crate) enum EventsWriter {
    Memory(Vec<Event>),
    File(BufWriter<File>),
}

impl EventsWriter {
    /// In memory, `events` of them.
    pub(crate) fn in_memory(events: usize) -> Self {
        Self::Memory(Vec::with_capacity(events))
    }

    /// In a file of `folder` that has no name, and so is gone when the process is, however it ends.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = tempfile::tempfile_in(folder)?;
        Ok(Self::File(BufWriter::with_capacity(1 << 20, file)))
    }

    pub(crate) fn push(&mut self, event: Event) -> io::Result<()> {
        match self {
            Self::Memory(events) => events.push(event),
            Self::File(file) => {
                file.write_all(&event.item.to_le_bytes())?;
                file.write_all(&event.at.to_le_bytes())?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<Events> {
        Ok(match self {
            Self::Memory(events) => Events::Memory(events),
            Self::File(file) => Events::File(file.into_inner()?),
        })
    }
}

/// What was written.
#[derive(Debug)]
pub(crate) enum Events {
    Memory(Vec<Event>),
    File(File),
}

impl Events {
    /// Events `first..first + n`, if they are in memory.
    pub(super) fn held(&self, first: u64, n: usize) -> Option<&[Event]> {
        match self {
            Self::Memory(events) => Some(&events[first as usize..first as usize + n]),
            Self::File(_) => None,
        }
    }

    /// Appends events `first..first + n`.
    pub(super) fn read(&self, first: u64, n: usize, into: &mut Vec<Event>) -> io::Result<()> {
        match self {
            Self::Memory(events) => {
                into.extend_from_slice(&events[first as usize..first as usize + n]);
            }
            Self::File(file) => {
                let mut bytes = vec![0; n * BYTES];
                file.read_exact_at(&mut bytes, first * BYTES as u64)?;
                let (events, _) = bytes.as_chunks::<BYTES>();
                into.extend(events.iter().map(|&[a, b, c, d, e, f, g, h]| Event {
                    item: u32::from_le_bytes([a, b, c, d]),
                    at: u32::from_le_bytes([e, f, g, h]),
                }));
            }
        }
        Ok(())
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Memory(events) => size_of_val(&events[..]),
            Self::File(_) => 0,
        }
    }
}
