//! Drift: changes made outside moorfast since the last apply.

use moorfast_state::Record;
use serde_json::{Map, Value as Json};

use super::diff::differences;
use super::inputs::Inputs;
use super::model::Drift;
use crate::model::{Address, Attributes, ReadAttributes, recorded_values};

/// The changes of a recorded object that were made outside moorfast.
#[derive(Default)]
pub(super) struct Drifted {
    /// Whether recorded attributes of the existing object changed.
    pub is_changed: bool,
    /// The drift that the plan shows.
    pub drift: Option<Drift>,
}

impl Drifted {
    /// Compares the record of an object with its observed attributes. `observed` is `None` if the object does not exist.
    pub fn of(inputs: &Inputs, address: &Address, record: &Record, observed: Option<&Map<String, Json>>) -> Self {
        let after = match observed {
            Some(observed) => match drifted_attributes(inputs, address, record, observed) {
                Some(after) => Some(after),
                None => return Self::default(),
            },
            None => None,
        };
        // The record of an incomplete operation does not say how the object was.
        if record.incomplete {
            return Self::default();
        }
        let is_changed = after.is_some();
        // Without a target the status is unknown.
        let is_known = inputs.reachable_target_of(address, record).is_some();
        let (target, before) = (&record.target, &record.attributes);
        let drift = || Drift { address: address.clone(), target: target.clone(), before: before.clone(), after };
        Self { is_changed, drift: is_known.then(drift) }
    }
}

/// Returns the observed attributes that are also recorded, with the recorded values of ignored ones. Returns `None` if they did not drift.
fn drifted_attributes(
    inputs: &Inputs,
    address: &Address,
    record: &Record,
    observed: &Map<String, Json>,
) -> Option<Map<String, Json>> {
    let is_recorded = |name: &String, value: &Json| record.attributes.get(name).is_none_or(|known| known == value);
    if observed.iter().all(|(name, value)| is_recorded(name, value)) {
        return None;
    }
    let seen = with_ignored(inputs, address, record, common(observed, &record.attributes));
    (!differences(Some(&record.attributes), &seen).is_empty()).then_some(seen)
}

/// Returns `observed` with the recorded values of the attributes that never drift: those in `lifecycle.ignore_changes`, and those that are kept because the manifest does not set them.
fn with_ignored(inputs: &Inputs, address: &Address, record: &Record, observed: Map<String, Json>) -> Map<String, Json> {
    let Some(instance) = inputs.expanded.instance(address) else { return observed };
    let nothing = Attributes::new();
    let desired = inputs.static_values.get(address).unwrap_or(&nothing);
    let mut seen = observed;
    for attribute in instance.resource_type.schema().attributes.iter().filter(|attribute| attribute.kept) {
        let is_set = desired.is_set(attribute.name);
        if let (false, Some(recorded)) = (is_set, record.attributes.get(attribute.name)) {
            seen.insert(attribute.name.to_owned(), recorded.clone());
        }
    }
    if instance.resource.lifecycle.ignore_changes.is_empty() {
        return seen;
    }
    let (recorded, mut seen) = (recorded_values(&record.attributes), recorded_values(&seen));
    for path in inputs.expanded.ignored_paths(instance, desired, &recorded) {
        path.copy(&recorded, &mut seen, false);
    }
    seen.into_iter().filter_map(|(name, value)| Some((name, value.to_json()?))).collect()
}

/// Returns the attributes of `observed` that are also in `recorded`. Only these can have drifted.
fn common(observed: &Map<String, Json>, recorded: &Map<String, Json>) -> Map<String, Json> {
    observed.iter().filter(|(name, _)| recorded.contains_key(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
