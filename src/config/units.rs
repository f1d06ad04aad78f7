//! Durations and sizes as people write them.

use std::fmt::Write as _;
use std::time::Duration;

/// Reads "250ms", "90s", "5m", "1h30m", "1d": whole numbers, each with its unit, the largest unit first.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut units = TIMES.iter();
    while !rest.is_empty() {
        let (number, unit, behind) = number_and_unit(rest)?;
        // `find` goes on behind the unit before: none comes twice, none out of order.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(Duration::from_millis(number.checked_mul(*millis)?))?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

/// Reads "512B", "4KiB", "64KiB", "1MiB": bytes.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit, rest) = number_and_unit(text)?;
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    rest.is_empty().then_some(())?;
    number.checked_mul(*bytes)
}

/// Writes a duration the way [`duration`] reads it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in TIMES {
        let (count, rest) = (millis.div_euclid(length), millis.rem_euclid(length));
        if count > 0 && write!(text, "{count}{unit}").is_ok() {
            millis = rest;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Writes a size the way [`size`] reads it.
pub(crate) fn show_size(bytes: u64) -> String {
    let whole = |length: u64| bytes >= length && bytes.is_multiple_of(length);
    let (unit, length) = SIZES.into_iter().find(|(_, length)| whole(*length)).unwrap_or(("B", 1));
    format!("{}{unit}", bytes.div_euclid(length))
}

/// "30m5s" is 30, "m" and "5s".
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, behind) = rest.split_at(unit);
    Some((digits.parse().ok()?, unit, behind))
}

/// In milliseconds, longest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// In bytes, largest first.
const SIZES: [(&str, u64); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_as_people_write_it() {
        let cases = [
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(show_duration(Duration::from_millis(93_784_005)), "1d2h3m4s5ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let cases = [
            "",
            "5",
            "m",
            "5 m",
            "-5m",
            "+5m",
            "5M",
            "1.5h",
            "5m5m",
            "5s1m",
            "5m ",
            "99999999999999999999s",
            "999999999999999999d",
            "5µs",
            "٥m",
        ];
        for text in cases {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_size_reads_as_people_write_it() {
        let cases = [("0B", 0), ("199B", 199), ("4KiB", 4096), ("64KiB", 65_536), ("1MiB", 1 << 20)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for text in [
            "",
            "4",
            "KiB",
            "4kb",
            "4K",
            "4 KiB",
            "4KiB1B",
            "-1B",
            "99999999999999999999B",
            "99999999999999999MiB",
        ] {
            assert_eq!(size(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0..u64::MAX / 2, bytes: u64) {
            let shown = show_duration(Duration::from_millis(millis));
            proptest::prop_assert_eq!(duration(&shown), Some(Duration::from_millis(millis)));
            proptest::prop_assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
    }
}
