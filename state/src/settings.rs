//! The clock and the times of the lock, which tests set.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::seam;

/// How a store tells time and how long its locks live.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How long a lock is held without being renewed.
    pub(crate) expiry: Duration,
    /// How often it is renewed.
    pub(crate) heartbeat: Duration,
    /// How often somebody who waits for a lock tries again.
    pub(crate) retry: Duration,
    /// How long a server that does not answer is asked again.
    pub(crate) patience: Duration,
}

impl Settings {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl Default for Settings {
    fn default() -> Self {
        let expiry = seam::lock_expiry().unwrap_or(Duration::from_secs(60));
        Self {
            clock: Arc::new(Timestamp::now),
            expiry,
            heartbeat: expiry / 6,
            retry: Duration::from_millis(200),
            patience: Duration::from_secs(20),
        }
    }
}
