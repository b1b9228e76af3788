//! Fuzzing of imports, from the bytes of a format to the rows that the database gets.

use super::cell::{Cell, Defect};
use super::kind::{STORED, interaction, video};
use super::layout::Names;
use super::reader::{Format, Input, Pieces, ReadError, Rows, Visit, rows_of};
use super::row::{InteractionRows, VideoRow, VideoRows};
use super::{FileKind, csv, id, jsonl, movielens, pipeline};
use crate::fuzz::{FEW, corpus, fuzz, refusal, way};
use std::collections::HashSet;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use twotower_core::time::SECOND_US;
use twotower_store::{InteractionRow, LONGEST_NAME};
use uuid::Uuid;

/// One in this many inputs is also read in other ways.
const ONE_IN: usize = 8;

/// A file of one kind and format.
struct Target {
    input: Input,
    known: Arc<HashSet<Uuid>>,
}

impl Target {
    fn new(kind: FileKind, format: Format) -> Self {
        Self {
            input: Input {
                path: "file".into(),
                format,
                names: Names::new(kind, &[], false),
            },
            known: Arc::new((1..10).filter_map(id::from_integer).collect()),
        }
    }

    fn names(&self) -> &Names {
        &self.input.names
    }

    /// Reads rows like an import that skips faulty ones. Returns the way that the file went: its
    /// error, its first refused row, or its number of rows.
    fn import(&self, read: impl FnOnce(Visit<'_>) -> Result<(), ReadError>) -> u64 {
        let mut videos = VideoRows::new(Arc::clone(&self.known));
        let interactions = InteractionRows {
            known: Arc::clone(&self.known),
            default_time_us: None,
        };
        let mut ids = HashSet::new();
        let (mut before, mut taken, mut refused, mut at_end) = (0, 0, None, false);
        let outcome = read(&mut |number, row| {
            assert!(!at_end, "row {number} was to be hidden");
            assert!(before < number, "row {number} after row {before}");
            before = number;
            let row = row.and_then(|cells| match self.names().kind {
                FileKind::Videos => {
                    let row = videos.read(cells, number, self.input.format.unit())?;
                    whole_video(&row, cells);
                    assert!(ids.insert(row.video.id), "{row:?} comes twice");
                    Ok(())
                }
                FileKind::Likes | FileKind::Skips => {
                    let row = interactions.read(cells)?;
                    self.whole_interaction(&row);
                    Ok(())
                }
            });
            match row {
                Ok(()) => taken += 1,
                Err(defect) => {
                    at_end = defect.hides_rest;
                    let way = self.refused(number, defect);
                    refused.get_or_insert(way);
                }
            }
            ControlFlow::Continue(())
        });
        match outcome {
            Ok(()) => refused.unwrap_or(taken.min(3)),
            // It may list thirty columns.
            Err(error) => refusal(&error.to_string(), 10_000),
        }
    }

    /// The way of a refused row. Checks that the message is short and does not repeat a user's id.
    fn refused(&self, number: u64, defect: Defect) -> u64 {
        let name = |column: usize| self.names().kind.columns()[column];
        let column = defect.column.map_or("", name);
        if column == "user_id" && defect.expected == id::EXPECTED {
            let tells = |letter: char| letter == '`' || letter.is_ascii_digit();
            assert!(!defect.found.contains(tells), "{defect:?}");
        }
        let way = way(&format!("{column} {} {}", defect.expected, defect.found));
        refusal(
            &pipeline::fault(&self.input, number, defect).to_string(),
            1_000,
        );
        way
    }

    fn whole_interaction(&self, row: &InteractionRow) {
        assert!(self.known.contains(&row.video), "{row:?}");
        let seconds = row.at_us.div_euclid(SECOND_US);
        assert!((0..=i64::from(u32::MAX)).contains(&seconds), "{row:?}");
    }
}

/// Checks that the row is acceptable to the database, and names exactly the columns of its cells.
fn whole_video(row: &VideoRow, cells: &[Cell<'_>]) {
    let video = &row.video;
    let is_text = |text: &str| !text.contains('\0') && text.trim() == text;
    assert!(
        is_text(&video.title) && is_text(&video.description),
        "{row:?}"
    );
    let optional = [&video.genre, &video.maker, &video.thumbnail_url];
    let mut texts = optional.into_iter().flatten();
    assert!(
        texts.all(|text| is_text(text) && !text.is_empty()),
        "{row:?}"
    );
    for names in [&video.tags, &video.performers] {
        assert!(names.is_sorted_by(|one, other| one < other), "{row:?}");
        let is_name = |name: &String| is_text(name) && (1..=LONGEST_NAME).contains(&name.len());
        assert!(names.iter().all(is_name), "{row:?}");
    }
    let mut amounts = [video.price, video.duration_seconds].into_iter().flatten();
    assert!(
        amounts.all(|amount| amount.is_finite() && amount.is_sign_positive()),
        "{row:?}"
    );
    // The years 1 to 9999.
    let years = -62_135_596_800_000_000..253_402_300_800_000_000;
    assert!(video.published_at_us.is_none_or(|at| years.contains(&at)));
    for (position, column) in STORED {
        let is_there = cells[position] != Cell::Absent;
        assert_eq!(row.columns.contains(column), is_there, "{row:?}");
    }
}

/// The visited rows in words, or why there are none.
fn visited(read: impl FnOnce(Visit<'_>) -> Result<(), ReadError>) -> Result<Rows, String> {
    rows_of(read).map_err(|error| error.to_string())
}

fn first_line(input: &[u8]) -> &[u8] {
    let end = input.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    &input[..end.unwrap_or(input.len())]
}

/// The target for likes or for videos, depending on the first line.
fn told_by<'t>(line: &[u8], likes: &'t Target, videos: &'t Target) -> &'t Target {
    let of_users = line.windows(7).any(|part| part == b"user_id");
    if of_users { likes } else { videos }
}

/// Where the lines of a table begin, with any kind of line end.
fn line_starts(text: &[u8]) -> Vec<usize> {
    let ends = text.iter().enumerate().filter(|(at, byte)| match byte {
        b'\n' => true,
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    std::iter::once(0)
        .chain(ends.map(|(at, _)| at + 1))
        .collect()
}

/// Checks that a row is the same if it is the only one after the header.
fn row_stands_alone(
    table: &[u8],
    rows: &[(u64, Result<String, String>)],
    index: usize,
    read: impl FnOnce(&[u8]) -> Result<Rows, String>,
) {
    let starts = line_starts(table);
    let begin = |index: usize| {
        rows.get(index)
            .map_or(table.len(), |(line, _)| starts[*line as usize - 1])
    };
    let alone = [&table[..begin(0)], &table[begin(index)..begin(index + 1)]].concat();
    let found = read(&alone).unwrap();
    let [(line, row)] = &found[..] else {
        panic!("{:?} alone is {found:?}", rows[index]);
    };
    assert_eq!(*line, rows[0].0);
    // Defects are not compared, since they may contain line numbers.
    let expected = rows[index].1.as_ref();
    assert_eq!(row.as_ref().ok(), expected.ok(), "{:?}", rows[index]);
}

#[test]
fn fuzz_tables() {
    let comma = Format::Csv { delimiter: b',' };
    let (likes, videos) = (
        Target::new(FileKind::Likes, comma),
        Target::new(FileKind::Videos, comma),
    );
    fuzz("csv", FEW, corpus("csv"), |input| {
        let line = first_line(input);
        let target = told_by(line, &likes, &videos);
        let delimiter = if line.contains(&b'\t') { b'\t' } else { b',' };
        let all = |visit: Visit<'_>, table: &[u8]| {
            csv::read(table, delimiter, target.names(), &|| true, visit)
        };
        let way = target.import(|visit| all(visit, input));
        if !input.len().is_multiple_of(ONE_IN) {
            return way;
        }
        let rows = visited(|visit| all(visit, input));
        // A multiple of three, so that the first piece does not cut a byte order mark.
        let size = 3 * (1 + input.len() / ONE_IN % 4);
        let in_pieces = visited(|visit| {
            let pieces = Pieces(input, size);
            csv::read(pieces, delimiter, target.names(), &|| true, visit)
        });
        assert_eq!(rows, in_pieces, "{size} bytes at a time");
        if let Some(rows) = rows.ok().filter(|rows| !rows.is_empty()) {
            let index = input.len() / ONE_IN % rows.len();
            row_stands_alone(input, &rows, index, |alone| {
                visited(|visit| all(visit, alone))
            });
        }
        way
    });
}

#[test]
fn fuzz_lines_of_json() {
    let (likes, videos) = (
        Target::new(FileKind::Likes, Format::JsonLines),
        Target::new(FileKind::Videos, Format::JsonLines),
    );
    fuzz("jsonl", FEW, corpus("jsonl"), |input| {
        let target = told_by(first_line(input), &likes, &videos);
        let all = |visit: Visit<'_>, lines: &[u8]| {
            jsonl::read(Cursor::new(lines), target.names(), &|| true, visit)
        };
        let way = target.import(|visit| all(visit, input));
        if !input.len().is_multiple_of(ONE_IN) {
            return way;
        }
        let Ok(rows) = visited(|visit| all(visit, input)) else {
            return way;
        };
        // A byte order mark or bracket is special on the first line only; and a first line with all
        // columns makes columns optional in the others.
        let others: Vec<_> = rows.iter().filter(|(number, _)| *number > 1).collect();
        if !others.is_empty() {
            let (number, row) = others[input.len() / ONE_IN % others.len()];
            let line = input.split_inclusive(|byte| *byte == b'\n');
            let line = line.skip(*number as usize - 1).take(1);
            let complete = &br#"{"id":1,"user_id":1,"video_id":1,"created_at":1}"#[..];
            let alone: Vec<&[u8]> = [complete, b"\n"].into_iter().chain(line).collect();
            let alone = visited(|visit| all(visit, &alone.concat())).unwrap();
            assert_eq!(alone[1..], [(2_u64, row.clone())]);
        }
        way
    });
}

#[test]
fn fuzz_movielens() {
    let target = |kind| Target::new(kind, Format::MovieLens);
    let (videos, likes, skips) = (
        target(FileKind::Videos),
        target(FileKind::Likes),
        target(FileKind::Skips),
    );
    let genres: Vec<String> = ["unknown", "Action", "Film-Noir"].map(Into::into).into();
    fuzz("movielens", FEW, corpus("movielens"), |input| {
        // The list of genres gives the flags of a film their meaning.
        if let Some(genres) = movielens::genres(input).filter(|genres| !genres.is_empty()) {
            let film = format!("1|One|01-Jan-1995||{}\n", "|1".repeat(genres.len()));
            return videos.import(|visit| {
                movielens::rows(film.as_bytes(), FileKind::Videos, &genres, visit)
            });
        }
        let target = match (first_line(input).contains(&b'\t'), input.len() / ONE_IN % 2) {
            (false, _) => &videos,
            (true, 0) => &likes,
            (true, _) => &skips,
        };
        let kind = target.names().kind;
        let all = |visit: Visit<'_>, lines: &[u8]| movielens::rows(lines, kind, &genres, visit);
        let way = target.import(|visit| all(visit, input));
        if input.len().is_multiple_of(ONE_IN) {
            let rows = visited(|visit| all(visit, input)).unwrap();
            let lines = input.split_inclusive(|byte| *byte == b'\n');
            let alone = (1..).zip(lines).flat_map(|(number, line)| {
                let row = visited(|visit| all(visit, line)).unwrap();
                row.into_iter().map(move |(_, row)| (number, row))
            });
            assert_eq!(rows, alone.collect::<Rows>());
        }
        way
    });
}

/// A valid row except for `cell`.
fn row_with<'a>(target: &Target, column: usize, cell: Cell<'a>) -> Vec<Cell<'a>> {
    let mut cells = vec![Cell::Integer(1); target.names().all().len()];
    if target.names().kind == FileKind::Videos {
        cells[video::TAGS] = Cell::Absent;
        cells[video::PERFORMERS] = Cell::Absent;
    }
    cells[column] = cell;
    cells
}

/// Each text is tried in every column that parses text, and as a number if it is one.
#[test]
fn fuzz_values() {
    let videos = Target::new(FileKind::Videos, Format::JsonLines);
    let likes = Target::new(FileKind::Likes, Format::JsonLines);
    fuzz("value", FEW, corpus("value"), |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return 0;
        };
        let number = text.parse().ok().filter(|it: &i64| it.to_string() == text);
        let mut ways = String::new();
        let columns = [
            (&videos, video::ID),
            (&videos, video::TITLE),
            (&videos, video::PRICE),
            (&videos, video::PUBLISHED_AT),
            (&videos, video::TAGS),
            (&likes, interaction::USER_ID),
            (&likes, interaction::CREATED_AT),
        ];
        for (target, column) in columns {
            let row = row_with(target, column, Cell::Text(text.into()));
            let way = target.import(|visit| {
                let _ = visit(1, Ok(&row));
                Ok(())
            });
            // The way has letters and no digits.
            ways.extend(
                way.to_string()
                    .bytes()
                    .map(|digit| char::from(digit + b'A' - b'0')),
            );
            let Some(number) = number.filter(|_| column != video::TAGS) else {
                continue;
            };
            let same = row_with(target, column, Cell::Integer(number));
            if target.names().kind == FileKind::Videos {
                let read = |row: &[Cell<'_>]| VideoRows::default().read(row, 1, "line").ok();
                assert_eq!(read(&row), read(&same));
            } else {
                let interactions = InteractionRows {
                    known: Arc::clone(&target.known),
                    default_time_us: None,
                };
                let read = |row: &[Cell<'_>]| interactions.read(row).ok();
                assert_eq!(read(&row), read(&same));
            }
        }
        way(&ways)
    });
}
