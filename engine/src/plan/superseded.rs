//! Objects that incomplete replacements started to create and that the manifest does not declare any more.

use std::collections::HashMap;
use std::sync::Arc;

use moorfast_state::Record;

use super::Reason;
use super::planner::Planner;
use super::reading::{Reading, ReadingKey};
use crate::model::Address;
use crate::provider::{Observed, ProviderError};

/// An object that an incomplete replacement started to create and that is not declared any more.
#[derive(Clone)]
pub(crate) struct SupersededObject {
    pub record: Arc<Record>,
    /// The object to remove. `None` if it does not exist, or if another instance owns it.
    pub observed: Option<Observed>,
}

impl Planner<'_> {
    /// Returns the pending objects of `address` that are not `is_desired`, with their readings.
    pub(super) fn superseded(
        &self,
        address: &Address,
        record: &Record,
        is_desired: impl Fn(&Record) -> bool,
        readings: &mut HashMap<ReadingKey, Reading>,
    ) -> Result<Vec<SupersededObject>, ProviderError> {
        let mut superseded = Vec::new();
        for pending in record.pending.iter().filter(|pending| !is_desired(pending)) {
            let which = ReadingKey::Pending(address.clone(), pending.identity.clone());
            let observed = readings.remove(&which).transpose()?.flatten();
            superseded.push(SupersededObject { record: Arc::new(pending.clone()), observed });
        }
        Ok(superseded)
    }
}

/// Returns the reasons for the removal of superseded objects.
pub(super) fn reasons(superseded: &[SupersededObject]) -> impl Iterator<Item = Reason> {
    let existing = superseded.iter().filter(|superseded| superseded.observed.is_some());
    existing.map(|superseded| Reason::Superseded { identity: superseded.record.identity.clone() })
}
