//! Recorded instances that are not in the manifest any more.

use moorfast_state::Record;
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;
use std::collections::BTreeMap;

use super::decide::prevented;
use super::draft::{Decision, Draft};
use super::drift::Drifted;
use super::inputs::Inputs;
use super::item::Item;
use super::model::{Change, PlanMode, Reason, Selector};
use super::objects::{PlannedObjects, is_claimed, is_claimed_from, removed_objects};
use super::observed::sealed_digest;
use super::prior::Prior;
use super::readings::{ReadingKey, Readings};
use super::selected::Selected;
use super::superseded::{self, superseded};
use crate::configuration::expand::Expanded;
use crate::model::hash::HashMap;
use crate::model::{Address, Departure, Diagnostic, NodeName, Recorded};
use crate::provider::{Action, Class, ProviderError};

/// The decisions about the recorded instances that are removed.
#[derive(Default)]
pub(super) struct Removals {
    pub decisions: Vec<Decision>,
    pub warnings: Vec<String>,
    /// The instances that could not be read.
    pub failures: Vec<(Address, ProviderError)>,
    /// The removals that `lifecycle.prevent_destroy` forbids.
    pub errors: Vec<Diagnostic>,
}

/// Returns the removals of recorded instances, dependants first: of all instances in a destroy, otherwise of those that are not in the manifest any more.
pub(super) fn removals(
    inputs: &Inputs,
    prior: &Prior,
    selected: &Selected,
    draft: &Draft,
    readings: &mut Readings,
) -> Removals {
    let everything = inputs.options.mode == PlanMode::Destroy;
    let is_orphan = |address: &Address| everything || !inputs.expanded.index.contains_key(address);
    let orphans = prior.records.iter().filter(|(address, _)| is_orphan(address) && selected.contains(address));
    let mut removals = Removals::default();
    for (address, record) in dependants_first(orphans.collect()) {
        match removal(inputs, prior, draft, address, record, readings) {
            Ok(Removal { decision, warning, error }) => {
                removals.decisions.push(decision);
                removals.warnings.extend(warning);
                removals.errors.extend(error);
            }
            Err(error) => removals.failures.push((address.clone(), error)),
        }
    }
    removals
}

/// The removal of one recorded instance.
struct Removal {
    decision: Decision,
    warning: Option<String>,
    error: Option<Diagnostic>,
}

