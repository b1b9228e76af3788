use crate::import::FileKind;
use crate::import::cell::{Cell, Defect};
use crate::import::kind::{interaction, video};
use crate::import::reader::{ReadError, Visit};
use crate::import::time;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

/// The file of the catalogue, and that of the ratings.
pub(crate) const ITEMS: &str = "u.item";
pub(crate) const RATINGS: &str = "u.data";
const GENRES: &str = "u.genre";

/// A genre that says that there is none.
const UNKNOWN: &str = "unknown";

const LIKED: RangeInclusive<u8> = 4..=5;
const SKIPPED: RangeInclusive<u8> = 1..=2;

/// Reads the `MovieLens` 100K folder as published: videos from `u.item`, likes (4 and 5 stars) and skips (1 and 2) from
/// `u.data`. Its text is Latin-1.
pub(crate) fn read(
    path: &Path,
    file: File,
    kind: FileKind,
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let genres = match kind {
        FileKind::Videos => read_genres(&path.with_file_name(GENRES))?,
        FileKind::Likes | FileKind::Skips => Vec::new(),
    };
    rows(BufReader::new(file), kind, &genres, visit)
}

/// The rows of a file of `kind`; those of videos have a flag for each of `genres`.
pub(super) fn rows(
    file: impl BufRead,
    kind: FileKind,
    genres: &[String],
    visit: Visit<'_>,
) -> Result<(), ReadError> {
    let ratings = match kind {
        FileKind::Videos => {
            return read_lines(file, |number, line| {
                item(line, genres, |row| visit(number, row))
            });
        }
        FileKind::Likes => LIKED,
        FileKind::Skips => SKIPPED,
    };
    read_lines(file, |number, line| {
        rating(line, &ratings, |row| visit(number, row))
    })
}

fn read_lines(
    mut file: impl BufRead,
    mut each: impl FnMut(u64, &str) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = latin1(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        if !text.is_empty() && each(number, text).is_break() {
            break;
        }
    }
    Ok(())
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn read_genres(path: &Path) -> Result<Vec<String>, ReadError> {
    let wrong = |what: &str| ReadError::Format(format!("{}: {what}", path.display()));
    let text = fs::read(path).map_err(|error| wrong(&error.to_string()))?;
    genres(&text).ok_or_else(|| wrong("expected `name|number`, numbers from 0 in order"))
}

/// Names of genres by their number: lines `name|number`.
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

/// Fields of `u.item` before the flags of genres: id, title, release date, video release date, address.
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
    let tags: Vec<&str> = genres
        .iter()
        .zip(&fields[ITEM_FIELDS..])
        .filter(|(genre, flag)| **flag == "1" && *genre != UNKNOWN)
        .map(|(genre, _)| genre.as_str())
        .collect();
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
    cells[video::GENRE] = tags
        .first()
        .map_or(Cell::Missing, |tag| Cell::Text((*tag).into()));
    cells[video::PUBLISHED_AT] = published;
    cells[video::TAGS] = Cell::List(tags.into_iter().map(Into::into).collect());
    visit(Ok(&cells))
}

/// `01-Jan-1995`
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
    // Of a later one microseconds may be more than 64 bits hold.
    if !YEARS.contains(&year) {
        return None;
    }
    match parts.next() {
        None => time::from_date(year, month, day),
        Some(_) => None,
    }
}

/// Visits a line of `u.data` if its rating is among `ratings`.
fn rating(
    line: &str,
    ratings: &RangeInclusive<u8>,
    visit: impl FnOnce(Result<&[Cell<'_>], Defect>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [user, item, rating, at] = fields[..] else {
        let found = fields.len().to_string();
        return visit(Err(Defect::row("4 fields separated by tabs", found)));
    };
    match rating.parse::<u8>() {
        Ok(stars) if ratings.contains(&stars) => {
            let mut cells = vec![Cell::Absent; FileKind::Likes.columns().len()];
            cells[interaction::USER_ID] = Cell::Text(user.into());
            cells[interaction::VIDEO_ID] = Cell::Text(item.into());
            cells[interaction::CREATED_AT] = Cell::Text(at.into());
            visit(Ok(&cells))
        }
        Ok(1..=5) => ControlFlow::Continue(()),
        _ => visit(Err(Defect::row("a rating from 1 to 5", "another"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let count = |ratings: &RangeInclusive<u8>| {
            let mut rows = 0;
            for stars in 1..=5 {
                let _ = rating(&format!("1\t2\t{stars}\t3"), ratings, |_| {
                    rows += 1;
                    ControlFlow::Continue(())
                });
            }
            rows
        };
        assert_eq!((count(&LIKED), count(&SKIPPED)), (2, 2));
    }

    #[test]
    fn what_is_no_rating_is_a_defect() {
        for line in ["1\t2\t3", "1\t2\t6\t3", "1 2 4 3"] {
            let _ = rating(line, &LIKED, |row| {
                assert!(row.is_err(), "{line}");
                ControlFlow::Continue(())
            });
        }
    }
}
