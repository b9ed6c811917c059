//! Whether a run may still begin operations.

use std::sync::{Arc, OnceLock};

use moorfast_state::Hold;

use crate::{Class, ProviderError};

/// The leave of a run to begin operations. It ends when the lock of the run is lost: from then on others may act. The default never ends.
#[derive(Clone, Debug, Default)]
pub struct Leave(Arc<OnceLock<Hold>>);

impl Leave {
    /// From now on it ends with this lock. A run has one, so the first counts.
    pub fn bind(&self, hold: Hold) {
        let _ = self.0.set(hold);
    }

    /// Has it ended?
    pub fn is_over(&self) -> bool {
        self.0.get().is_some_and(Hold::is_lost)
    }

    /// Asked right before an operation on `what` begins.
    ///
    /// # Errors
    /// [`Class::Cancelled`] where it has ended.
    pub fn check(&self, what: impl std::fmt::Display) -> Result<(), ProviderError> {
        if self.is_over() {
            let message = format!("{what}: not begun, because the lock of this run is lost");
            return Err(ProviderError::new(Class::Cancelled, message));
        }
        Ok(())
    }
}
