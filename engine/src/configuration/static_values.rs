//! The desired attributes that are known from the manifest alone, before any target is read.

use crate::configuration::evaluate::desired;
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::Graph;
use crate::configuration::owners::{Owners, same_object};
use crate::configuration::scope::Values;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Attributes, Diagnostic, Mode, Value};

/// The desired attributes of each instance as known from the manifest alone. The others are unknown.
pub(crate) struct StaticValues {
    attributes: HashMap<Address, Attributes>,
    owners: Owners,
}

impl StaticValues {
    /// Evaluates all instances, checks that each object has one owner, and adds the order that providers imply to `graph`.
    ///
    /// # Errors
    /// Returns all errors of the evaluation, and the objects with several owners.
    pub fn new(expanded: &Expanded, graph: &mut Graph) -> Result<Self, Vec<Diagnostic>> {
        let mut static_values = Self { attributes: HashMap::default(), owners: Owners::default() };
        let mut errors = Vec::new();
        let mut values = Values::default();
        for i in graph.waves().concat() {
            let instance = &expanded.instances[i];
            match desired(expanded, instance, &values) {
                Ok(attributes) => {
                    let mut known = attributes.clone();
                    known.extend(expanded.static_data.result(&instance.address).cloned().unwrap_or_default());
                    values.insert(instance.address.clone(), with_unknown(instance, known));
                    static_values.attributes.insert(instance.address.clone(), attributes);
                }
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() {
            errors.extend(static_values.claim_objects(expanded));
        }
        if !errors.is_empty() {
            return Err(deduplicated(errors));
        }
        static_values.imply_order(expanded, graph);
        Ok(static_values)
    }

    /// Returns the attributes of an instance.
    pub fn get(&self, address: &Address) -> Option<&Attributes> {
        self.attributes.get(address)
    }

    /// Returns the identity of an instance, if it is known.
    pub fn identity(&self, instance: &Instance) -> Option<String> {
        instance.identity(self.get(&instance.address)?)
    }

    /// Returns the owners of all objects with a known identity.
    pub fn owners(&self) -> Owners {
        self.owners.clone()
    }

    /// Records the owner of each object. Returns the errors for objects with two owners.
    fn claim_objects(&mut self, expanded: &Expanded) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        for instance in expanded.instances.iter().filter(|i| i.address.resource.mode == Mode::Managed) {
            let Some(attributes) = self.attributes.get(&instance.address) else { continue };
            for identity in instance.identities(attributes) {
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

/// Adds an unknown value for each attribute that the provider computes.
pub(crate) fn with_unknown(instance: &Instance, mut attributes: Attributes) -> Attributes {
    for attribute in instance.resource_type.schema().attributes.iter().filter(|a| a.computed) {
        if attributes.get(attribute.name).is_none_or(Value::is_null) {
            attributes.insert(attribute.name.to_owned(), attribute.mark(Value::Unknown));
        }
    }
    attributes
}

/// Removes repeated errors, so that a block with many instances has one error.
pub(crate) fn deduplicated(errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::default();
    errors.into_iter().filter(|e| seen.insert((e.summary.clone(), e.at.as_ref().map(|(span, _)| *span)))).collect()
}
