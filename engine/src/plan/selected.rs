//! The part of the manifest and of the state that `--target` and `--exclude` select.

use std::collections::{BTreeMap, BTreeSet};

use super::inputs::Inputs;
use super::model::{PlanMode, PlanOptions};
use super::prior::Prior;
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::Graph;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Pattern, Recorded};

/// The selected instances and records.
pub(super) struct Selected<'a> {
    expanded: &'a Expanded,
    mode: PlanMode,
    instances: BTreeSet<usize>,
    /// The records that are removed if the manifest has no such instance, or if everything is destroyed. `None` for all records.
    removable: Option<HashSet<Address>>,
}

impl<'a> Selected<'a> {
    pub fn of(inputs: &Inputs<'a>, prior: &Prior) -> Self {
        let Inputs { expanded, graph, options, .. } = *inputs;
        let (instances, removable) = match options.imports {
            true => (unrecorded(expanded, prior, options), Some(HashSet::default())),
            false => {
                (instances(expanded, graph, options), options.is_partial().then(|| removable(&prior.records, options)))
            }
        };
        Self { expanded, mode: options.mode, instances, removable }
    }

    /// Returns the selected instances of the manifest, in the order of their addresses.
    pub fn instances(&self) -> impl Iterator<Item = &'a Instance> + '_ {
        self.instances.iter().map(|i| &self.expanded.instances[*i])
    }

    /// Returns the addresses of the selected instances.
    pub fn addresses(&self) -> HashSet<Address> {
        self.instances().map(|instance| instance.address.clone()).collect()
    }

    /// Returns the selected instances among those with these indexes.
    pub fn among(&self, instances: Vec<usize>) -> impl Iterator<Item = &'a Instance> {
        instances.into_iter().filter(|i| self.instances.contains(i)).map(|i| &self.expanded.instances[i])
    }

    /// Whether the instance of a record, or else the record, is selected.
    pub fn contains(&self, address: &Address) -> bool {
        match self.expanded.index.get(address) {
            Some(i) if self.mode != PlanMode::Destroy => self.instances.contains(i),
            _ => self.removable.as_ref().is_none_or(|removable| removable.contains(address)),
        }
    }
}

/// Returns the targets that the state does not have.
fn unrecorded(expanded: &Expanded, prior: &Prior, options: &PlanOptions) -> BTreeSet<usize> {
    let is_named = |address: &Address| options.targets.iter().any(|target| address.matches(target));
    let addresses = expanded.instances.iter().map(|instance| &instance.address).enumerate();
    addresses.filter(|(_, a)| is_named(a) && !prior.records.contains_key(*a)).map(|(i, _)| i).collect()
}

/// Returns the selected instances. The dependencies of a target are selected with it, and the dependants of an excluded instance are excluded with it.
fn instances(expanded: &Expanded, graph: &Graph, options: &PlanOptions) -> BTreeSet<usize> {
    let all = 0..expanded.instances.len();
    let named = |patterns: &[Pattern]| -> Vec<usize> {
        let is_named = |i: &usize| patterns.iter().any(|p| expanded.instances[*i].address.matches(p));
        if patterns.is_empty() { Vec::new() } else { all.clone().filter(is_named).collect() }
    };
    let mut selected: BTreeSet<usize> = match options.targets.is_empty() {
        true => all.clone().collect(),
        false => graph.closure(named(&options.targets), petgraph::Incoming).into_iter().collect(),
    };
    let excluded = match options.mode {
        // A refresh needs nothing from dependencies.
        PlanMode::RefreshOnly => named(&options.exclude).into_iter().collect(),
        _ => graph.closure(named(&options.exclude), petgraph::Outgoing),
    };
    selected.retain(|i| !excluded.contains(i));
    selected
}

