//! The check of a reviewed plan: an object that changed after the review is skipped.

use serde_json::{Map, Value as Json};

use super::context::ApplyContext;
use crate::configuration::expand::Instance;
use crate::model::hash::HashMap;
use crate::model::{Address, Attributes, Mark, Recorded, seal_attributes};
use crate::plan::{Batches, Change, Difference, differences, observed_digest, path_text, read, value_at};
use crate::provider::ReadRequest;
use crate::session::Events;

/// Reads every object that the plan changes again. Returns the objects that changed after the review, with one line for each difference.
pub(super) async fn changed_since_review(context: &ApplyContext, events: &Events) -> HashMap<Address, Vec<String>> {
    let mut requests = Batches::default();
    for change in context.plan.changes.iter().filter(|c| c.action.accesses_target() && c.observed.is_some()) {
        if let (Some(target), Some(request)) = (context.target(change), request(context, change)) {
            requests.add(&change.provider, &target, (change, request));
        }
    }
    let mut changed = HashMap::default();
    for (change, _, reading) in read(&context.session, requests, events).await {
        // An object that cannot be read fails in its operation, with the reason.
        let Ok(observed) = reading else { continue };
        if change.observed.as_ref() != Some(&observed_digest(observed.as_ref(), &context.key)) {
            let now = observed.map(|o| seal_attributes(&o.attributes, &context.key));
            changed.insert(change.address.clone(), describe(change, now.as_ref()));
        }
    }
    changed
}

/// Returns the request to read the object of a change again.
pub(super) fn request(context: &ApplyContext, change: &Change) -> Option<ReadRequest> {
    let item = context.items.get(&change.address);
    let recorded = item.and_then(|i| i.recorded.as_ref()).map(Recorded::shared);
    let former = item.is_some_and(|i| i.former.is_some());
    let instance = context.expanded.instance(&change.address).filter(|_| change.after.is_some() && !former);
    Some(ReadRequest {
        address: change.address.clone(),
        resource_type: context.resource_type(change)?,
        desired: instance.and_then(|i| desired_when_read(context, i)),
        recorded,
    })
}

/// Returns the desired attributes as they were when the plan read the object. With the attributes that are known now, more or fewer fields would be read.
fn desired_when_read(context: &ApplyContext, instance: &Instance) -> Option<Attributes> {
    match context.static_values.identity(instance) {
        Some(_) => context.static_values.get(&instance.address).cloned(),
        None => crate::configuration::evaluate::desired(&context.expanded, instance, &context.values).ok(),
    }
}

/// Returns the differences to the reviewed object, one line each: the value before, the reviewed value, and the value now.
pub(crate) fn describe(change: &Change, now: Option<&Map<String, Json>>) -> Vec<String> {
    match (&change.before, now) {
        (Some(_), None) => vec!["it existed at the review and does not exist any more".to_owned()],
        (None, Some(_)) => vec!["it did not exist at the review and exists now".to_owned()],
        (Some(before), Some(now)) => {
            let line = |d: Difference| {
                let show = |v: Option<&Json>| v.map_or_else(|| "nothing".to_owned(), short);
                let reviewed = show(change.after.as_ref().and_then(|after| value_at(after, &d.path)));
                let (before, now) = (show(d.before.as_ref()), show(d.after.as_ref()));
                format!("{}: before {before}, reviewed {reviewed}, now {now}", path_text(&d.path))
            };
            differences(Some(before), now).into_iter().map(line).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// Returns a value as a short text.
fn short(value: &Json) -> String {
    const LIMIT: usize = 60;
    match Mark::of(value) {
        Some(Mark::Unknown { .. }) => return "a value known after the apply".to_owned(),
        Some(Mark::Digest(_) | Mark::Retained { .. }) => return "another (sensitive) value".to_owned(),
        None => {}
    }
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sealed_values_are_named_by_what_they_stand_for() {
        assert_eq!(short(&Mark::Unknown { sensitive: false }.into()), "a value known after the apply");
        assert_eq!(short(&Mark::Digest("blake3:00").into()), "another (sensitive) value");
        assert_eq!(short(&json!("text")), "\"text\"");
    }
}
