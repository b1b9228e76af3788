//! `MovieLens` folders in their published formats.

use crate::import::cell::{Cell, Defect};
use crate::import::kind::{interaction, video};
use crate::import::layout::Names;
use crate::import::lines::each_line;
use crate::import::reader::{LONGEST_ROW, ReadError, Visit};
use crate::import::{ColumnRule, FileKind, csv, time};
use anyhow::bail;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

/// Format of the files in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// 100K: fields separated by `|` and tabs, Latin-1.
    Hundred,
    /// 1M and 10M: fields separated by `::`.
    Colons,
    /// 20M and later: CSV.
    Csv,
}

const GENRES: &str = "u.genre";

/// Genres that mean that there is none, by release.
const NO_GENRES: [&str; 2] = ["unknown", "(no genres listed)"];

/// Header of the ratings in CSV.
const RATINGS: &str = "userId,movieId,rating,timestamp";

/// Ratings in half stars.
const ALL: RangeInclusive<u8> = 1..=10;
const LIKED: RangeInclusive<u8> = 8..=10;
const SKIPPED: RangeInclusive<u8> = 1..=4;

impl Release {
    /// Recognises the release of a folder by the name of its catalogue.
    ///
    /// # Errors
    /// If there is no catalogue.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let there = |release: &Self| folder.join(release.file(FileKind::Videos)).is_file();
        let Some(release) = [Self::Hundred, Self::Colons, Self::Csv]
            .into_iter()
            .find(there)
        else {
            bail!(
                "{}: there is no such file, nor movies.dat or movies.csv; name the folder that the archive unpacks to",
                folder.join(Self::Hundred.file(FileKind::Videos)).display()
            );
        };
        Ok(release)
    }

    /// The file that holds rows of `kind`.
    pub(crate) fn file(self, kind: FileKind) -> &'static str {
        match (self, kind) {
            (Self::Hundred, FileKind::Videos) => "u.item",
            (Self::Hundred, _) => "u.data",
            (Self::Colons, FileKind::Videos) => "movies.dat",
            (Self::Colons, _) => "ratings.dat",
            (Self::Csv, FileKind::Videos) => "movies.csv",
            (Self::Csv, _) => "ratings.csv",
        }
    }

    fn separator(self) -> &'static str {
        match self {
            Self::Hundred => "\t",
            Self::Colons => "::",
            Self::Csv => ",",
        }
    }
}

/// Reads a file of a folder: videos from its catalogue, likes (4 stars and more) and skips (2 and
/// fewer) from its ratings.
pub(crate) fn read(
    path: &Path,
    file: File,
    kind: FileKind,
    is_heard: &dyn Fn() -> bool,
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let release = match extension {
        Some("dat") => Release::Colons,
        Some("csv") => Release::Csv,
        _ => Release::Hundred,
    };
    match (kind, release) {
        (FileKind::Videos, Release::Hundred) => {
            let genres = read_genres(&path.with_file_name(GENRES))?;
            rows(file, kind, &genres, visit)
        }
        (FileKind::Videos, Release::Colons) => read_lines(file, text, |number, line| {
            movie(line, |row| visit(number, row))
        }),
        (FileKind::Videos, Release::Csv) => movies(file, is_heard, visit),
        (FileKind::Likes | FileKind::Skips, _) => ratings(file, kind, release, visit),
    }
}

/// The rows of a file of the 100K release; those of videos have one flag per genre of `genres`.
pub(super) fn rows(
    file: impl Read,
    kind: FileKind,
    genres: &[String],
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    match kind {
        FileKind::Videos => read_lines(file, latin1, |number, line| {
            item(line, genres, |row| visit(number, row))
        }),
        FileKind::Likes | FileKind::Skips => ratings(file, kind, Release::Hundred, visit),
    }
}

fn ratings(
    file: impl Read,
    kind: FileKind,
    release: Release,
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let taken = if kind == FileKind::Likes {
        LIKED
    } else {
        SKIPPED
    };
    let mut headed = release != Release::Csv;
    let mut first = None;
    read_lines(file, text, |number, line| {
        if !std::mem::replace(&mut headed, true) {
            first = Some(line.to_owned());
            return if line == RATINGS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
        }
        let fields: Vec<&str> = line.split(release.separator()).collect();
        rating(&fields, release, &taken, |row| visit(number, row))
    })?;
    match first {
        Some(first) if first != RATINGS => Err(ReadError::Format(format!(
            "the first line is not `{RATINGS}`, as MovieLens has it; files of other columns are read without --preset"
        ))),
        _ => Ok(()),
    }
}

