//! Durations as manifests write them.

use std::time::Duration;

use jiff::SignedDuration;
use moorfast_engine::{Attributes, Value};

/// The duration of the attribute `name`, if it is written and is one: `90s`, `15m`, `1h 30m`.
pub(crate) fn of(attributes: &Attributes, name: &str) -> Option<Duration> {
    parse(attributes.get(name).and_then(Value::as_str)?)
}

/// The duration that `text` says.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

/// `duration` as people write it: `5m`.
pub(crate) fn shown(duration: Duration) -> String {
    SignedDuration::try_from(duration).map(|d| format!("{d:#}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("15m"), Some(Duration::from_secs(900)));
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("-5s"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(shown(Duration::from_secs(90)), "1m 30s");
    }
}
