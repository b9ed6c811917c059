//! Objects that incomplete replacements started to create and that the manifest does not declare any more.

use moorfast_state::Record;

use super::model::Reason;
use super::readings::{ReadingKey, Readings};
use crate::model::{Address, Recorded};
use crate::provider::{Observed, ProviderError};

/// An object that an incomplete replacement started to create and that is not declared any more.
#[derive(Clone)]
pub(crate) struct SupersededObject {
    pub record: Recorded,
    /// The object to remove. `None` if it does not exist, or if another instance owns it.
    pub observed: Option<Observed>,
}

/// Takes the pending objects of `address` that are not `is_desired` from the readings.
///
/// # Errors
/// If one of them could not be read.
pub(super) fn superseded(
    address: &Address,
    record: &Recorded,
    is_desired: impl Fn(&Record) -> bool,
    readings: &mut Readings,
) -> Result<Vec<SupersededObject>, ProviderError> {
    let pending = record.pending().iter().filter(|pending| !is_desired(pending));
    let object = |pending: &Recorded| {
        let observed = readings.take(&ReadingKey::Pending(address.clone(), pending.identity.clone()))?;
        Ok(SupersededObject { record: pending.clone(), observed })
    };
    pending.map(object).collect()
}

/// Returns the reasons for the removal of superseded objects.
pub(super) fn reasons(superseded: &[SupersededObject]) -> impl Iterator<Item = Reason> {
    let existing = superseded.iter().filter(|superseded| superseded.observed.is_some());
    existing.map(|superseded| Reason::Superseded { identity: superseded.record.identity.clone() })
}
