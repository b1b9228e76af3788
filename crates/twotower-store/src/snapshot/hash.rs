use sha2::{Digest, Sha256};
use twotower_core::feature::VideoRef;
use twotower_core::interaction::{Dataset, Interaction};

/// Content hash of a snapshot: SHA-256 (hex) over catalogue, likes and skips. Users enter by number
/// only.
///
/// Fields that training does not read (the thumbnail's address) are left out.
pub fn snapshot_sha256(dataset: &Dataset) -> String {
    let mut hash = Sha256::new_with_prefix("twotower snapshot 1\n");
    // One buffer, because many small updates cost more than the hashing.
    let mut buffer = Vec::with_capacity(1 << 16);
    number(&mut buffer, dataset.users as u64);
    number(&mut buffer, dataset.catalogue.len() as u64);
    for video in dataset.catalogue.videos() {
        push_video(&mut buffer, video);
        flush(&mut hash, &mut buffer);
    }
    for rows in [&dataset.likes, &dataset.skips] {
        number(&mut buffer, rows.len() as u64);
        for Interaction { user, item, at } in rows {
            for part in [user, item, at] {
                buffer.extend_from_slice(&part.to_le_bytes());
            }
            flush(&mut hash, &mut buffer);
        }
    }
    hash.update(&buffer);
    hex(&hash.finalize())
}

fn flush(hash: &mut Sha256, buffer: &mut Vec<u8>) {
    if buffer.len() > 1 << 15 {
        hash.update(&buffer);
        buffer.clear();
    }
}

fn push_video(buffer: &mut Vec<u8>, video: VideoRef<'_>) {
    buffer.extend_from_slice(video.id.as_bytes());
    text(buffer, video.title);
    text(buffer, video.description);
    for field in [video.genre, video.maker] {
        option(buffer, field, text);
    }
    for field in [video.price, video.duration_seconds] {
        option(buffer, field, |buffer, x| {
            buffer.extend_from_slice(&x.to_bits().to_le_bytes());
        });
    }
    option(buffer, video.published_at_us, |buffer, at| {
        buffer.extend_from_slice(&at.to_le_bytes());
    });
    for names in [video.tags, video.performers] {
        number(buffer, names.len() as u64);
        for name in names.iter() {
            text(buffer, name);
        }
    }
}

fn number(buffer: &mut Vec<u8>, x: u64) {
    buffer.extend_from_slice(&x.to_le_bytes());
}

/// Length-prefixed, so that different lists of texts differ.
fn text(buffer: &mut Vec<u8>, text: &str) {
    number(buffer, text.len() as u64);
    buffer.extend_from_slice(text.as_bytes());
}

fn option<T>(buffer: &mut Vec<u8>, value: Option<T>, push: impl Fn(&mut Vec<u8>, T)) {
    buffer.push(u8::from(value.is_some()));
    if let Some(value) = value {
        push(buffer, value);
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[digit as usize]))
        .collect()
}

/// SHA-256 of `bytes`, in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
