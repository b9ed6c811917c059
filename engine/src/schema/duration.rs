//! Durations as a manifest writes them: `90s`, `15m`, `1h30m`.

use std::time::Duration;

const UNITS: [(&str, f64); 8] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];

/// The duration that `text` writes as numbers with units, `1h30m`; the units are `d`, `h`, `m`, `s`, `ms`, `us` and `ns`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit_length = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit = &rest[digits..digits + unit_length];
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += amount * factor;
        rest = &rest[digits + unit_length..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let cases = [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5m", Some(90_000)),
            ("250ms", Some(250)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("90", None),
            ("s", None),
            ("-5s", None),
            ("5 s", None),
            ("1x", None),
            ("99999999999999999999d", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text).map(|duration| duration.as_millis()), milliseconds, "{text}");
        }
    }
}
