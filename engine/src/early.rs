//! What the manifest wants as far as it is known before anything is read.

use std::collections::{HashMap, HashSet};

use crate::evaluate::desired;
use crate::expand::{Expanded, Instance};
use crate::graph::Graph;
use crate::scope::Values;
use crate::{Address, Attributes, Diagnostic, Mode, Value};

/// The attributes of each instance as far as they are known before anything is read.
pub(crate) struct Early(HashMap<Address, Attributes>);

impl Early {
    /// Evaluates every instance, checks that no two are the same object, and adds to `graph` the order that providers imply.
    pub fn new(expanded: &Expanded, graph: &mut Graph) -> Result<Self, Vec<Diagnostic>> {
        let mut early = Self(HashMap::new());
        let mut errors = Vec::new();
        let mut values = Values::default();
        for i in graph.waves().concat() {
            let instance = &expanded.instances[i];
            match desired(expanded, instance, &values) {
                Ok(attributes) => {
                    values.insert(instance.address.clone(), with_unknown(instance, attributes.clone()));
                    early.0.insert(instance.address.clone(), attributes);
                }
                Err(found) => errors.extend(found),
            }
        }
        if errors.is_empty() {
            errors.extend(early.same_objects(expanded));
        }
        if !errors.is_empty() {
            return Err(deduplicated(errors));
        }
        early.imply_order(expanded, graph);
        Ok(early)
    }

    /// The attributes of an instance.
    pub fn get(&self, address: &Address) -> Option<&Attributes> {
        self.0.get(address)
    }

    /// The natural key of an instance, where it is known already.
    pub fn identity(&self, expanded: &Expanded, instance: &Instance) -> Option<String> {
        if instance.address.resource.mode == Mode::Data {
            return None;
        }
        expanded.identity(instance, self.get(&instance.address)?)
    }

    fn same_objects(&self, expanded: &Expanded) -> Vec<Diagnostic> {
        let mut seen: HashMap<(&str, String), &Instance> = HashMap::new();
        let mut errors = Vec::new();
        for instance in &expanded.instances {
            let Some(identity) = self.identity(expanded, instance) else { continue };
            let Some(first) = seen.insert((instance.target.name(), identity.clone()), instance) else { continue };
            let message = format!(
                "`{}` and `{}` are the same object: {identity} on {}",
                first.address, instance.address, instance.target
            );
            errors.push(
                Diagnostic::error(message)
                    .at(instance.resource.span, "this one")
                    .related(first.resource.span, "and this one")
                    .help("an object can have one owner only; take one of them away"),
            );
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
