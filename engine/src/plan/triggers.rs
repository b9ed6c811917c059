//! The instances that `restart_on` and `replace_triggered_by` watch.

use std::borrow::Cow;

use moorfast_state::{Digest, canonical_object};
use serde_json::{Map, Value as Json};

use super::diff::{Difference, PathSegment, differences};
use super::draft::Draft;
use super::inputs::Inputs;
use super::model::{Change, Reason};
use super::observed::merged_attributes;
use super::prior::Prior;
use crate::configuration::expand::Instance;
use crate::configuration::graph::matching;
use crate::model::{Address, Attribute, Pattern, Span};
use crate::provider::{Action, ResourceType};

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
    // Most instances watch nothing.
    let recorded = || prior.records.get(&instance.address);
    let watched = patterns.iter().filter_map(|(p, _)| matching(inputs.expanded, p, &instance.binding)).flatten();
    let changed = |address: Address| {
        let resource_type = inputs.expanded.instance(&address).map(|watched| watched.resource_type.as_ref());
        if draft.change(&address).is_some_and(|change| is_seen_by_others(change, resource_type)) {
            return Some(Trigger { address, pending: false });
        }
        let seen = recorded()?.triggers.get(&address.to_string())?;
        let after = attributes_after(inputs, prior, draft, &address)?;
        // Earlier versions took the digest of all attributes.
        let is_same = *seen == watched_digest(&after, resource_type) || *seen == watched_digest(&after, None);
        (!is_same).then_some(Trigger { address, pending: true })
    };
    watched.filter_map(changed).collect()
}

/// Whether a change is one for the instances that watch. An object is the same for them if only instructions to moorfast change.
fn is_seen_by_others(change: &Change, resource_type: Option<&dyn ResourceType>) -> bool {
    let is_instruction = |difference: &Difference| match difference.path.first() {
        Some(PathSegment::Name(name)) => attribute(resource_type, name).is_some_and(|a| a.is_instruction),
        _ => false,
    };
    match change.action {
        Action::NoOp | Action::Read | Action::Adopt => false,
        Action::Update if change.reasons == [Reason::Manifest] => {
            let after = change.after.as_ref();
            !after.is_some_and(|after| differences(change.before.as_ref(), after).iter().all(is_instruction))
        }
        _ => true,
    }
}

/// Returns the digest of what the instances that watch this one see of its recorded attributes: neither instructions to moorfast, nor what it reports about other
/// objects. Without a type, they see everything.
pub(crate) fn watched_digest(attributes: &Map<String, Json>, resource_type: Option<&dyn ResourceType>) -> Digest {
    let is_seen = |name: &str| attribute(resource_type, name).is_none_or(|a| !a.is_instruction && !a.is_reported);
    let mut seen = Cow::Borrowed(attributes);
    if !attributes.keys().all(|name| is_seen(name)) {
        seen.to_mut().retain(|name, _| is_seen(name));
    }
    Digest::of(&canonical_object(&seen))
}

fn attribute<'t>(resource_type: Option<&'t dyn ResourceType>, name: &str) -> Option<&'t Attribute> {
    resource_type?.schema().attribute(name)
}

/// Returns the attributes that the record of an unchanged instance will have. They may differ from the recorded ones if a run was killed between a change and its
/// record, or if somebody else gave the object its desired attributes.
fn attributes_after<'r>(
    inputs: &Inputs,
    prior: &'r Prior,
    draft: &Draft,
    address: &Address,
) -> Option<Cow<'r, Map<String, Json>>> {
    let known = prior.records.get(address)?;
    let observed = draft.items.get(address).and_then(|item| item.observed.as_ref());
    Some(match observed {
        Some(observed) => Cow::Owned(merged_attributes(Some(known), observed, inputs.key)),
        None => Cow::Borrowed(&known.attributes),
    })
}

#[cfg(test)]
mod tests {
    use moorfast_state::Record;

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

    #[test]
    fn an_instruction_to_moorfast_restarts_nothing() {
        let files = "[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\n[resource.mem_file.b]\non = \"n1\"\npath = \"/b\"\nrestart_on = [\"mem_file.a\"]";
        let configuration = Configuration::of(files);
        let (instance, watched) = (configuration.instance(WATCHING), configuration.instance(WATCHED));
        let resource_type = Some(watched.resource_type.as_ref());
        let with_backup = |content: &str, backup: bool| {
            let mut record = recorded_file(WATCHED, "/a", content);
            record.attributes.insert("backup".to_owned(), backup.into());
            record
        };
        let found = |seen: Digest, recorded: Record, planned: Option<Record>| {
            let before = recorded.attributes.clone();
            let watching =
                Record { triggers: [(WATCHED.to_owned(), seen)].into(), ..recorded_file(WATCHING, "/b", "") };
            let prior = prior([recorded, watching]);
            let mut draft = Draft::default();
            if let Some(planned) = planned {
                let (before, after) = (Some(before), Some(planned.attributes));
                let update =
                    Change { before, after, reasons: vec![Reason::Manifest], ..change(WATCHED, Action::Update, &[]) };
                draft.add(Decision { change: update, drift: None, item: None, values: None });
            }
            super::triggers(&configuration.inputs(), &prior, &draft, instance, &instance.resource.restart_on).len()
        };
        let seen = || watched_digest(&with_backup("now", false).attributes, resource_type);
        assert_eq!(found(seen(), with_backup("now", false), Some(with_backup("now", true))), 0);
        assert_eq!(found(seen(), with_backup("now", true), None), 0);
        assert_eq!(found(seen(), with_backup("now", false), Some(with_backup("new", true))), 1);
        assert_eq!(found(seen(), with_backup("new", false), None), 1);
        // The digest of an earlier version.
        assert_eq!(found(with_backup("now", true).digest(), with_backup("now", true), None), 0);
    }
}
