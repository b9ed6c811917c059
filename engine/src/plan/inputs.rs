//! The inputs of a plan besides the state and the targets: the configuration and the options.

use std::collections::BTreeSet;

use moorfast_state::{Record, SealKey};
use serde_json::{Map, Value as Json};

use super::model::PlanOptions;
use crate::configuration::evaluate::{desired, violated};
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::Graph;
use crate::configuration::leaving::LeavingNodes;
use crate::configuration::scope::{InstanceScope, Values};
use crate::configuration::static_values::StaticValues;
use crate::model::{Address, Attributes, Diagnostic, Value, seal_attributes};
use crate::provider::{Observed, Target};
use crate::session::Failure;

/// The configuration and the options of a plan. They do not change while it is made.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub expanded: &'a Expanded,
    pub graph: &'a Graph,
    pub static_values: &'a StaticValues,
    pub leaving: &'a LeavingNodes,
    pub key: &'a SealKey,
    pub options: &'a PlanOptions,
}

impl<'a> Inputs<'a> {
    /// Returns the target of a record. Returns `None` if its type does not exist any more, or its node does not and the state does not remember how to reach it.
    pub(super) fn target_of(&self, address: &Address, record: &Record) -> Option<Target> {
        self.leaving.target(self.expanded, &address.resource, &record.provider, &record.target)
    }

    /// Returns the target at which the object of a record is read. Returns `None` if it cannot be reached.
    pub(super) fn reachable_target_of(&self, address: &Address, record: &Record) -> Option<Target> {
        self.target_of(address, record).filter(|_| !self.leaving.is_cut_off(self.expanded, address, record))
    }

    /// Returns the identity of an instance, if it is known before anything is read.
    pub(super) fn static_identity(&self, instance: &Instance) -> Option<String> {
        self.static_values.identity(instance)
    }

    /// Whether `record` describes the object of the instance, as far as this is known before anything is read.
    pub(super) fn is_same_object(&self, instance: &Instance, record: &Record) -> bool {
        let static_values = self.static_values.get(&instance.address);
        static_values.is_some_and(|static_values| instance.continues(record, static_values))
    }

    /// Whether an `[[import]]` block names the instance.
    pub(super) fn is_to_be_imported(&self, address: &Address) -> bool {
        self.expanded.imports.iter().any(|import| address.matches(&import.to))
    }

    /// Returns the direct dependencies of an instance, sorted.
    pub(super) fn dependencies(&self, address: &Address) -> impl Iterator<Item = &'a Address> + use<'a> {
        let Inputs { expanded, graph, .. } = *self;
        let of_instance = expanded.index.get(address).into_iter().flat_map(|i| graph.dependencies(*i));
        let addresses: BTreeSet<_> = of_instance.map(|d| &expanded.instances[d].address).collect();
        addresses.into_iter()
    }

    /// Returns the desired attributes of an instance with the known `values` of its dependencies, after checking its preconditions.
    pub(super) fn desired(&self, instance: &Instance, values: &Values) -> Result<Attributes, Vec<Diagnostic>> {
        let scope = InstanceScope::new(self.expanded, values, instance.binding.clone());
        let subject = format!("precondition of {}", instance.address);
        let violated = violated(&instance.resource.preconditions, &subject, &scope);
        if !violated.is_empty() {
            return Err(violated);
        }
        desired(self.expanded, instance, values)
    }

    /// Checks the postconditions of an instance, with its attributes as `self`.
    pub(super) fn check_postconditions(
        &self,
        instance: &Instance,
        attributes: &Attributes,
        values: &Values,
    ) -> Result<(), Failure> {
        if instance.resource.postconditions.is_empty() {
            return Ok(());
        }
        let scope = InstanceScope::new(self.expanded, values, instance.binding.clone());
        let scope = scope.with_self(Value::Map(attributes.clone()));
        let subject = format!("postcondition of {}", instance.address);
        let violated = violated(&instance.resource.postconditions, &subject, &scope);
        if violated.is_empty() { Ok(()) } else { Err(Failure::Manifest(violated)) }
    }

    /// Returns the observed attributes, sealed.
    pub(super) fn sealed(&self, observed: &Observed) -> Map<String, Json> {
        seal_attributes(&observed.attributes, self.key)
    }
}
