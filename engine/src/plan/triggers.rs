//! The instances that `restart_on` and `replace_triggered_by` watch.

use moorfast_state::{Digest, Record};

use super::draft::Draft;
use super::inputs::Inputs;
use super::observed::merged_attributes;
use super::prior::Prior;
use crate::configuration::expand::Instance;
use crate::configuration::graph::matching;
use crate::model::{Address, Pattern, Span};
use crate::provider::Action;

/// A watched instance that changes, or that changed in a run that did not restart the watching instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    pub address: Address,
    /// Whether the restart is pending: the change was made in an earlier run.
    pub pending: bool,
}

/// Returns the triggers among the instances that `patterns` of an instance name.
pub(super) fn triggers(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    instance: &Instance,
    patterns: &[(Pattern, Span)],
) -> Vec<Trigger> {
    let recorded = prior.records.get(&instance.address);
    let watched = patterns.iter().filter_map(|(p, _)| matching(inputs.expanded, p, &instance.binding)).flatten();
    let changed = |address: Address| {
        let action = draft.action(&address).unwrap_or(Action::NoOp);
        if action.is_change() && action != Action::Adopt {
            return Some(Trigger { address, pending: false });
        }
        let seen = recorded?.triggers.get(&address.to_string())?;
        (*seen != digest_after(inputs, prior, draft, &address)?).then_some(Trigger { address, pending: true })
    };
    watched.filter_map(changed).collect()
}

/// Returns the digest that the record of an unchanged instance will have. It may differ from the recorded digest if a run was killed between a change and its
/// record, or if somebody else gave the object its desired attributes.
fn digest_after(inputs: &Inputs, prior: &Prior, draft: &Draft, address: &Address) -> Option<Digest> {
    let known = prior.records.get(address)?;
    let observed = draft.items.get(address).and_then(|item| item.observed.as_ref());
    let Some(observed) = observed else { return Some(known.digest()) };
    let attributes = merged_attributes(Some(known), observed, inputs.key);
    Some(Record { attributes, ..(**known).clone() }.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::draft::Decision;
    use crate::plan::samples::{Configuration, address, change, prior, recorded_file};

    const WATCHED: &str = "mem_file.a[\"n1\"]";
    const WATCHING: &str = "mem_file.b[\"n1\"]";

    #[test]
    fn a_restart_is_pending_if_the_watched_record_differs_from_the_last_one_seen() {
        let files = "[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\n[resource.mem_file.b]\non = \"n1\"\npath = \"/b\"\nrestart_on = [\"mem_file.a\"]";
        let configuration = Configuration::of(files);
        let watched = recorded_file(WATCHED, "/a", "now");
        let seen = recorded_file(WATCHED, "/a", "before");
        let pending = |last_seen: &Record, action| {
            let triggers = [(WATCHED.to_owned(), last_seen.digest())].into();
            let watching = Record { triggers, ..recorded_file(WATCHING, "/b", "") };
            let prior = prior([watched.clone(), watching]);
            let mut draft = Draft::default();
            let change = change(WATCHED, action, &[]);
            draft.add(Decision { change, drift: None, item: None, values: None });
            let instance = configuration.instance(WATCHING);
            let found =
                super::triggers(&configuration.inputs(), &prior, &draft, instance, &instance.resource.restart_on);
            found.into_iter().map(|trigger| (trigger.address, trigger.pending)).collect::<Vec<_>>()
        };
        assert_eq!(pending(&watched, Action::NoOp), []);
        assert_eq!(pending(&watched, Action::Adopt), []);
        assert_eq!(pending(&watched, Action::Update), [(address(WATCHED), false)]);
        assert_eq!(pending(&seen, Action::NoOp), [(address(WATCHED), true)]);
    }
}
