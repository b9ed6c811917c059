//! What the manifest wants as far as it is known before anything is read.

use std::collections::{HashMap, HashSet};

use crate::configuration::evaluate::desired;
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::Graph;
use crate::configuration::owners::{Owners, same_object};
use crate::configuration::scope::Values;
use crate::model::{Address, Attributes, Diagnostic, Mode, Value};

/// The attributes of each instance as far as they are known before anything is read.
pub(crate) struct Early {
    attributes: HashMap<Address, Attributes>,
    owners: Owners,
}

impl Early {
    /// Evaluates every instance, checks that no two are the same object, and adds to `graph` the order that providers imply.
    pub fn new(expanded: &Expanded, graph: &mut Graph) -> Result<Self, Vec<Diagnostic>> {
        let mut early = Self { attributes: HashMap::new(), owners: Owners::default() };
        let mut errors = Vec::new();
        let mut values = Values::default();
        for i in graph.waves().concat() {
            let instance = &expanded.instances[i];
            match desired(expanded, instance, &values) {
                Ok(attributes) => {
                    values.insert(instance.address.clone(), with_unknown(instance, attributes.clone()));
                    early.attributes.insert(instance.address.clone(), attributes);
                }
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() {
            errors.extend(early.claim_objects(expanded));
        }
        if !errors.is_empty() {
            return Err(deduplicated(errors));
        }
        early.imply_order(expanded, graph);
        Ok(early)
    }

    /// The attributes of an instance.
    pub fn get(&self, address: &Address) -> Option<&Attributes> {
        self.attributes.get(address)
    }

    /// The natural key of an instance, where it is known already.
    pub fn identity(&self, expanded: &Expanded, instance: &Instance) -> Option<String> {
        if instance.address.resource.mode == Mode::Data {
            return None;
        }
        expanded.identity(instance, self.get(&instance.address)?)
    }

    /// Which instance owns which object, as far as that is known before anything is read.
    pub fn owners(&self) -> Owners {
        self.owners.clone()
    }

    /// Notes the owner of every object. Returns the errors for objects that two instances want.
    fn claim_objects(&mut self, expanded: &Expanded) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        for instance in expanded.instances.iter().filter(|i| i.address.resource.mode == Mode::Managed) {
            let Some(attributes) = self.attributes.get(&instance.address) else { continue };
            for identity in expanded.identities(instance, attributes) {
                if let Err(owner) = self.owners.claim(instance, identity.clone())
                    && let Some(first) = expanded.instance(&owner)
                {
                    errors.push(same_object(first, instance, &identity));
                }
            }
        }
        errors
    }

    fn imply_order(&self, expanded: &Expanded, graph: &mut Graph) {
        for provider in expanded.catalog.providers() {
            let places: Vec<_> = (0..expanded.instances.len())
                .filter(|i| expanded.instances[*i].provider.split('.').next() == Some(provider.name()))
                .filter(|i| expanded.instances[*i].address.resource.mode == Mode::Managed)
                .collect();
            let described = places.iter().filter_map(|i| {
                let instance = &expanded.instances[*i];
                Some((&instance.address, &instance.target, self.get(&instance.address)?))
            });
            for (before, after) in provider.implied_order(&described.collect::<Vec<_>>()) {
                if let (Some(before), Some(after)) = (places.get(before), places.get(after)) {
                    graph.order(*before, *after);
                }
            }
        }
    }
}

/// `attributes`, and unknown for each that the provider computes.
pub(crate) fn with_unknown(instance: &Instance, mut attributes: Attributes) -> Attributes {
    for attribute in instance.resource_type.schema.attributes.iter().filter(|a| a.computed) {
        let value = attributes.entry(attribute.name.to_owned()).or_default();
        if value.is_null() {
            *value = if attribute.sensitive { Value::Unknown.sensitive() } else { Value::Unknown };
        }
    }
    attributes
}

/// One block has one error, however many instances it has.
pub(crate) fn deduplicated(errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    errors.into_iter().filter(|e| seen.insert((e.summary.clone(), e.at.as_ref().map(|(span, _)| *span)))).collect()
}
