//! Candidates: instances whose objects are read, with the requests that ask their providers for proposals.

use moorfast_state::Record;

use super::batches::Batches;
use super::draft::Draft;
use super::inputs::Inputs;
use super::objects::is_claimed;
use super::prior::Prior;
use super::provisional::is_provisional;
use super::readings::{ReadingKey, Readings};
use super::superseded::{SupersededObject, superseded};
use super::triggers::{Trigger, triggers};
use crate::configuration::expand::Instance;
use crate::model::{Address, Attributes, Recorded};
use crate::provider::{Class, Dependency, Observed, PlanRequest, ProviderError};

/// An instance for which its provider makes a proposal. The request to the provider has its attributes and its record.
pub(super) struct Candidate<'a> {
    pub instance: &'a Instance,
    pub recorded: Option<Recorded>,
    /// The object with the recorded identity, if the manifest now declares another identity.
    pub former: Option<Observed>,
    pub superseded: Vec<SupersededObject>,
    /// The triggers of `restart_on`.
    pub restarted_by: Vec<Trigger>,
}

/// The instances of one wave, sorted by how they are decided.
#[derive(Default)]
pub(super) struct Candidates<'a> {
    /// Those whose providers make a proposal.
    pub requests: Batches<(Candidate<'a>, PlanRequest)>,
    /// Those whose cluster does not answer yet, with their desired attributes.
    pub provisional: Vec<(&'a Instance, Attributes)>,
    /// Those that cannot be planned.
    pub failures: Vec<(Address, ProviderError)>,
}

/// Returns the candidates of one wave. All their dependencies are in the draft.
pub(super) fn candidates<'a>(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    desired: Vec<(&'a Instance, Attributes)>,
    readings: &mut Readings,
) -> Candidates<'a> {
    let mut candidates = Candidates::default();
    for (instance, attributes) in desired {
        if is_unreadable_yet(inputs, prior, draft, instance, readings) {
            candidates.provisional.push((instance, attributes));
            continue;
        }
        match candidate(inputs, prior, draft, instance, attributes, readings) {
            Ok(candidate) => candidates.requests.add(&instance.provider, &instance.target, candidate),
            Err(error) => candidates.failures.push((instance.address.clone(), error)),
        }
    }
    candidates
}

/// Whether the reading failed because the plan starts the target only now.
fn is_unreadable_yet(inputs: &Inputs, prior: &Prior, draft: &Draft, instance: &Instance, readings: &Readings) -> bool {
    let reading = readings.0.get(&ReadingKey::Current(instance.address.clone()));
    matches!(reading, Some(Err(failure)) if is_provisional(inputs, prior, draft, instance, failure))
}

fn candidate<'a>(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    instance: &'a Instance,
    desired: Attributes,
    readings: &mut Readings,
) -> Result<(Candidate<'a>, PlanRequest), ProviderError> {
    let expanded = inputs.expanded;
    let address = &instance.address;
    let identity = instance.identity(&desired);
    let recorded = prior.records.get(address).cloned();
    let mut observed = readings.take(&ReadingKey::Current(address.clone()))?;
    let mut former = readings.take(&ReadingKey::Former(address.clone()))?;
    let continues = recorded.as_ref().is_some_and(|r| instance.continues(r, &desired));
    if continues {
        // The identity became known only now, and it is the recorded one.
        former = None;
    } else if identity.is_none() {
        // While the identity is unknown, the object is assumed to be the recorded one.
        observed = observed.or(former.take());
    }
    if let Some(record) = recorded.as_ref().filter(|r| r.target != instance.target.name()) {
        let message = format!("`{address}` cannot move from {} to {}", record.target, instance.target);
        let help = "rename the resource, so that the old object is destroyed and the new one is created";
        return Err(ProviderError::new(Class::Invalid, message).help(help));
    }
    let is_imported = inputs.is_to_be_imported(address);
    if observed.is_none() && recorded.is_none() && is_imported {
        let name = identity.as_deref().unwrap_or("object");
        let message = format!("cannot import `{address}`: {name} does not exist on {}", instance.target);
        let help = "remove the [[import]] block to create the object";
        return Err(ProviderError::new(Class::Invalid, message).help(help));
    }
    let superseded = match &recorded {
        Some(record) if identity.is_some() => {
            let is_desired = |pending: &Record| instance.continues(pending, &desired);
            let mut superseded = superseded(address, record, is_desired, readings)?;
            let claimed = superseded.iter_mut().filter(|object| is_claimed(&draft.owners, &object.record));
            claimed.for_each(|object| object.observed = None);
            superseded
        }
        // While the identity is unknown, any of the pending objects may be the desired one.
        _ => Vec::new(),
    };
    let foreign = observed.is_some()
        && !continues
        && !is_imported
        && identity
            .as_deref()
            .is_some_and(|identity| !prior.has_object(&instance.provider, instance.target.name(), identity));
    let restarted_by = triggers(inputs, prior, draft, instance, &instance.resource.restart_on);
    let ignored = observed.as_ref().map(|o| expanded.ignored_paths(instance, &desired, &o.attributes));
    let request = PlanRequest {
        address: address.clone(),
        resource_type: instance.resource_type.clone(),
        desired: expanded.ignoring(instance, desired, observed.as_ref()),
        recorded: recorded.as_ref().filter(|_| continues || identity.is_none()).map(Recorded::shared),
        observed,
        foreign,
        ignored: ignored.unwrap_or_default(),
        triggers: restarted_by.iter().map(|trigger| trigger.address.clone()).collect(),
        dependencies: planned_dependencies(inputs, draft, instance),
    };
    Ok((Candidate { instance, recorded, former, superseded, restarted_by }, request))
}

