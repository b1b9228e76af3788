//! Character n-grams of titles and descriptions, hashed: titles are Japanese as often as English, so white space is no guide.

/// FNV-1a, 64 bits: stable across machines and easy to write again in another language.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The distinct buckets, ascending, of the character 2- and 3-grams of `text`.
///
/// Letters are lower-cased; everything that is neither letter nor digit becomes one space, and the text is framed by
/// spaces. An n-gram's bucket is FNV-1a (64 bits) of its UTF-8 bytes modulo `buckets`. Of more than `limit` n-grams the
/// `limit` with the smallest hashes stay: a sample that does not depend on where they stand (min-hash, Broder 1997).
pub(super) fn ngram_buckets(text: &str, buckets: u32, limit: usize) -> Vec<u32> {
    let mut chars = vec![' '];
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = if c.is_alphanumeric() { c } else { ' ' };
        if c != ' ' || chars.last() != Some(&' ') {
            chars.push(c);
        }
    }
    if chars.last() != Some(&' ') {
        chars.push(' ');
    }
    let mut buffer = [0; 4];
    let mut hashes: Vec<u64> = [2, 3]
        .into_iter()
        .flat_map(|n| chars.windows(n))
        .map(|gram| {
            fnv1a(
                gram.iter()
                    .flat_map(|c| c.encode_utf8(&mut buffer).bytes().collect::<Vec<_>>()),
            )
        })
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(limit);
    let mut rows: Vec<u32> = hashes
        .into_iter()
        .map(|hash| (hash % u64::from(buckets.max(1))) as u32)
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_count() {
        assert_eq!(
            ngram_buckets("Night Train!", 1 << 20, 99),
            ngram_buckets("night  train", 1 << 20, 99)
        );
        assert_eq!(
            ngram_buckets("夜行列車", 1 << 20, 99).len(),
            9,
            "5 pairs and 4 triples, framed by spaces"
        );
        assert!(ngram_buckets("", 8, 99).is_empty());
        assert_eq!(ngram_buckets("a long enough text", 1 << 20, 5).len(), 5);
    }
}
