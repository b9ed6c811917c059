//! The side effects of removals on other objects, which the providers find out without changing anything.

use super::batches::Batches;
use super::draft::Draft;
use super::inputs::Inputs;
use super::model::Change;
use crate::provider::{Action, ReadRequest};

/// Returns the requests for the side effects of all planned removals of existing objects, each with the index of its change.
pub(super) fn removals(inputs: &Inputs, draft: &Draft) -> Batches<(usize, ReadRequest)> {
    let mut requests = Batches::default();
    for (i, change) in draft.changes.iter().enumerate().filter(|(_, change)| removes_existing(draft, change)) {
        let Some(record) = draft.items.get(&change.address).and_then(|item| item.recorded.as_ref()) else { continue };
        let Some(target) = inputs.target_of(&change.address, record) else { continue };
        let Some(request) = inputs.expanded.read_request(&change.address, record.shared()) else { continue };
        requests.add(&record.provider, &target, (i, request));
    }
    requests
}

fn removes_existing(draft: &Draft, change: &Change) -> bool {
    let Some(item) = draft.items.get(&change.address) else { return false };
    match change.action {
        Action::Delete => item.observed.is_some(),
        Action::Replace | Action::ReplaceCreateFirst => item.former.is_some() || item.observed.is_some(),
        _ => false,
    }
}