/// Yields the lines that are not empty, without their line ends.
fn read_lines(
    file: impl Read,
    decoded: fn(&[u8]) -> String,
    mut each: impl FnMut(u64, &str) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    each_line(file, "a file of MovieLens", |number, line| {
        let text = decoded(line);
        let text = text.trim_end_matches(['\r', '\n']);
        Ok(if text.is_empty() {
            ControlFlow::Continue(())
        } else {
            each(number, text)
        })
    })
}

/// Decodes text: titles of 1M are Latin-1, those of later releases UTF-8.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| latin1(bytes), str::to_owned)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn read_genres(path: &Path) -> Result<Vec<String>, ReadError> {
    let wrong = |what: &str| ReadError::Format(format!("{}: {what}", path.display()));
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_ROW + 1).read_to_end(&mut text))
        .map_err(|error: io::Error| wrong(&error.to_string()))?;
    genres(&text)
        .filter(|_| text.len() as u64 <= LONGEST_ROW)
        .ok_or_else(|| wrong("expected `name|number`, numbers from 0 in order"))
}

/// Names of genres by number, from lines `name|number`.
pub(super) fn genres(text: &[u8]) -> Option<Vec<String>> {
    let text = latin1(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(expected, line)| match line.split_once('|') {
            Some((name, number)) if number.parse() == Ok(expected) => Some(name.to_owned()),
            _ => None,
        })
        .collect()
}

/// Sets genres as tags, and the first one as the genre.
fn set_genres<'a>(cells: &mut [Cell<'a>], genres: impl Iterator<Item = &'a str>) {
    let tags: Vec<&str> = genres.filter(|genre| !NO_GENRES.contains(genre)).collect();
    cells[video::GENRE] = tags
        .first()
        .map_or(Cell::Missing, |tag| Cell::Text((*tag).into()));
    cells[video::TAGS] = Cell::List(tags.into_iter().map(Into::into).collect());
}

