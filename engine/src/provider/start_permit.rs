//! The permit of a run to start operations.

use std::sync::{Arc, OnceLock};

use moorfast_state::Hold;
use tokio_util::sync::CancellationToken;

use crate::provider::{Class, ProviderError};

/// The permit of a run to start operations.
///
/// The permit ends when the user stops the run, and when the run loses the lock of the state, because another run may start then. The default never ends.
#[derive(Clone, Debug, Default)]
pub struct StartPermit {
    hold: Arc<OnceLock<Hold>>,
    stop: CancellationToken,
}

impl StartPermit {
    /// Returns a permit that ends when `stop` is cancelled.
    pub fn until(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Binds the permit to a lock: it ends when the lock is lost. Only the first call has an effect, because a run has one lock.
    pub fn bind(&self, hold: Hold) {
        let _ = self.hold.set(hold);
    }

    /// Whether the lock is lost. If so, even running operations must not change anything more.
    pub fn is_lost(&self) -> bool {
        self.hold.get().is_some_and(Hold::is_lost)
    }

    /// Checks that the operation `what` may start. Called immediately before it starts.
    ///
    /// # Errors
    /// [`Class::NotStarted`] if the permit has ended.
    pub fn check(&self, what: impl std::fmt::Display) -> Result<(), ProviderError> {
        let why = match (self.is_lost(), self.stop.is_cancelled()) {
            (true, _) => "the lock of this run is lost",
            (false, true) => "the run was interrupted",
            (false, false) => return Ok(()),
        };
        Err(ProviderError::new(Class::NotStarted, format!("{what}: not started: {why}")))
    }
}