/// Returns the removal of one recorded instance.
///
/// # Errors
/// If the object could not be read.
fn removal(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    address: &Address,
    record: &Recorded,
    readings: &mut Readings,
) -> Result<Removal, ProviderError> {
    let expanded = inputs.expanded;
    let everything = inputs.options.mode == PlanMode::Destroy;
    let node = NodeName(record.target.clone());
    let is_renamed = draft.machines.renamed.contains(&node);
    let departure = match is_renamed {
        true => Some(Departure::Renamed),
        false => inputs.leaving.departure_of(expanded, address, record),
    };
    let released = departure == Some(Departure::Released)
        || expanded.removed.iter().any(|r| !r.destroy && address.matches(&r.from));
    let is_cut_off = inputs.leaving.is_cut_off(expanded, address, record);
    let reachable = inputs.target_of(address, record).is_some();
    let reading = readings.take(&ReadingKey::Former(address.clone()));
    let superseded = superseded(address, record, |_| false, readings);
    let (observed, mut superseded) = match reading.and_then(|observed| Ok((observed, superseded?))) {
        // The other node owns the object now.
        _ if is_renamed => (None, Vec::new()),
        // An object on another machine was never ours.
        Ok(_) if draft.machines.former.contains(address) => (None, Vec::new()),
        Ok(reading) => reading,
        Err(_) if released => (None, Vec::new()),
        Err(error) => return Err(advised(error, departure, record)),
    };
    let claimed = |record: &Record| !everything && is_claimed(&draft.owners, record);
    superseded.retain(|superseded| superseded.observed.is_some() && !released && !claimed(&superseded.record));
    let resource_type = expanded.catalog.resource_type(&record.resource_type);
    let existing = resource_type.zip(observed.as_ref()).map(|(of, observed)| of.objects(&observed.attributes));
    let planned_objects = removed_objects(&existing.unwrap_or_default(), |object| {
        !everything && is_claimed_from(&draft.owners, address, &record.target, object)
    });
    let is_claimed =
        if planned_objects.objects.is_empty() { claimed(record) } else { planned_objects.is_handed_over() };
    let sealed = observed.as_ref().map(|observed| inputs.sealed(observed));
    let seen = sealed_digest(sealed.as_ref());
    let is_removed = observed.is_some() && !released && !is_claimed;
    let action = if is_removed || !superseded.is_empty() { Action::Delete } else { Action::Forget };
    let warning = (!reachable && !released).then(|| {
        let target = &record.target;
        format!("`{address}` is removed from the state, but not destroyed: `{target}` is not in the inventory any more")
    });
    let error = (is_removed && is_prevented(expanded, address, record)).then(|| {
        let span = expanded.instance(address).map(|i| i.resource.span);
        let names = if planned_objects.objects.len() > 1 { planned_objects.removed() } else { Vec::new() };
        prevented(address, &names, span)
    });
    let PlannedObjects { objects, losses } = planned_objects;
    // The operation removes only superseded objects if the own object stays.
    let observed = observed.filter(|_| is_removed || action != Action::Delete);
    let before = sealed.filter(|_| observed.is_some());
    let reason = match inputs.options.mode {
        // Nothing is known about an object that was not read.
        _ if observed.is_none() && reachable && !released && !is_cut_off && !is_renamed => Reason::Gone,
        PlanMode::Destroy if is_cut_off => Reason::NodeLeaves { how: Departure::Dead },
        PlanMode::Destroy => Reason::Destroy,
        PlanMode::Normal | PlanMode::RefreshOnly => match departure.filter(|_| reachable) {
            Some(how) => Reason::NodeLeaves { how },
            None => reason_of_removal(expanded, address, record),
        },
    };
    let decision = Decision {
        drift: Drifted::of(inputs, address, record, before.as_ref()).drift.filter(|_| !is_renamed),
        change: Change {
            reasons: std::iter::once(reason).chain(superseded::reasons(&superseded)).collect(),
            before,
            observed: Some(seen),
            objects: if is_removed && objects.len() > 1 { objects } else { Vec::new() },
            consequences: if is_removed { losses } else { Vec::new() },
            ..Change::of_record(inputs, prior, address, record, action)
        },
        item: Some(Item { recorded: Some(record.clone()), observed, superseded, ..Item::default() }),
        values: None,
    };
    Ok(Removal { decision, warning, error })
}

/// Returns the error of an object on a node that leaves, with what to do if its machine does not answer any more.
fn advised(error: ProviderError, departure: Option<Departure>, record: &Record) -> ProviderError {
    if departure != Some(Departure::Destroyed) || error.class != Class::Unreachable {
        return error;
    }
    let node = &record.target;
    error.help(format!(
        "the node {node} leaves, and what moorfast made on it is destroyed; if its machine does not exist any more: --dead-node {node}; \
         to keep everything as it is: [[removed]] with from = \"nodes.{node}\" and destroy = false"
    ))
}

/// Returns the reason why the manifest does not have this instance any more.
fn reason_of_removal(expanded: &Expanded, address: &Address, record: &Record) -> Reason {
    let Some(resource) = expanded.manifest.resource(&address.resource) else { return Reason::Removed };
    if expanded.module(&address.resource.module).is_none() {
        return Reason::Deselected { by: Selector::ForEach };
    }
    let key = address.key.as_deref();
    let node = key.and_then(|key| key.split_once('/').map(|(node, _)| node).or(Some(key)));
    let node = node.filter(|node| resource.for_each.is_none() || *node == record.target);
    let by_node = expanded.by_node.get(&address.resource);
    let is_selected = |node: &str| by_node.is_some_and(|nodes| nodes.contains_key(&NodeName(node.to_owned())));
    let has_element = key.is_some_and(|key| key.contains('/')) || resource.on.is_none();
    let by = match (&resource.on, &resource.for_each, key) {
        (None, None, _) | (_, _, None) => Selector::Keys,
        (Some(_), _, _) if node.is_some_and(|node| !is_selected(node)) => Selector::On,
        (_, Some(_), _) if has_element => Selector::ForEach,
        _ => Selector::Keys,
    };
    Reason::Deselected { by }
}

