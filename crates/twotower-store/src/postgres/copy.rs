use crate::StoreError;
use futures_util::TryStreamExt;
use sqlx::PgConnection;
use uuid::Uuid;

/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

/// One field of a row of `COPY … (FORMAT binary)`, with its name for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) query: &'static str,
    pub(super) column: &'static str,
    pub(super) bytes: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    fn wrong(self, reason: &str) -> StoreError {
        StoreError::Row {
            query: self.query,
            column: self.column,
            reason: reason.to_owned(),
        }
    }

    fn array<const N: usize>(self, bytes: &[u8]) -> Result<[u8; N], StoreError> {
        bytes
            .try_into()
            .map_err(|_| self.wrong("is not of the expected type"))
    }

    pub(super) fn given(self) -> Result<&'a [u8], StoreError> {
        self.bytes.ok_or_else(|| self.wrong("is NULL"))
    }

    pub(super) fn uuid(self) -> Result<Uuid, StoreError> {
        self.array(self.given()?).map(Uuid::from_bytes)
    }

    /// Microseconds since 1970. PostgreSQL's infinities become the minimum and maximum of the type.
    pub(super) fn time_us(self) -> Result<i64, StoreError> {
        let since_2000 = self.array(self.given()?).map(i64::from_be_bytes)?;
        Ok(match since_2000 {
            i64::MIN | i64::MAX => since_2000,
            finite => finite.saturating_add(EPOCH_2000_US),
        })
    }

    pub(super) fn text(self) -> Result<String, StoreError> {
        String::from_utf8(self.given()?.to_vec()).map_err(|_| self.wrong("is not UTF-8"))
    }

    pub(super) fn integer(self) -> Result<i64, StoreError> {
        self.array(self.given()?).map(i64::from_be_bytes)
    }

    pub(super) fn real(self) -> Result<f32, StoreError> {
        self.array(self.given()?).map(f32::from_be_bytes)
    }

    /// `None` for NULL.
    pub(super) fn optional<T>(
        self,
        read: impl FnOnce(Self) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.bytes.map(|_| read(self)).transpose()
    }
}

/// Runs `COPY (…) TO STDOUT (FORMAT binary)` and passes on its rows of N fields one by one. `name`
/// is the query or table, for errors.
pub(super) async fn copy_out<const N: usize, E: From<StoreError>>(
    connection: &mut PgConnection,
    name: &str,
    statement: &str,
    mut row: impl FnMut([Option<&[u8]>; N]) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error| StoreError::from(error).in_query(name);
    let chunks = connection.copy_out_raw(statement).await;
    let mut chunks = chunks.map_err(failed)?;
    let mut decoder = Decoder::default();
    while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
        decoder.feed(&chunk, &mut row)?;
    }
    Ok(decoder.finish()?)
}

