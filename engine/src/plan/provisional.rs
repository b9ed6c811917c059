//! Provisional plans: objects in a cluster that the same plan starts. The cluster cannot be read yet, so only the manifest is used.

use super::action::{RecordStatus, Situation, reasons};
use super::draft::{Decision, Draft};
use super::inputs::Inputs;
use super::item::Item;
use super::model::Change;
use super::objects::all_created;
use super::observed::sealed_digest;
use super::prior::Prior;
use crate::configuration::expand::Instance;
use crate::configuration::graph::provider_dependencies;
use crate::configuration::static_values::with_unknown;
use crate::model::{Address, Attributes, seal_attributes};
use crate::provider::{Action, Class, ProviderError};

/// Whether the target of an instance does not answer because the same plan starts it.
///
/// This is assumed if no complete operation is recorded for the instance, and if the plan changes something that its provider depends on.
pub(super) fn is_provisional(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    instance: &Instance,
    failure: &ProviderError,
) -> bool {
    let changes = |address: &Address| draft.action(address).is_some_and(|action| action.accesses_target());
    failure.class == Class::Unreachable
        && prior.records.get(&instance.address).is_none_or(|record| record.incomplete)
        && !inputs.is_to_be_imported(&instance.address)
        && provider_dependencies(inputs.expanded, &instance.provider).any(|address| changes(&address))
}

/// Returns the creation of an instance from the manifest alone, with a note.
pub(super) fn decide_provisionally(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    instance: &Instance,
    desired: Attributes,
) -> Decision {
    let key = inputs.key;
    let address = &instance.address;
    let identity = instance.identity(&desired);
    let objects = instance.resource_type.objects(&desired);
    let planned = with_unknown(instance, desired);
    let after = seal_attributes(&planned, key);
    let recorded = prior.records.get(address).cloned();
    let situation = Situation {
        recorded: RecordStatus::of(recorded.as_deref()),
        is_on_former_machine: draft.machines.former.contains(address),
        ..Situation::default()
    };
    let change = Change {
        identity,
        reasons: reasons(&situation, &after),
        after: Some(after),
        observed: Some(sealed_digest(None)),
        objects: all_created(&objects),
        notes: vec![format!("provisional: {} does not answer yet; this plan starts it", instance.target)],
        ..Change::of_instance(inputs, prior, instance, Action::Create)
    };
    Decision { change, drift: None, item: Some(Item { recorded, ..Item::default() }), values: Some(planned) }
}

#[cfg(test)]
mod tests {
    use moorfast_state::Record;

    use super::*;
    use crate::plan::model::Reason;
    use crate::plan::samples::{Configuration, address, prior, recorded_file};

    const A: &str = "mem_file.a[\"n1\"]";

    #[test]
    fn an_object_that_cannot_be_read_yet_is_created_as_the_manifest_declares_it() {
        let configuration = Configuration::of("[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\ncontent = \"new\"");
        let incomplete = || Record { incomplete: true, ..recorded_file(A, "/a", "old") };
        for (recorded, is_on_former_machine, reason) in [
            (None, false, Reason::New),
            (Some(incomplete()), false, Reason::Incomplete),
            (Some(incomplete()), true, Reason::OtherMachine),
        ] {
            let mut draft = Draft::default();
            draft.machines.former.extend(is_on_former_machine.then(|| address(A)));
            let prior = prior(recorded.clone());
            let (instance, desired) = (configuration.instance(A), configuration.desired(A));
            let Decision { change, item, values, .. } =
                decide_provisionally(&configuration.inputs(), &prior, &draft, instance, desired);
            assert_eq!((change.action, change.reasons), (Action::Create, vec![reason]));
            assert_eq!((change.identity.as_deref(), change.observed), (Some("/a"), Some(sealed_digest(None))));
            assert_eq!((change.before, &change.after.unwrap()["content"]), (None, &"new".into()));
            assert_eq!(item.unwrap().recorded.as_deref(), recorded.as_ref());
            assert!(values.unwrap()["id"].is_unknown());
        }
    }
}
