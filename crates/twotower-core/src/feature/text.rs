//! Character n-grams of titles and descriptions, hashed. Titles are in Japanese as often as in
//! English, so that white space does not separate words.

/// FNV-1a, 64 bits: the same on all machines, and easy to implement in another language. Continues
/// from `hash`.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Hash of the empty string.
const FNV1A: u64 = 0xcbf2_9ce4_8422_2325;

/// The distinct buckets, ascending, of the character 2- and 3-grams of `text`.
///
/// Letters are lower-cased, every run of other characters than letters and digits becomes one
/// space, and the text is framed by spaces. The bucket of an n-gram is FNV-1a (64 bits) of its
/// UTF-8 bytes modulo `buckets`. If there are more than `limit` n-grams, those with the smallest
/// hashes are used: a sample that does not depend on positions (min-hash, Broder 1997).
pub(super) fn ngram_buckets(text: &str, buckets: u32, limit: usize) -> Vec<u32> {
    let framed = framed(text);
    // The start of each character, and the end of the last one.
    let starts: Vec<usize> = (framed.char_indices().map(|(start, _)| start))
        .chain([framed.len()])
        .collect();
    let bytes = framed.as_bytes();
    let mut hashes = Vec::with_capacity(2 * starts.len());
    for (first, ends) in starts.windows(3).enumerate() {
        let pair = fnv1a(FNV1A, &bytes[ends[0]..ends[2]]);
        hashes.push(pair);
        if let Some(&end) = starts.get(first + 3) {
            hashes.push(fnv1a(pair, &bytes[ends[2]..end]));
        }
    }
    keep_smallest(&mut hashes, limit);
    let mut rows: Vec<u32> = hashes
        .into_iter()
        .map(|hash| (hash % u64::from(buckets.max(1))) as u32)
        .collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Letters and digits of `text` in lower case, with one space for each run of other characters, and
/// one at either end.
fn framed(text: &str) -> String {
    let mut framed = String::with_capacity(text.len() + 2);
    framed.push(' ');
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = if c.is_alphanumeric() { c } else { ' ' };
        if c != ' ' || !framed.ends_with(' ') {
            framed.push(c);
        }
    }
    if !framed.ends_with(' ') {
        framed.push(' ');
    }
    framed
}

/// Keeps the `limit` smallest distinct hashes, ascending, without sorting most of those of a long
/// text.
fn keep_smallest(hashes: &mut Vec<u64>, limit: usize) {
    // A hash may occur more than once, so that more of the smallest are needed until enough of them
    // are distinct.
    let mut looked_at = 2 * limit;
    while 0 < looked_at && looked_at < hashes.len() {
        let (smallest, ..) = hashes.select_nth_unstable(looked_at);
        smallest.sort_unstable();
        let distinct = smallest.chunk_by(|a, b| a == b).count();
        if distinct >= limit {
            hashes.truncate(looked_at);
            break;
        }
        looked_at *= 2;
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    /// The buckets by definition: each n-gram separately, all of them sorted. Models depend on
    /// every one.
    fn defined(text: &str, buckets: u32, limit: usize) -> Vec<u32> {
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
        let grams = [2, 3].into_iter().flat_map(|n| chars.windows(n));
        let mut hashes: Vec<u64> = grams
            .map(|gram| fnv1a(FNV1A, gram.iter().collect::<String>().as_bytes()))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(limit);
        let mut rows: Vec<u32> = hashes
            .iter()
            .map(|hash| (hash % u64::from(buckets)) as u32)
            .collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    #[test]
    fn what_comes_again_and_again_counts_once() {
        let text = format!("{} and something else", "na ".repeat(500));
        for limit in [0, 1, 5, 12, 48] {
            let expected = defined(&text, 1 << 20, limit);
            assert_eq!(ngram_buckets(&text, 1 << 20, limit), expected);
        }
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_the_definition(
            text in "([a-dA-D]|[ßİÅ夜行列車 !]|\\PC){0,120}", limit in 0usize..60, buckets in 1u32..5000,
        ) {
            prop_assert_eq!(ngram_buckets(&text, buckets, limit), defined(&text, buckets, limit));
        }
    }
}
