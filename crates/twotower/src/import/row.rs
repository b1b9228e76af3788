use crate::import::cell::{Cell, Defect, quote};
use crate::import::kind::{self, interaction, video};
use crate::import::{id, time};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use twotower_core::feature::Video;
use twotower_core::time::SECOND_US;
use twotower_store::{InteractionRow, LONGEST_NAME, VideoColumns};
use uuid::Uuid;

/// A video, and which columns its row has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VideoRow {
    pub(crate) video: Video,
    pub(crate) columns: VideoColumns,
}

/// Converts the cells of rows into videos.
#[derive(Debug, Default)]
pub(crate) struct VideoRows {
    /// Where each id occurred first.
    seen: HashMap<Uuid, u64>,
    /// Videos that exist already. Others need a title.
    known: Arc<HashSet<Uuid>>,
}

impl VideoRows {
    /// `known`: videos that exist already; matters only to rows that may lack the column `title`.
    pub(crate) fn new(known: Arc<HashSet<Uuid>>) -> Self {
        Self {
            seen: HashMap::new(),
            known,
        }
    }

    /// `number`: place of the row; `unit`: what that counts.
    pub(crate) fn read(
        &mut self,
        cells: &[Cell<'_>],
        number: u64,
        unit: &str,
    ) -> Result<VideoRow, Defect> {
        let id = read_id(cells, video::ID)?;
        let video = Video {
            id,
            title: text(cells, video::TITLE)?.unwrap_or_default(),
            description: text(cells, video::DESCRIPTION)?.unwrap_or_default(),
            genre: text(cells, video::GENRE)?,
            maker: text(cells, video::MAKER)?,
            price: amount(cells, video::PRICE, "a price (a number, 0 or more)")?,
            duration_seconds: amount(
                cells,
                video::DURATION_SECONDS,
                "a length in seconds (a number, 0 or more)",
            )?,
            published_at_us: match &cells[video::PUBLISHED_AT] {
                Cell::Absent | Cell::Missing => None,
                cell => Some(moment(cell, video::PUBLISHED_AT)?),
            },
            thumbnail_url: text(cells, video::THUMBNAIL_URL)?,
            tags: names(cells, video::TAGS)?,
            performers: names(cells, video::PERFORMERS)?,
        };
        if cells[video::TITLE] == Cell::Absent && !self.known.contains(&id) {
            return Err(Defect::at(
                video::TITLE,
                "the title of a new video",
                "nothing",
            ));
        }
        // Last, so that a refused row does not make a later good one a duplicate.
        if let Some(first) = self.seen.get(&id) {
            let found = format!("the id of {unit} {first} again");
            return Err(Defect::at(video::ID, "each video once", found));
        }
        self.seen.insert(id, number);
        let columns = kind::STORED
            .into_iter()
            .filter(|(position, _)| cells[*position] != Cell::Absent)
            .map(|(_, column)| column)
            .collect();
        Ok(VideoRow { video, columns })
    }
}

/// Converts the cells of rows into likes or skips.
#[derive(Debug)]
pub(crate) struct InteractionRows {
    /// Ids of the catalogue.
    pub(crate) known: Arc<HashSet<Uuid>>,
    /// Time of rows without one.
    pub(crate) default_time_us: Option<i64>,
}

impl InteractionRows {
    pub(crate) fn read(&self, cells: &[Cell<'_>]) -> Result<InteractionRow, Defect> {
        let user = read_id(cells, interaction::USER_ID)?;
        let video = read_id(cells, interaction::VIDEO_ID)?;
        if !self.known.contains(&video) {
            return Err(Defect::at(
                interaction::VIDEO_ID,
                "a video of the catalogue (import videos first)",
                cells[interaction::VIDEO_ID].describe(false),
            ));
        }
        let at_us = match (&cells[interaction::CREATED_AT], self.default_time_us) {
            (Cell::Absent | Cell::Missing, Some(default)) => default,
            (cell, _) => moment(cell, interaction::CREATED_AT)?,
        };
        // Training stores seconds since 1970 in 32 bits.
        if !(0..=i64::from(u32::MAX)).contains(&at_us.div_euclid(SECOND_US)) {
            return Err(Defect::at(
                interaction::CREATED_AT,
                "a time from 1970 to 2106",
                cells[interaction::CREATED_AT].describe(false),
            ));
        }
        Ok(InteractionRow { user, video, at_us })
    }
}

fn read_id(cells: &[Cell<'_>], column: usize) -> Result<Uuid, Defect> {
    // Messages do not repeat ids of users.
    let private = cells.len() == 3 && column == interaction::USER_ID;
    id::from_cell(&cells[column])
        .ok_or_else(|| Defect::at(column, id::EXPECTED, cells[column].describe(private)))
}

fn moment(cell: &Cell<'_>, column: usize) -> Result<i64, Defect> {
    // Years that both PostgreSQL and RFC 3339 support.
    const YEARS: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;
    let time = match cell {
        Cell::Time(micros) => Some(*micros),
        Cell::Text(text) => time::parse(text),
        Cell::Integer(number) => time::from_unix(*number),
        Cell::Float(number) => time::from_float(*number),
        _ => None,
    };
    time.filter(|micros| YEARS.contains(micros))
        .ok_or_else(|| Defect::at(column, time::EXPECTED, cell.describe(false)))
}

/// Trimmed text; `None` if that is empty.
fn text(cells: &[Cell<'_>], column: usize) -> Result<Option<String>, Defect> {
    let text = match &cells[column] {
        Cell::Absent | Cell::Missing => return Ok(None),
        Cell::Text(text) => clean(text, column)?.to_owned(),
        cell @ (Cell::Integer(_) | Cell::Float(_)) => cell.describe(false),
        Cell::Id(id) => id.to_string(),
        cell => return Err(Defect::at(column, "text", cell.describe(false))),
    };
    Ok((!text.is_empty()).then_some(text))
}

fn clean(text: &str, column: usize) -> Result<&str, Defect> {
    if text.contains('\0') {
        let found = format!("{}, which holds a NUL", quote(text));
        return Err(Defect::at(column, "text without NUL", found));
    }
    Ok(text.trim())
}

fn amount(
    cells: &[Cell<'_>],
    column: usize,
    expected: &'static str,
) -> Result<Option<f32>, Defect> {
    let number = match &cells[column] {
        Cell::Absent | Cell::Missing => return Ok(None),
        Cell::Integer(number) => Some(*number as f32),
        Cell::Float(number) => Some(*number as f32),
        Cell::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|number: &f32| number.is_finite() && *number >= 0.0)
        // Turns -0 into 0.
        .map(|number| Some(number + 0.0))
        .ok_or_else(|| Defect::at(column, expected, cells[column].describe(false)))
}

const NAMES: &str = "names of at most 1,000 bytes";

/// A list of names, ascending and without duplicates. Text is a list separated by `|`.
fn names(cells: &[Cell<'_>], column: usize) -> Result<Vec<String>, Defect> {
    let mut names = Vec::new();
    let mut push = |name: &str| {
        let name = clean(name, column)?;
        if name.len() > LONGEST_NAME {
            let found = format!("{}, which has {} bytes", quote(name), name.len());
            return Err(Defect::at(column, NAMES, found));
        }
        if !name.is_empty() {
            names.push(name.to_owned());
        }
        Ok(())
    };
    match &cells[column] {
        Cell::Absent | Cell::Missing => {}
        Cell::Text(text) => text.split('|').try_for_each(&mut push)?,
        Cell::List(list) => list.iter().try_for_each(|name| push(name))?,
        cell => {
            let expected = "a list of texts (a|b, or a list type)";
            return Err(Defect::at(column, expected, cell.describe(false)));
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use twotower_store::VideoColumn;

    fn cells<const N: usize>(cells: [(usize, Cell<'static>); N]) -> Vec<Cell<'static>> {
        let mut row = vec![Cell::Absent; 11];
        row[video::ID] = Cell::Integer(1);
        for (column, cell) in cells {
            row[column] = cell;
        }
        row
    }

    /// For a catalogue that has the video.
    fn rows() -> VideoRows {
        let known = [id::from_integer(1).unwrap()];
        VideoRows::new(Arc::new(known.into()))
    }

    fn read(row: &[Cell<'_>]) -> Result<VideoRow, Defect> {
        rows().read(row, 2, "line")
    }

    #[test]
    fn a_new_video_needs_a_title_and_one_that_is_there_only_its_id() {
        let defect = VideoRows::default()
            .read(&cells([]), 2, "line")
            .unwrap_err();
        assert_eq!(defect.column, Some(video::TITLE));
        let unknown = cells([(video::TITLE, Cell::Missing)]);
        assert!(VideoRows::default().read(&unknown, 2, "line").is_ok());
        let row = read(&cells([])).unwrap();
        let expected = Video {
            id: id::from_integer(1).unwrap(),
            ..Video::default()
        };
        assert_eq!(row.video, expected);
        assert_eq!(row.columns, [].into_iter().collect());
    }

    #[test]
    fn a_column_is_there_even_if_it_is_empty() {
        let row = cells([
            (video::PRICE, Cell::Missing),
            (video::TAGS, Cell::Missing),
            (video::GENRE, Cell::Text("drama".into())),
        ]);
        let expected = [VideoColumn::Price, VideoColumn::Tags, VideoColumn::Genre];
        let columns = expected.into_iter().collect();
        assert_eq!(read(&row).unwrap().columns, columns);
    }

    #[test]
    fn lists_are_sets_of_names() {
        let tags = [
            Cell::Text("b| a ||b".into()),
            Cell::List(vec!["b".into(), " a".into(), Cow::Borrowed("")]),
        ];
        for cell in tags {
            assert_eq!(
                read(&cells([(video::TAGS, cell)])).unwrap().video.tags,
                ["a", "b"]
            );
        }
    }

    #[test]
    fn a_name_may_be_as_long_as_the_database_takes() {
        let longest = "a".repeat(LONGEST_NAME);
        let row = cells([(video::TAGS, Cell::Text(format!(" {longest} |b").into()))]);
        assert_eq!(read(&row).unwrap().video.tags, [longest.as_str(), "b"]);
        assert!(NAMES.replace(',', "").contains(&LONGEST_NAME.to_string()));
    }

    #[test]
    fn what_no_video_has_is_refused_by_column() {
        let long = "雪".repeat(LONGEST_NAME / 3 + 1);
        let refused = [
            (video::ID, Cell::Missing),
            (video::ID, Cell::Float(1.5)),
            (video::TITLE, Cell::Text("a\0b".into())),
            (video::TITLE, Cell::Other("an object")),
            (video::PRICE, Cell::Float(f64::NAN)),
            (video::PRICE, Cell::Float(-1.0)),
            (video::PRICE, Cell::Float(1e300)),
            (video::PRICE, Cell::Text("1,200".into())),
            (video::PRICE, Cell::Text("inf".into())),
            (video::DURATION_SECONDS, Cell::Integer(-1)),
            (video::PUBLISHED_AT, Cell::Text("soon".into())),
            (video::PUBLISHED_AT, Cell::Time(i64::MAX)),
            (video::TAGS, Cell::Integer(3)),
            (video::PERFORMERS, Cell::List(vec!["a\0".into()])),
            (
                video::PERFORMERS,
                Cell::List(vec!["a".into(), long.clone().into()]),
            ),
            (video::TAGS, Cell::Text(format!("a| {long} |b").into())),
        ];
        for (column, cell) in refused {
            let defect = read(&cells([(column, cell.clone())])).unwrap_err();
            assert_eq!(defect.column, Some(column), "{cell:?}");
        }
    }

    #[test]
    fn a_video_comes_once() {
        let mut rows = rows();
        let bad = cells([(video::PRICE, Cell::Integer(-1))]);
        assert!(rows.read(&bad, 2, "line").is_err());
        assert!(rows.read(&cells([]), 3, "line").is_ok());
        let again = rows.read(&cells([]), 4, "line").unwrap_err();
        assert_eq!(again.found, "the id of line 3 again");
    }

    #[test]
    fn a_like_needs_a_known_video_and_a_time() {
        let rows = |default_time_us| InteractionRows {
            known: Arc::new([id::from_integer(7).unwrap()].into()),
            default_time_us,
        };
        let like = |user, video, at| [user, video, at];
        let good = like(
            Cell::Text("anna".into()),
            Cell::Integer(7),
            Cell::Integer(100),
        );
        assert_eq!(rows(None).read(&good).unwrap().at_us, 100_000_000);

        let timeless = like(Cell::Text("anna".into()), Cell::Integer(7), Cell::Missing);
        assert_eq!(rows(Some(5)).read(&timeless).unwrap().at_us, 5);
        for (row, column) in [
            (timeless, interaction::CREATED_AT),
            (
                like(Cell::Integer(1), Cell::Integer(8), Cell::Integer(1)),
                interaction::VIDEO_ID,
            ),
            (
                like(Cell::Integer(1), Cell::Integer(7), Cell::Time(-1)),
                interaction::CREATED_AT,
            ),
            (
                like(Cell::Float(1.5), Cell::Integer(7), Cell::Integer(1)),
                interaction::USER_ID,
            ),
        ] {
            let defect = rows(None).read(&row).unwrap_err();
            assert_eq!(defect.column, Some(column));
            assert!(
                !defect.found.contains("1.5"),
                "who somebody is stays out of messages"
            );
        }
    }
}