/// Returns the direct dependencies of an instance with their planned changes, if its provider needs them.
fn planned_dependencies(inputs: &Inputs, draft: &Draft, instance: &Instance) -> Vec<Dependency> {
    if !instance.resource_type.planning_needs_dependencies() {
        return Vec::new();
    }
    let planned = |address: &Address| {
        let desired = draft.values.get(address).or_else(|| inputs.static_values.get(address))?.clone();
        let change = draft.change(address);
        let objects = change.map(|change| change.objects.clone()).unwrap_or_default();
        Some(Dependency { address: address.clone(), action: change.map(|change| change.action), objects, desired })
    };
    inputs.dependencies(&instance.address).filter_map(planned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value;
    use crate::plan::draft::Decision;
    use crate::plan::samples::{Configuration, address, change, file, prior, recorded_file};
    use crate::provider::Action;

    const A: &str = "mem_file.a[\"n1\"]";

    /// Returns the candidate `mem_file.a` with these objects on the node.
    fn candidate_of<'a>(
        configuration: &'a Configuration,
        records: Vec<Record>,
        current: Option<Observed>,
        former: Option<Observed>,
    ) -> Result<(Candidate<'a>, PlanRequest), ProviderError> {
        let key = |key: fn(Address) -> ReadingKey| key(address(A));
        let readings = [(key(ReadingKey::Current), Ok(current)), (key(ReadingKey::Former), Ok(former))];
        let mut readings = Readings(readings.into_iter().collect());
        let (instance, desired) = (configuration.instance(A), configuration.desired(A));
        candidate(&configuration.inputs(), &prior(records), &Draft::default(), instance, desired, &mut readings)
    }

    fn manifest(more: &str) -> Configuration {
        Configuration::of(&format!("[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\n{more}"))
    }

    #[test]
    fn an_object_is_foreign_unless_the_state_or_an_import_knows_it() {
        let foreign = |more, records| {
            let (_, request) = candidate_of(&manifest(more), records, Some(file("/a", "")), None).unwrap();
            request.foreign
        };
        assert!(foreign("", Vec::new()));
        assert!(!foreign("", vec![recorded_file(A, "/a", "")]));
        assert!(!foreign("", vec![recorded_file("mem_file.other[\"n1\"]", "/a", "")]));
        let replaced = Record {
            pending: vec![recorded_file("mem_file.other[\"n1\"]", "/a", "")],
            ..recorded_file("mem_file.other[\"n1\"]", "/b", "")
        };
        assert!(!foreign("", vec![replaced]));
        assert!(!foreign("[[import]]\nto = \"mem_file.a\"", Vec::new()));
    }

    #[test]
    fn an_object_with_another_identity_is_the_former_one() {
        let configuration = manifest("");
        let records = vec![recorded_file(A, "/old", "")];
        let (candidate, request) = candidate_of(&configuration, records, None, Some(file("/old", ""))).unwrap();
        assert!(candidate.former.is_some() && candidate.recorded.is_some());
        assert!(request.recorded.is_none() && request.observed.is_none());
        // With the recorded identity there is no former object.
        let records = vec![recorded_file(A, "/a", "")];
        let (candidate, request) = candidate_of(&configuration, records, Some(file("/a", "")), None).unwrap();
        assert!(candidate.former.is_none() && request.recorded.is_some() && request.observed.is_some());
    }

    #[test]
    fn an_import_of_nothing_and_a_move_to_another_target_fail() {
        let error = |more, records| candidate_of(&manifest(more), records, None, None).err().unwrap().summary;
        let import = error("[[import]]\nto = \"mem_file.a\"", Vec::new());
        assert_eq!(import, format!("cannot import `{A}`: /a does not exist on n1"));
        let elsewhere = Record { target: "n2".to_owned(), ..recorded_file(A, "/a", "") };
        assert_eq!(error("", vec![elsewhere]), format!("`{A}` cannot move from n2 to n1"));
    }

    #[test]
    fn a_provider_gets_the_planned_changes_of_the_dependencies() {
        const B: &str = "mem_file.b[\"n1\"]";
        let b = "depends_on = [\"mem_file.b\"]\n[resource.mem_file.b]\non = \"n1\"\npath = \"/b\"\ncontent = \"b\"\n";
        let configuration = manifest(b);
        let mut draft = Draft::default();
        let dependencies = |draft: &Draft| {
            let planned = planned_dependencies(&configuration.inputs(), draft, configuration.instance(A));
            planned
                .into_iter()
                .map(|d| (d.address.to_string(), d.action, d.desired["content"].clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(dependencies(&draft), [(B.to_owned(), None, Value::from("b"))]);
        let values = Attributes::from([("content".to_owned(), Value::from("planned"))]);
        draft.add(Decision { change: change(B, Action::Update, &[]), drift: None, item: None, values: Some(values) });
        assert_eq!(dependencies(&draft), [(B.to_owned(), Some(Action::Update), Value::from("planned"))]);
    }

    #[test]
    fn ignored_attributes_are_desired_as_they_are_observed() {
        let configuration = manifest("lifecycle.ignore_changes = [\"content\"]");
        let (_, request) = candidate_of(&configuration, Vec::new(), Some(file("/a", "theirs")), None).unwrap();
        assert_eq!(request.desired["content"], Value::from("theirs"));
        // The object has neither of them. A computed attribute is planned without a value, another one is not set.
        let configuration = manifest("content = \"desired\"\nlifecycle.ignore_changes = [\"content\", \"id\"]");
        let mut observed = file("/a", "");
        observed.attributes.retain(|name, _| name == "path");
        let (_, request) = candidate_of(&configuration, Vec::new(), Some(observed), None).unwrap();
        assert_eq!((request.desired.get("content"), request.desired.get("id")), (None, Some(&Value::Null)));
    }
}