/// Returns the records that are selected for removal. The dependants of a target are removed with it, and the dependencies of an excluded record are kept
/// with it.
fn removable(records: &BTreeMap<Address, Recorded>, options: &PlanOptions) -> HashSet<Address> {
    let mut needs: HashMap<Address, Vec<Address>> = HashMap::default();
    let mut needed_by: HashMap<Address, Vec<Address>> = HashMap::default();
    for (address, record) in records {
        for needed in record.dependencies() {
            needs.entry(address.clone()).or_default().push(needed.clone());
            needed_by.entry(needed.clone()).or_default().push(address.clone());
        }
    }
    let named = |patterns: &[Pattern]| -> Vec<Address> {
        records.keys().filter(|a| patterns.iter().any(|p| a.matches(p))).cloned().collect()
    };
    let mut removable = match options.targets.is_empty() {
        true => records.keys().cloned().collect(),
        false => reached(named(&options.targets), &needed_by),
    };
    let excluded = match options.mode {
        PlanMode::RefreshOnly => named(&options.exclude).into_iter().collect(),
        _ => reached(named(&options.exclude), &needs),
    };
    removable.retain(|address| !excluded.contains(address));
    removable
}

/// Returns `start` and everything reachable from it.
fn reached(start: Vec<Address>, edges: &HashMap<Address, Vec<Address>>) -> HashSet<Address> {
    let mut reached = HashSet::default();
    let mut queue = start;
    while let Some(address) = queue.pop() {
        if reached.insert(address.clone()) {
            queue.extend(edges.get(&address).into_iter().flatten().cloned());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{Configuration, address, prior, record};

    #[test]
    fn an_excluded_instance_excludes_its_dependants_except_from_a_refresh() {
        let file = |name: &str, after: &str| {
            format!("[resource.mem_file.{name}]\non = \"n1\"\npath = \"/{name}\"\ndepends_on = [{after}]\n")
        };
        let mut configuration = Configuration::of(&(file("a", "") + &file("b", "\"mem_file.a\"") + &file("c", "")));
        for (mode, targets, exclude, selected) in [
            (PlanMode::Normal, None, None, ["a", "b", "c"].as_slice()),
            (PlanMode::Normal, None, Some("mem_file.a"), &["c"]),
            (PlanMode::RefreshOnly, None, Some("mem_file.a"), &["b", "c"]),
            (PlanMode::Normal, Some("mem_file.b"), None, &["a", "b"]),
        ] {
            let patterns = |text: Option<&str>| text.iter().map(|text| text.parse().unwrap()).collect();
            let (targets, exclude) = (patterns(targets), patterns(exclude));
            configuration.options = PlanOptions { mode, targets, exclude, ..PlanOptions::default() };
            let expected = selected.iter().map(|name| address(&format!("mem_file.{name}[\"n1\"]"))).collect();
            let addresses = Selected::of(&configuration.inputs(), &prior([])).addresses();
            assert_eq!(addresses, expected, "{:?}", configuration.options);
        }
    }

    #[test]
    fn a_target_is_removed_with_its_dependants_and_an_excluded_record_is_kept_with_its_dependencies() {
        let records = [record("t.a", &[]), record("t.b", &["t.a"]), record("t.c", &["t.b"]), record("t.d", &[])];
        let records: BTreeMap<_, _> = records.map(|record| (address(&record.address), Recorded::from(record))).into();
        let all = ["t.a", "t.b", "t.c", "t.d"];
        for (mode, targets, exclude, removed) in [
            (PlanMode::Destroy, [].as_slice(), [].as_slice(), all.as_slice()),
            (PlanMode::Destroy, &["t.b"], &[], &["t.b", "t.c"]),
            (PlanMode::Destroy, &[], &["t.b"], &["t.c", "t.d"]),
            (PlanMode::Destroy, &["t.a"], &["t.b"], &["t.c"]),
            (PlanMode::RefreshOnly, &[], &["t.b"], &["t.a", "t.c", "t.d"]),
        ] {
            let addresses = |texts: &[&str]| texts.iter().map(|text| address(text)).collect::<Vec<_>>();
            let patterns = |texts: &[&str]| addresses(texts).into_iter().map(Pattern::from).collect();
            let (targets, exclude) = (patterns(targets), patterns(exclude));
            let options = PlanOptions { mode, targets, exclude, ..PlanOptions::default() };
            let expected: HashSet<_> = addresses(removed).into_iter().collect();
            assert_eq!(removable(&records, &options), expected, "{options:?}");
        }
    }
}
