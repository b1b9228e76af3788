//! Ids that are not UUIDs.

use uuid::Uuid;

/// Namespace of the name-based (version 5) UUIDs that stand for text ids: the version 5 UUID of
/// `tag:twotower,2026:import` in the URL namespace.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x471c_eefc_777e_534a_a12a_612d_cb17_0197);

/// Accepted ids, for messages.
pub const EXPECTED: &str = "an id (a UUID, a whole number or text)";

/// Integers below this keep their order as UUIDs.
const INTEGERS: i64 = 1 << 62;

/// The UUID that stands for an application's own id.
///
/// A UUID in any usual spelling stands for itself. A whole number from 0 to 2⁶² - 1 in its shortest
/// spelling becomes the version 8 UUID with the number in its low 62 bits, so that ids keep their
/// order and stay readable. Any other text becomes its version 5 UUID in [`NAMESPACE`]. Surrounding
/// white space is ignored. `None` for empty text and for text with a NUL.
pub fn from_text(text: &str) -> Option<Uuid> {
    let text = text.trim();
    if text.is_empty() || text.contains('\0') {
        return None;
    }
    if let Some(id) = shortest_integer(text).and_then(from_integer) {
        return Some(id);
    }
    Some(Uuid::try_parse(text).unwrap_or_else(|_| Uuid::new_v5(&NAMESPACE, text.as_bytes())))
}

/// The version 8 UUID that contains `integer`; `None` outside 0 to 2⁶² - 1.
pub fn from_integer(integer: i64) -> Option<Uuid> {
    const VERSION_AND_VARIANT: u128 = 0x8000_8000_0000_0000_0000;
    (0..INTEGERS)
        .contains(&integer)
        .then(|| Uuid::from_u128(VERSION_AND_VARIANT | integer as u128))
}

/// The UUID that stands for any whole number: as [`from_integer`], else as [`from_text`] of its
/// digits.
pub fn from_any_integer(integer: i64) -> Option<Uuid> {
    from_integer(integer).or_else(|| from_text(&integer.to_string()))
}

/// As [`from_any_integer`] for a whole number in floating point: tables with a null often write
/// integers that way. `None` for a fraction, and for numbers that floating point cannot
/// distinguish.
pub fn from_float(float: f64) -> Option<Uuid> {
    (float.fract() == 0.0 && float.abs() < (1_u64 << 53) as f64)
        .then(|| from_any_integer(float as i64))
        .flatten()
}

/// The number, if this is its shortest spelling: `007` is text, not 7.
fn shortest_integer(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = text == "0" || !text.starts_with('0');
    (digits && shortest).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    #[test]
    fn the_namespace_is_what_its_doc_says() {
        assert_eq!(
            NAMESPACE,
            Uuid::new_v5(&Uuid::NAMESPACE_URL, b"tag:twotower,2026:import")
        );
    }

    #[test]
    fn integers_stay_readable() {
        let id = from_text("1234").unwrap();
        assert_eq!(id.to_string(), "00000000-0000-8000-8000-0000000004d2");
        assert_eq!(id.get_version_num(), 8);
        let last = from_integer(INTEGERS - 1).unwrap();
        assert_eq!(last.to_string(), "00000000-0000-8000-bfff-ffffffffffff");
        assert_eq!(last.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn integers_keep_their_order() {
        let mut random = Pcg64::seed_from_u64(1);
        for _ in 0..10_000 {
            let shift: u32 = random.random_range(1..62);
            let a = random.random_range(0..INTEGERS) >> shift;
            let b = match random.random_range(0..3) {
                0 => a + 1,
                _ => random.random_range(0..INTEGERS) >> random.random_range(1..62_u32),
            };
            let [x, y] = [a, b].map(|n| from_text(&n.to_string()).unwrap());
            assert_eq!(a.cmp(&b), x.as_bytes().cmp(y.as_bytes()), "{a} and {b}");
            assert_eq!(x.get_version_num(), 8);
            assert_eq!(from_any_integer(a), Some(x));
        }
    }

    #[test]
    fn everything_else_is_named_by_its_text() {
        let uuid = "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3e";
        assert_eq!(from_text(uuid).unwrap().to_string(), uuid);
        assert_eq!(from_text(&uuid.to_uppercase()), from_text(uuid));
        for text in ["007", "-5", "1.0", "video-7", "動画", "9223372036854775808"] {
            assert_eq!(from_text(text).unwrap().get_version_num(), 5, "{text}");
        }
        assert_ne!(from_text("007"), from_text("7"));
        assert_eq!(from_text(" 7 "), from_text("7"));
        assert_eq!(from_float(7.0), from_text("7"));
        assert_eq!(from_float(7.5), None);
        assert_eq!(from_any_integer(-5), from_text("-5"));
        assert_eq!(from_text("  "), None);
        assert_eq!(from_text("a\0"), None);
    }
}
