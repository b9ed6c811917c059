//! The default limits of scripts.

use std::time::Duration;

/// The default limit of reads and quick operations, and the additional time for each of them.
pub(crate) const QUICK_LIMIT: Duration = Duration::from_secs(120);
const QUICK_SECTION: Duration = Duration::from_millis(100);
/// The default limit of other operations.
pub(crate) const LONG_LIMIT: Duration = Duration::from_secs(600);

/// Returns the limit of `count` quick sections that run one after the other.
pub(crate) fn quick_limit(count: usize) -> Duration {
    QUICK_LIMIT + QUICK_SECTION * u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns the limit of a script whose sections have these timeouts: the longest one, so that a short timeout does not interrupt the others.
pub(crate) fn longest_limit(timeouts: impl ExactSizeIterator<Item = Option<Duration>>) -> Duration {
    let usual = quick_limit(timeouts.len());
    timeouts.map(|timeout| timeout.unwrap_or(usual)).max().unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_timeout_does_not_interrupt_the_others() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(longest_limit([seconds(1), None].into_iter()), quick_limit(2));
        assert_eq!(longest_limit([seconds(1), seconds(5)].into_iter()), Duration::from_secs(5));
        assert_eq!(longest_limit([seconds(900), None].into_iter()), Duration::from_secs(900));
        assert!(quick_limit(5000) >= Duration::from_secs(600));
    }
}
