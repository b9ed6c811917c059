//! The prior state: the records of the state under their addresses in the manifest.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use moorfast_state::Record;

use super::inputs::Inputs;
use crate::configuration::moves;
use crate::manifest::Moved;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Decoded, Machine, NodeName, Recorded, decoded};

/// The state before the plan.
#[derive(Default)]
pub(super) struct Prior {
    /// The records by their address in the manifest, after `[[moved]]` and renames.
    pub records: BTreeMap<Address, Recorded>,
    /// The recorded address of each record that has another address now.
    pub moved: HashMap<Address, Address>,
    /// The recorded machines of the nodes.
    pub machines: BTreeMap<NodeName, Machine>,
    /// Warnings about records that cannot be used.
    pub warnings: Vec<String>,
    /// The objects of the records, by provider instance, target and identity. Few plans need them, so they are collected at the first use.
    objects: OnceLock<HashSet<[String; 3]>>,
}

impl Prior {
    /// Returns the prior state. Records of `[[moved]]` have their new address.
    pub fn of(state: &Decoded, moves: &[Moved]) -> Self {
        let unfinished: HashSet<&Address> = state.intents.iter().map(|(address, _)| address).collect();
        let recorded: HashSet<&Address> = state.addresses().collect();
        let warning = |text| format!("the record `{text}` of the state is ignored: this is not a valid address");
        let warnings = state.invalid_records.iter().map(warning).collect();
        let mut prior = Self { machines: state.machines.clone(), warnings, ..Self::default() };
        let mut records = Vec::with_capacity(state.records.len());
        for (address, record) in &state.records {
            // An open intent means that the operation may be done in part.
            let incomplete = record.incomplete || !record.pending.is_empty() || unfinished.contains(address);
            let mut record = record.clone();
            record.set_incomplete(incomplete);
            let destination = moves::destination(moves, address);
            match destination.filter(|to| to != address && !recorded.contains(to)) {
                Some(to) => {
                    prior.moved.insert(to.clone(), address.clone());
                    records.push((to, record));
                }
                None => records.push((address.clone(), record)),
            }
        }
        prior.records = records.into_iter().collect();
        rename(&mut prior.records, &prior.moved);
        prior
    }

    /// Keeps only some records.
    pub fn retain(&mut self, is_kept: impl FnMut(&Address, &mut Recorded) -> bool) {
        self.objects.take();
        self.records.retain(is_kept);
    }

    /// Whether the state has an object under any address, including objects that an incomplete operation started to create.
    pub fn has_object(&self, provider: &str, target: &str, identity: &str) -> bool {
        let objects = self.objects.get_or_init(|| {
            let records = self.records.values().flat_map(|record| record.pending.iter().chain([&**record]));
            records.map(|r| [&r.provider, &r.target, &r.identity].map(Clone::clone)).collect()
        });
        objects.contains(&[provider, target, identity].map(str::to_owned))
    }

    /// Assigns records of removed addresses to new addresses that declare the same object of the same type. A rename destroys nothing.
    pub fn follow_renames(&mut self, inputs: &Inputs) {
        let is_declared = |address: &Address| inputs.expanded.index.contains_key(address);
        let removed = self.records.iter().filter(|(address, _)| !is_declared(address));
        let mut orphans: HashMap<[String; 3], Address> = removed
            .map(|(address, record)| {
                let Record { resource_type, target, identity, .. } = &**record;
                ([resource_type, target, identity].map(Clone::clone), address.clone())
            })
            .collect();
        if orphans.is_empty() {
            return;
        }
        let mut renamed = HashMap::default();
        for instance in &inputs.expanded.instances {
            if self.records.contains_key(&instance.address) {
                continue;
            }
            let Some(identity) = inputs.static_identity(instance) else { continue };
            let key = [instance.address.resource.resource_type.clone(), instance.target.name().to_owned(), identity];
            if let Some(from) = orphans.remove(&key)
                && let Some(record) = self.records.remove(&from)
            {
                self.records.insert(instance.address.clone(), record);
                renamed.insert(instance.address.clone(), from.clone());
                let from = self.moved.remove(&from).unwrap_or(from);
                self.moved.insert(instance.address.clone(), from);
            }
        }
        rename(&mut self.records, &renamed);
    }
}

