//! What replacements under a new identity began to make and did not bring to an end, where the manifest does not want it any more.

use std::collections::HashMap;
use std::sync::Arc;

use moorfast_state::Record;

use super::Reason;
use super::planner::Planner;
use super::reading::{Reading, Which};
use crate::model::Address;
use crate::provider::{Observed, ProviderError};

/// Something that a replacement began to make and that its instance does not want.
#[derive(Clone)]
pub(crate) struct Leftover {
    pub record: Arc<Record>,
    /// What is to be removed of it; none where nothing of it is there, or where another instance wants it.
    pub observed: Option<Observed>,
}

impl Planner<'_> {
    /// Of what is pending under `address`, that which is not `wanted`, as it was read.
    pub(super) fn leftovers(
        &self,
        address: &Address,
        record: &Record,
        wanted: impl Fn(&Record) -> bool,
        readings: &mut HashMap<Which, Reading>,
    ) -> Result<Vec<Leftover>, ProviderError> {
        let mut leftovers = Vec::new();
        for pending in record.pending.iter().filter(|pending| !wanted(pending)) {
            let which = Which::Pending(address.clone(), pending.identity.clone());
            let observed = readings.remove(&which).transpose()?.flatten();
            leftovers.push(Leftover { record: Arc::new(pending.clone()), observed });
        }
        Ok(leftovers)
    }
}

/// Why a change removes what is left over, too.
pub(super) fn reasons(leftovers: &[Leftover]) -> impl Iterator<Item = Reason> {
    let there = leftovers.iter().filter(|leftover| leftover.observed.is_some());
    there.map(|leftover| Reason::Leftover { identity: leftover.record.identity.clone() })
}
