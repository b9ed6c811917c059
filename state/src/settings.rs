//! The clock and the durations of a store. Tests set their own.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::fault_injection;

/// The clock and the durations of a store.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The lifetime of a lock that is not renewed.
    pub(crate) expiry: Duration,
    /// The interval between renewals of a lock.
    pub(crate) heartbeat: Duration,
    /// The interval between attempts to take a lock.
    pub(crate) retry: Duration,
    /// How long a request to a server that does not answer is repeated.
    pub(crate) retry_for: Duration,
}

impl Settings {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl Default for Settings {
    fn default() -> Self {
        let expiry = fault_injection::lock_expiry().unwrap_or(Duration::from_secs(60));
        Self {
            clock: Arc::new(Timestamp::now),
            expiry,
            heartbeat: expiry / 6,
            retry: Duration::from_millis(200),
            retry_for: Duration::from_secs(20),
        }
    }
}