/// Replaces moved addresses in all records, so that dependencies and triggers are kept.
fn rename(records: &mut BTreeMap<Address, Recorded>, moved: &HashMap<Address, Address>) {
    if moved.is_empty() {
        return;
    }
    let moved = moved.iter().map(|(to, from)| (from.clone(), to.clone())).collect();
    decoded::rename(records.values_mut(), &moved);
}

#[cfg(test)]
mod tests {
    use moorfast_state::{Intent, Snapshot};

    use super::*;
    use crate::model::Span;
    use crate::plan::samples::{address, record};

    fn state(records: Vec<Record>) -> Snapshot {
        Snapshot {
            lineage: serde_json::from_value("x".into()).unwrap(),
            serial: serde_json::from_value(1.into()).unwrap(),
            records: records.into_iter().map(|record| (record.address.clone(), record.into())).collect(),
            intents: Vec::new(),
            outputs: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    fn moved(from: &str, to: &str) -> Moved {
        Moved { span: Span { file: 0, start: 0, end: 0 }, from: address(from).into(), to: address(to).into() }
    }

    #[test]
    fn a_moved_record_has_its_new_address_and_others_depend_on_that() {
        let state = state(vec![record("t.old", &[]), record("t.user", &["t.old"])]);
        let prior = Prior::of(&Decoded::of(&state), &[moved("t.old", "t.between"), moved("t.between", "t.new")]);
        assert_eq!(prior.records.keys().cloned().collect::<Vec<_>>(), ["t.new", "t.user"].map(address));
        assert_eq!(prior.records[&address("t.new")].address, "t.new");
        assert_eq!(prior.records[&address("t.user")].dependencies(), ["t.new"].map(address));
        assert_eq!(prior.records[&address("t.user")].shared().dependencies, ["t.new"]);
        assert_eq!(prior.moved, HashMap::from_iter([(address("t.new"), address("t.old"))]));
    }

    #[test]
    fn a_record_does_not_move_onto_another_one() {
        let state = state(vec![record("t.old", &[]), record("t.new", &[])]);
        let prior = Prior::of(&Decoded::of(&state), &[moved("t.old", "t.new")]);
        assert_eq!(prior.records.len(), 2);
        assert!(prior.moved.is_empty());
    }

    #[test]
    fn an_open_intent_and_a_pending_object_make_a_record_incomplete() {
        let intent = |address: &str| Intent {
            id: "1".to_owned(),
            address: address.to_owned(),
            action: "create".to_owned(),
            resource_type: "t".to_owned(),
            provider: "mem".to_owned(),
            target: "n1".to_owned(),
            identity: None,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            run: "1".to_owned(),
        };
        let replaced = Record { pending: vec![record("t.b", &[])], ..record("t.b", &[]) };
        let state =
            Snapshot { intents: vec![intent("t.a")], ..state(vec![record("t.a", &[]), replaced, record("t.c", &[])]) };
        let prior = Prior::of(&Decoded::of(&state), &[]);
        let incomplete =
            prior.records.iter().filter(|(_, record)| record.incomplete).map(|(address, _)| address.clone());
        assert_eq!(incomplete.collect::<Vec<_>>(), ["t.a", "t.b"].map(address));
    }

    #[test]
    fn a_record_without_a_valid_address_is_a_warning() {
        let invalid = Record { address: "what is this".to_owned(), ..record("t.a", &[]) };
        let prior = Prior::of(&Decoded::of(&state(vec![invalid])), &[]);
        assert!(prior.records.is_empty());
        assert!(prior.warnings[0].contains("`what is this`"), "{:?}", prior.warnings);
    }
}
