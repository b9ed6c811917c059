//! Whether a run may still begin operations.

use std::sync::{Arc, OnceLock};

use moorfast_state::Hold;
use tokio_util::sync::CancellationToken;

use crate::provider::{Class, ProviderError};

/// The leave of a run to begin operations. It ends when the person wants nothing more to be begun, and when the lock of the run is lost: from then on
/// others may act. The default never ends.
#[derive(Clone, Debug, Default)]
pub struct StartPermit {
    hold: Arc<OnceLock<Hold>>,
    stop: CancellationToken,
}

impl StartPermit {
    /// A leave that ends with `stop`, at the latest.
    pub fn until(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// From now on it ends with this lock. A run has one, so the first counts.
    pub fn bind(&self, hold: Hold) {
        let _ = self.hold.set(hold);
    }

    /// Is the lock lost, so that not even what has begun may change anything more?
    pub fn is_lost(&self) -> bool {
        self.hold.get().is_some_and(Hold::is_lost)
    }

    /// Asked right before an operation on `what` begins.
    ///
    /// # Errors
    /// [`Class::NotBegun`] where it has ended.
    pub fn check(&self, what: impl std::fmt::Display) -> Result<(), ProviderError> {
        let why = match (self.is_lost(), self.stop.is_cancelled()) {
            (true, _) => "the lock of this run is lost",
            (false, true) => "the run was ended",
            (false, false) => return Ok(()),
        };
        Err(ProviderError::new(Class::NotBegun, format!("{what}: not begun, because {why}")))
    }
}