/// Parses a line of `movies.dat`: id, title, and genres separated by `|`.
fn movie(
    line: &str,
    visit: impl FnOnce(Result<&[Cell<'_>], Defect>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let fields: Vec<&str> = line.split(Release::Colons.separator()).collect();
    let [id, title, genres] = fields[..] else {
        let found = fields.len().to_string();
        return visit(Err(Defect::row("3 fields separated by `::`", found)));
    };
    let mut cells = vec![Cell::Absent; FileKind::Videos.columns().len()];
    cells[video::ID] = Cell::Text(id.into());
    cells[video::TITLE] = Cell::Text(title.into());
    set_genres(&mut cells, genres.split('|'));
    visit(Ok(&cells))
}

/// Reads `movies.csv`, in which titles are quoted.
fn movies(file: File, is_heard: &dyn Fn() -> bool, visit: Visit<'_>) -> Result<(), ReadError> {
    let rules = [("id", "movieId"), ("tags", "genres")].map(|(column, header)| ColumnRule {
        kind: None,
        column: column.to_owned(),
        header: header.to_owned(),
    });
    let names = Names::new(FileKind::Videos, &rules, false);
    csv::read(file, b',', &names, is_heard, &mut |number, row| {
        let row = row.map(|cells| {
            let mut cells = cells.to_vec();
            let genres = match std::mem::replace(&mut cells[video::TAGS], Cell::Missing) {
                Cell::Text(genres) => genres,
                _ => "".into(),
            };
            (genres, cells)
        });
        match row {
            Ok((genres, mut cells)) => {
                set_genres(
                    &mut cells,
                    genres.split('|').filter(|genre| !genre.is_empty()),
                );
                visit(number, Ok(&cells))
            }
            Err(defect) => visit(number, Err(defect)),
        }
    })
}

/// Number of fields in `u.item` before the flags of genres: id, title, release date, video release
/// date, address.
const ITEM_FIELDS: usize = 5;

fn item(
    line: &str,
    genres: &[String],
    visit: impl FnOnce(Result<&[Cell<'_>], Defect>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let fields: Vec<&str> = line.split('|').collect();
    if fields.len() != ITEM_FIELDS + genres.len() {
        let expected = format!("{} fields separated by `|`", ITEM_FIELDS + genres.len());
        return visit(Err(Defect::row(expected, fields.len().to_string())));
    }
    let flags = genres.iter().zip(&fields[ITEM_FIELDS..]);
    let flagged = flags.filter(|(_, flag)| **flag == "1");
    let published = match fields[2] {
        "" => Cell::Missing,
        date => match release_date(date) {
            Some(micros) => Cell::Time(micros),
            None => Cell::Text(date.into()),
        },
    };
    let mut cells = vec![Cell::Absent; FileKind::Videos.columns().len()];
    cells[video::ID] = Cell::Text(fields[0].into());
    cells[video::TITLE] = Cell::Text(fields[1].into());
    cells[video::PUBLISHED_AT] = published;
    set_genres(&mut cells, flagged.map(|(genre, _)| genre.as_str()));
    visit(Ok(&cells))
}

/// Parses `01-Jan-1995`.
fn release_date(text: &str) -> Option<i64> {
    const YEARS: RangeInclusive<i64> = 1..=9999;
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let mut parts = text.split('-');
    let day = parts.next()?.parse().ok()?;
    let month = parts.next()?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let year = parts.next()?.parse::<i64>().ok()?;
    // The microseconds of a later year may exceed 64 bits.
    if !YEARS.contains(&year) {
        return None;
    }
    match parts.next() {
        None => time::from_date(year, month, day),
        Some(_) => None,
    }
}

/// Visits a row of ratings if its rating is among `taken`.
fn rating(
    fields: &[&str],
    release: Release,
    taken: &RangeInclusive<u8>,
    visit: impl FnOnce(Result<&[Cell<'_>], Defect>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let &[user, item, rating, at] = fields else {
        let expected = match release {
            Release::Hundred => "4 fields separated by tabs",
            Release::Colons => "4 fields separated by `::`",
            Release::Csv => "4 fields separated by commas",
        };
        return visit(Err(Defect::row(expected, fields.len().to_string())));
    };
    match half_stars(rating) {
        Some(stars) if taken.contains(&stars) => {
            let mut cells = vec![Cell::Absent; FileKind::Likes.columns().len()];
            cells[interaction::USER_ID] = Cell::Text(user.into());
            cells[interaction::VIDEO_ID] = Cell::Text(item.into());
            cells[interaction::CREATED_AT] = Cell::Text(at.into());
            visit(Ok(&cells))
        }
        Some(_) => ControlFlow::Continue(()),
        None => visit(Err(Defect::row("a rating from 0.5 to 5", "another"))),
    }
}

/// Parses a rating, which later releases give in half stars.
fn half_stars(text: &str) -> Option<u8> {
    let (whole, half) = match text.split_once('.') {
        None => (text, 0),
        Some((whole, "0")) => (whole, 0),
        Some((whole, "5")) => (whole, 1),
        Some(_) => return None,
    };
    let whole: u8 = whole.parse().ok().filter(|whole| *whole <= 5)?;
    Some(2 * whole + half).filter(|stars| ALL.contains(stars))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::reader::rows_of;

    #[test]
    fn release_dates() {
        assert_eq!(release_date("01-Jan-1970"), Some(0));
        assert_eq!(release_date("4-Feb-1971"), time::from_date(1971, 2, 4));
        for text in [
            "1971",
            "31-Feb-1971",
            "01-Janvier-1970",
            "01-Jan-1970-1",
            "01-Jan-0",
            "01-Jan-10000",
            "01-Jan-1970000",
            "01-Jan-9223372036854775807",
        ] {
            assert_eq!(release_date(text), None, "{text}");
        }
    }

    #[test]
    fn three_stars_are_neither() {
        let taken = |taken: RangeInclusive<u8>| {
            let halves = (1..=10).map(|half| f64::from(half) / 2.0);
            let written = halves.flat_map(|stars| [stars.to_string(), format!("{stars:.1}")]);
            let among = written.filter(|text| taken.contains(&half_stars(text).unwrap()));
            let mut among: Vec<String> = among.collect();
            among.dedup();
            among.join(" ")
        };
        assert_eq!(taken(LIKED), "4 4.0 4.5 5 5.0");
        assert_eq!(taken(SKIPPED), "0.5 1 1.0 1.5 2 2.0");
    }

    #[test]
    fn what_is_no_rating_is_a_defect() {
        for line in [
            "1\t2\t3",
            "1\t2\t6\t3",
            "1 2 4 3",
            "1\t2\t0\t3",
            "1\t2\t5.5\t3",
            "1\t2\t4.2\t3",
            "1\t2\tNaN\t3",
        ] {
            let rows = rows_of(|visit| rows(line.as_bytes(), FileKind::Likes, &[], visit)).unwrap();
            assert!(matches!(rows[..], [(1, Err(_))]), "{line}");
        }
    }

    #[test]
    fn a_line_does_not_go_on_for_ever() {
        let long = vec![b'1'; LONGEST_ROW as usize + 1];
        for kind in FileKind::ALL {
            let refused = rows_of(|visit| rows(&long[..], kind, &[], visit)).unwrap_err();
            let said = refused.to_string();
            assert_eq!(
                said,
                "line 1 is longer than 16 MiB: is it a file of MovieLens?"
            );
        }
    }
}
