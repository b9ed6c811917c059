//! Durations of the manifest.

use std::time::Duration;

use jiff::SignedDuration;
use moorfast_engine::model::{Attributes, Value, parse_duration};

/// Returns the duration of the attribute `name` if it is set. The schema has validated it.
pub(crate) fn of(attributes: &Attributes, name: &str) -> Option<Duration> {
    parse_duration(attributes.get(name).and_then(Value::as_str)?)
}

/// Returns the duration in whole seconds, rounded up, for programs without a smaller unit.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Returns `duration` in the notation of the manifest: `5m`.
pub(crate) fn shown(duration: Duration) -> String {
    SignedDuration::try_from(duration).map(|d| format!("{d:#}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_every_duration_that_the_schema_accepts() {
        for (text, seconds) in [("90s", 90), ("1h 30m", 5_400), ("2d", 172_800), ("1.5d", 129_600)] {
            let attributes = Attributes::from([("timeout".to_owned(), Value::from(text))]);
            assert_eq!(of(&attributes, "timeout"), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_read() {
        for seconds in [0, 1, 90, 5_400, 172_800] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse_duration(&shown(duration)), Some(duration), "{}", shown(duration));
        }
        assert_eq!(shown(Duration::from_secs(90)), "1m 30s");
    }

    #[test]
    fn a_part_of_a_second_is_a_second() {
        assert_eq!([0, 1, 1000, 1500].map(Duration::from_millis).map(seconds), [0, 1, 1, 2]);
    }
}
