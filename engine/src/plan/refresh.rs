//! A refresh: the recorded objects as they are now, without any changes.

use moorfast_state::Record;

use super::draft::Decision;
use super::drift::Drifted;
use super::inputs::Inputs;
use super::item::Item;
use super::model::{Change, Reason};
use super::observed::sealed_digest;
use super::prior::Prior;
use super::readings::{ReadingKey, Readings};
use crate::model::{Address, Recorded};
use crate::provider::{Action, Class, Observed, ProviderError};

/// Compares the recorded with the observed attributes of one object, and plans no change of it.
///
/// # Errors
/// If the object could not be read.
pub(super) fn refresh(
    inputs: &Inputs,
    prior: &Prior,
    address: &Address,
    record: &Recorded,
    readings: &mut Readings,
) -> Result<Decision, ProviderError> {
    // If the manifest now declares another object, drift is about the recorded one.
    let keys = [ReadingKey::Former, ReadingKey::Current].map(|key| key(address.clone()));
    let reading = keys.iter().find_map(|key| readings.0.remove(key));
    let observed = reading.unwrap_or_else(|| Err(unreadable(inputs, address, record)))?;
    let sealed = observed.as_ref().map(|observed| inputs.sealed(observed));
    let values = observed.as_ref().filter(|_| inputs.expanded.instance(address).is_some()).map(
        |Observed { attributes, .. }| {
            let mut values = inputs.static_values.get(address).cloned().unwrap_or_default();
            values.extend(attributes.clone());
            values
        },
    );
    let action = if sealed.is_some() { Action::NoOp } else { Action::Forget };
    Ok(Decision {
        drift: Drifted::of(inputs, address, record, sealed.as_ref()).drift,
        change: Change {
            reasons: if sealed.is_some() { Vec::new() } else { vec![Reason::Gone] },
            observed: Some(sealed_digest(sealed.as_ref())),
            before: sealed.clone(),
            after: sealed,
            ..Change::of_record(inputs, prior, address, record, action)
        },
        values,
        item: Some(Item { recorded: Some(record.clone()), observed, ..Item::default() }),
    })
}

/// Returns the reason why the object of `record` cannot be read.
fn unreadable(inputs: &Inputs, address: &Address, record: &Record) -> ProviderError {
    let Record { resource_type, target, .. } = record;
    let summary = match inputs.expanded.catalog.find(&address.resource) {
        Some(_) => format!("its status is unknown: `{target}` is not in the inventory any more"),
        None => format!("its status is unknown: this version of moorfast has no resource type `{resource_type}`"),
    };
    let help = format!("run `moorfast apply` to remove it from the state, or exclude it: --exclude '{address}'");
    ProviderError::new(Class::Failed, summary).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::HashMap;
    use crate::plan::samples::{Configuration, address, file, prior, recorded_file};

    const A: &str = "mem_file.a[\"n1\"]";

    #[test]
    fn an_object_is_recorded_as_it_is_and_removed_from_the_state_if_it_does_not_exist() {
        let configuration =
            Configuration::of("[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\ncontent = \"desired\"");
        let record = recorded_file(A, "/a", "recorded");
        let refreshed = |observed: Option<Observed>| {
            let prior = prior([record.clone()]);
            let mut readings = Readings(HashMap::from_iter([(ReadingKey::Current(address(A)), Ok(observed))]));
            let recorded = &prior.records[&address(A)];
            refresh(&configuration.inputs(), &prior, &address(A), recorded, &mut readings).unwrap()
        };
        let Decision { change, drift, item, values } = refreshed(Some(file("/a", "theirs")));
        assert_eq!((change.action, change.reasons), (Action::NoOp, Vec::new()));
        assert_eq!(change.after.as_ref().unwrap()["content"], "theirs");
        assert_eq!(change.observed, Some(sealed_digest(change.after.as_ref())));
        assert_eq!(change.before, change.after);
        assert_eq!(drift.and_then(|drift| drift.after), change.after);
        assert_eq!(values.unwrap()["content"], "theirs".into());
        let item = item.unwrap();
        assert_eq!(item.recorded.as_deref(), Some(&record));
        assert_eq!(item.observed.unwrap().attributes["content"], "theirs".into());

        let Decision { change, values, .. } = refreshed(None);
        assert_eq!((change.action, change.reasons), (Action::Forget, vec![Reason::Gone]));
        assert_eq!((change.before, change.after, values), (None, None, None));
    }
}