/// Splits the stream into rows. The protocol allows message boundaries anywhere.
#[derive(Debug, Default)]
struct Decoder {
    rest: Vec<u8>,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Rows,
    Trailer,
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

impl Decoder {
    fn feed<const N: usize, E: From<StoreError>>(
        &mut self,
        chunk: &[u8],
        row: &mut impl FnMut([Option<&[u8]>; N]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Common case: a message of whole rows is read in place.
        let joined;
        let mut bytes = if self.rest.is_empty() {
            chunk
        } else {
            joined = [&std::mem::take(&mut self.rest), chunk].concat();
            &joined
        };
        if self.state == State::Header {
            let Some(rest) = after_header(bytes)? else {
                self.rest = bytes.to_vec();
                return Ok(());
            };
            bytes = rest;
            self.state = State::Rows;
        }
        while self.state == State::Rows {
            match split_row::<N>(bytes)? {
                Split::Row(fields, rest) => {
                    row(fields)?;
                    bytes = rest;
                }
                Split::Trailer => self.state = State::Trailer,
                Split::Short => {
                    self.rest = bytes.to_vec();
                    break;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), StoreError> {
        if self.state == State::Trailer {
            Ok(())
        } else {
            Err(malformed("it ends early"))
        }
    }
}

enum Split<'a, const N: usize> {
    Row([Option<&'a [u8]>; N], &'a [u8]),
    Trailer,
    Short,
}

fn split_row<const N: usize>(bytes: &[u8]) -> Result<Split<'_, N>, StoreError> {
    let Some((count, mut rest)) = bytes.split_first_chunk() else {
        return Ok(Split::Short);
    };
    match i16::from_be_bytes(*count) {
        -1 => return Ok(Split::Trailer),
        count if usize::try_from(count) == Ok(N) => {}
        _ => return Err(malformed("a row has another number of fields")),
    }
    let mut fields = [None; N];
    for field in &mut fields {
        let Some((length, after)) = rest.split_first_chunk() else {
            return Ok(Split::Short);
        };
        // -1 stands for NULL.
        rest = match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => after,
            Ok(length) => {
                let Some((value, after)) = after.split_at_checked(length) else {
                    return Ok(Split::Short);
                };
                *field = Some(value);
                after
            }
        };
    }
    Ok(Split::Row(fields, rest))
}

/// The data after signature, flags and extension; `None` if not enough has arrived.
fn after_header(bytes: &[u8]) -> Result<Option<&[u8]>, StoreError> {
    if bytes.len() < SIGNATURE.len() + 8 {
        return Ok(None);
    }
    let rest = bytes
        .strip_prefix(SIGNATURE)
        .ok_or_else(|| malformed("it is not in binary format"))?;
    let extension = rest[4..]
        .first_chunk()
        .map_or(0, |length| u32::from_be_bytes(*length) as usize);
    Ok(rest.get(8 + extension..))
}

fn malformed(reason: &str) -> StoreError {
    StoreError::Connection(sqlx::Error::Protocol(format!(
        "the server's COPY stream is malformed: {reason}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for value in [b"ab".as_slice(), b"", b"cde"] {
            bytes.extend(2_i16.to_be_bytes());
            bytes.extend((value.len() as i32).to_be_bytes());
            bytes.extend(value);
            bytes.extend((-1_i32).to_be_bytes());
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    #[test]
    fn infinite_times_stay_infinite() {
        for (since_2000, expected) in [
            (i64::MIN, i64::MIN),
            (i64::MAX, i64::MAX),
            (-EPOCH_2000_US, 0),
            (1, EPOCH_2000_US + 1),
        ] {
            let field = Field {
                query: "likes",
                column: "created_at",
                bytes: Some(&since_2000.to_be_bytes()),
            };
            assert_eq!(field.time_us().unwrap(), expected);
        }
    }

    #[test]
    fn rows_are_the_same_however_the_stream_is_cut() {
        let bytes = stream();
        for size in 1..=bytes.len() {
            let mut rows = Vec::new();
            let mut decoder = Decoder::default();
            for chunk in bytes.chunks(size) {
                decoder
                    .feed(chunk, &mut |[one, two]: [Option<&[u8]>; 2]| {
                        rows.push((one.map(<[u8]>::to_vec), two.map(<[u8]>::to_vec)));
                        Ok::<_, StoreError>(())
                    })
                    .unwrap();
            }
            decoder.finish().unwrap();
            let expected = [b"ab".as_slice(), b"", b"cde"];
            assert_eq!(rows, expected.map(|value| (Some(value.to_vec()), None)));
        }
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        let bytes = stream();
        for end in 0..bytes.len() {
            let mut decoder = Decoder::default();
            let fed = decoder.feed(&bytes[..end], &mut |_: [Option<&[u8]>; 2]| {
                Ok::<_, StoreError>(())
            });
            assert!(fed.and_then(|()| decoder.finish()).is_err(), "{end}");
        }
        let mut decoder = Decoder::default();
        assert!(
            decoder
                .feed(&bytes, &mut |_: [Option<&[u8]>; 3]| Ok::<_, StoreError>(()))
                .is_err()
        );
    }
}