fn is_prevented(expanded: &Expanded, address: &Address, record: &Record) -> bool {
    match expanded.instance(address) {
        Some(instance) => instance.resource.lifecycle.prevent_destroy,
        None => record.prevent_destroy,
    }
}

/// Returns the records, each after its recorded dependants.
fn dependants_first<'a>(records: BTreeMap<&'a Address, &'a Recorded>) -> Vec<(&'a Address, &'a Recorded)> {
    let mut graph = DiGraph::<(&Address, &Recorded), ()>::new();
    let vertices: HashMap<_, _> =
        records.iter().map(|(address, record)| (*address, graph.add_node((*address, *record)))).collect();
    for (address, record) in &records {
        for dependency in record.dependencies().iter().filter_map(|dependency| vertices.get(dependency).copied()) {
            graph.add_edge(vertices[address], dependency, ());
        }
    }
    match toposort(&graph, None) {
        Ok(order) => order.into_iter().map(|vertex| graph[vertex]).collect(),
        // Records that were written for different manifests may form a cycle. Any order is correct then.
        Err(_) => records.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::HashMap;
    use crate::plan::Machines;
    use crate::plan::samples::{Configuration, address, file, prior, recorded_file};
    use crate::provider::Observed;

    /// Returns the removals of `records`, whose objects exist.
    fn removed(configuration: &Configuration, records: Vec<Record>) -> Removals {
        removed_after(configuration, records, Machines::default(), |record| Ok(Some(file(&record.identity, ""))))
    }

    /// Returns the removals of `records`, after their objects were read on these machines.
    fn removed_after(
        configuration: &Configuration,
        records: Vec<Record>,
        machines: Machines,
        read: fn(&Record) -> Result<Option<Observed>, ProviderError>,
    ) -> Removals {
        let inputs = configuration.inputs();
        let reading = |record: &Record| (ReadingKey::Former(address(&record.address)), read(record));
        let mut readings = Readings(records.iter().map(reading).collect::<HashMap<_, _>>());
        let prior = prior(records);
        let selected = Selected::of(&inputs, &prior);
        let draft = Draft::new(machines, inputs.static_values.owners(), Vec::new());
        removals(&inputs, &prior, &selected, &draft, &mut readings)
    }

    fn actions(removals: &Removals) -> Vec<(String, Action)> {
        let changes = removals.decisions.iter().map(|decision| &decision.change);
        changes.map(|change| (change.address.resource.name.clone(), change.action)).collect()
    }

    fn orphan(name: &str) -> Record {
        recorded_file(&format!("mem_file.{name}[\"n1\"]"), &format!("/{name}"), "")
    }

    #[test]
    fn dependants_are_removed_first() {
        let b = Record { dependencies: vec!["mem_file.a[\"n1\"]".to_owned()], ..orphan("b") };
        let removals = removed(&Configuration::of(""), vec![orphan("a"), b]);
        assert_eq!(actions(&removals), [("b".to_owned(), Action::Delete), ("a".to_owned(), Action::Delete)]);
        let change = &removals.decisions[0].change;
        assert_eq!((&change.reasons[..], change.identity.as_deref()), (&[Reason::Removed][..], Some("/b")));
        assert_eq!(change.before.as_ref().unwrap()["path"], "/b");
        assert_eq!(change.observed, Some(sealed_digest(change.before.as_ref())));
    }

    #[test]
    fn an_object_that_is_released_or_has_another_owner_is_kept() {
        let released = "[[removed]]\nfrom = \"mem_file.a\"\ndestroy = false";
        let owned = "[resource.mem_file.new]\non = \"n1\"\npath = \"/a\"";
        for manifest in [released, owned] {
            let removals = removed(&Configuration::of(manifest), vec![orphan("a")]);
            assert_eq!(actions(&removals), [("a".to_owned(), Action::Forget)], "{manifest}");
        }
        // A destroy removes it in any case.
        let mut configuration = Configuration::of(owned);
        configuration.options.mode = PlanMode::Destroy;
        assert_eq!(actions(&removed(&configuration, vec![orphan("a")])), [("a".to_owned(), Action::Delete)]);
    }

    #[test]
    fn a_removed_block_releases_only_its_own_resource_and_only_if_it_says_so() {
        for block in ["from = \"mem_file.other\"\ndestroy = false", "from = \"mem_file.a\"\ndestroy = true"] {
            let removals = removed(&Configuration::of(&format!("[[removed]]\n{block}")), vec![orphan("a")]);
            assert_eq!(actions(&removals), [("a".to_owned(), Action::Delete)], "{block}");
        }
    }

    #[test]
    fn an_object_of_a_machine_that_was_replaced_is_not_destroyed() {
        let mut machines = Machines::default();
        machines.former.insert(address("mem_file.a[\"n1\"]"));
        let exists = |record: &Record| Ok(Some(file(&record.identity, "")));
        let removals = removed_after(&Configuration::of(""), vec![orphan("a"), orphan("b")], machines, exists);
        let mut actions = actions(&removals);
        actions.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(actions, [("a".to_owned(), Action::Forget), ("b".to_owned(), Action::Delete)]);
    }

    #[test]
    fn a_missing_object_is_removed_from_the_state_and_a_released_one_need_not_be_readable() {
        let read = |manifest: &str, read| {
            removed_after(&Configuration::of(manifest), vec![orphan("a")], Machines::default(), read)
        };
        let gone = read("", |_| Ok(None));
        assert_eq!(actions(&gone), [("a".to_owned(), Action::Forget)]);
        assert_eq!(gone.decisions[0].change.reasons, [Reason::Gone]);
        let released = "[[removed]]\nfrom = \"mem_file.a\"\ndestroy = false";
        let unreadable = |_: &Record| Err(ProviderError::new(Class::Unreachable, "it does not answer"));
        let kept = read(released, unreadable);
        assert_eq!(actions(&kept), [("a".to_owned(), Action::Forget)]);
        assert_eq!(kept.decisions[0].change.reasons, [Reason::Removed]);
        assert_eq!(read("", unreadable).failures.len(), 1);
    }

    #[test]
    fn the_reason_of_a_removal_is_the_argument_that_does_not_give_the_key_any_more() {
        let on = "on = \"n1\"";
        let both = "on = \"n1\"\nfor_each = [\"x\"]";
        let cases = [
            (on, "[\"n2\"]", Selector::On),
            (on, "", Selector::Keys),
            (both, "[\"n1/y\"]", Selector::ForEach),
            (both, "[\"n2/x\"]", Selector::On),
            (both, "[\"n1\"]", Selector::Keys),
            (both, "", Selector::Keys),
        ];
        for (arguments, key, by) in cases {
            let manifest = format!("[resource.mem_file.a]\n{arguments}\npath = \"/new\"");
            let target = if key.contains("n2") { "n2" } else { "n1" };
            let record = recorded_file(&format!("mem_file.a{key}"), "/old", "");
            let record = Record { target: target.to_owned(), ..record };
            let removals = removed(&Configuration::of(&manifest), vec![record]);
            let reasons = &removals.decisions[0].change.reasons;
            assert_eq!(reasons, &[Reason::Deselected { by }], "{arguments} {key}");
        }
    }

    #[test]
    fn only_an_unreachable_node_that_leaves_may_be_dead() {
        let help = |class, departure| advised(ProviderError::new(class, "failed"), departure, &orphan("a")).help;
        assert!(help(Class::Unreachable, Some(Departure::Destroyed)).unwrap().contains("--dead-node n1"));
        assert_eq!(help(Class::Failed, Some(Departure::Destroyed)), None);
        assert_eq!(help(Class::Unreachable, None), None);
    }

    #[test]
    fn a_record_of_a_node_that_does_not_exist_is_removed_with_a_warning() {
        let removals = removed(&Configuration::of(""), vec![Record { target: "n2".to_owned(), ..orphan("a") }]);
        assert!(removals.warnings[0].contains("`n2` is not in the inventory"), "{:?}", removals.warnings);
    }

    #[test]
    fn a_prevented_removal_is_an_error() {
        let removals = removed(&Configuration::of(""), vec![Record { prevent_destroy: true, ..orphan("a") }]);
        assert_eq!(removals.errors.len(), 1);
    }

    #[test]
    fn records_with_circular_dependencies_are_all_removed() {
        let depends = |name, on: &str| Record { dependencies: vec![format!("mem_file.{on}[\"n1\"]")], ..orphan(name) };
        let removals = removed(&Configuration::of(""), vec![depends("a", "b"), depends("b", "a")]);
        assert_eq!(removals.decisions.len(), 2);
    }
}
