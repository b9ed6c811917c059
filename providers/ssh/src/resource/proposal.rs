//! The proposal of a type whose objects are changed in place.

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{PlanRequest, Proposal, ProposedAction};

use super::Resource;

/// Returns the proposal to change the observed object of `request` to `planned`. Retained values stay; computed values are the observed ones, or unknown.
pub(crate) fn propose(resource: &dyn Resource, request: &PlanRequest, planned: Attributes) -> Proposal {
    let schema = request.resource_type.schema();
    let computed = schema.attributes.iter().filter(|a| a.computed).map(|a| a.name);
    let mut planned = planned;
    planned.retain(|_, value| !value.is_null());
    let Some(observed) = request.observed.as_ref().map(|o| &o.attributes) else {
        for name in computed {
            planned.get_or_insert_with(name, || Value::Unknown);
        }
        return Proposal::new(ProposedAction::Create, planned);
    };
    planned.retain(|name, value| !value.is_retained() || observed.contains_key(name));
    for (name, value) in &mut planned {
        if let (true, Some(now)) = (value.is_retained(), observed.get(name)) {
            *value = now.clone();
        }
    }
    for name in computed {
        if let Some(value) = observed.get(name) {
            planned.get_or_insert_with(name, || value.clone());
        }
    }
    // A value that was hidden while its secrecy was unknown is not a difference.
    let differs = |name: &String, value: &Value| match observed.get(name) {
        Some(now) if now.is_sensitive() => !is_equal(Some(now), Some(value)),
        now => now != Some(value),
    };
    let changed: Vec<String> = planned.iter().filter(|(n, v)| differs(n, v)).map(|(name, _)| name.clone()).collect();
    if changed.is_empty() {
        let stays = |(name, value)| (String::clone(name), observed.get(name).unwrap_or(value).clone());
        let planned = planned.iter().map(stays).collect();
        return Proposal::new(ProposedAction::NoOp, planned);
    }
    let forces = |name: &&String| schema.attribute(name).is_some_and(|a| a.forces_replacement);
    let forcing: Vec<String> = changed.iter().filter(forces).cloned().collect();
    let action = if forcing.is_empty() { ProposedAction::Update } else { ProposedAction::Replace(forcing) };
    let mut proposal = Proposal::new(action, planned);
    proposal.consequences.extend(request.overwrite(&proposal, resource.lost_on_overwrite()));
    proposal
}

/// Whether both values are equal, sensitive or not.
pub(crate) fn is_equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    a.map(Value::reveal_deep) == b.map(Value::reveal_deep)
}
