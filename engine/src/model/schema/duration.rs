//! Durations in manifests and on the command line: `90s`, `15m`, `1h30m`. This is the only grammar of durations.

use std::time::Duration;

/// The units in nanoseconds. Unicode has two letters µ.
const UNITS: [(&str, u128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// The longest duration in nanoseconds, as in Go: about 292 years.
const LONGEST: u128 = i64::MAX as u128;

/// Examples of durations, for messages.
pub const DURATION_EXAMPLES: &str = "a duration such as 90s, 15m or 24h";

/// Parses a duration of numbers with units, such as `1h30m` or `1h 30m`. The units are `d`, `h`, `m`, `s`, `ms`, `us` and `ns`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let nanoseconds = text.split(' ').try_fold(0_u128, |sum, word| sum.checked_add(nanoseconds(word)?))?;
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|nanoseconds| u128::from(*nanoseconds) <= LONGEST)?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Returns the regular expression of all durations, for the JSON Schema.
pub(crate) fn duration_pattern() -> String {
    let units = UNITS.map(|(unit, _)| unit).join("|");
    let word = format!("(([0-9]+[.]?[0-9]*|[.][0-9]+)({units}))+");
    format!("^{word}( {word})*$")
}

/// Returns the nanoseconds of numbers with units, without spaces.
fn nanoseconds(word: &str) -> Option<u128> {
    let (mut rest, mut sum) = (word, 0_u128);
    loop {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, after) = rest.split_at(unit_at);
        let amount_at = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(amount_at);
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(times(amount, factor)?)?;
        if after.is_empty() {
            return Some(sum);
        }
        rest = after;
    }
}

/// Multiplies a decimal number by `factor`. Fractions of a nanosecond are cut off.
fn times(amount: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    // Further digits are fractions of a nanosecond for every unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = digits(fraction)?.checked_mul(factor)? / 10_u128.pow(fraction.len() as u32);
    digits(whole)?.checked_mul(factor)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("1.5m", Some(90_000)),
            ("1.5h30m", Some(7_200_000)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("250ms", Some(250)),
            ("250000us", Some(250)),
            ("250000µs", Some(250)),
            ("250000μs", Some(250)),
            ("2d", Some(172_800_000)),
            ("1.5d", Some(129_600_000)),
            ("2d12h", Some(216_000_000)),
            ("0s", Some(0)),
            ("0.1s", Some(100)),
            ("1m1m", Some(120_000)),
            ("100000d", Some(8_640_000_000_000)),
            ("", None),
            (" ", None),
            ("90", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-5s", None),
            ("+5s", None),
            ("5 s", None),
            (" 5s", None),
            ("5s ", None),
            ("1h  30m", None),
            ("1h\t30m", None),
            ("5S", None),
            ("5min", None),
            ("2 days", None),
            ("1w", None),
            ("PT5M", None),
            ("1x", None),
            ("1h30", None),
            ("1e3s", None),
            ("110000d", None),
            ("99999999999999999999d", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text).map(|duration| duration.as_millis()), milliseconds, "{text}");
        }
        assert_eq!(parse_duration("0.000000001s"), Some(Duration::from_nanos(1)));
    }

    proptest! {
        #[test]
        fn the_pattern_of_the_json_schema_matches_the_parser(text in "([0-9.]{1,3}(d|h|m|s|ms|us|µs|ns|x)?[ ]?){0,4}") {
            let pattern = regex::Regex::new(&duration_pattern()).unwrap();
            prop_assert_eq!(pattern.is_match(&text), parse_duration(&text).is_some(), "{}", text);
        }
    }
}
