//! Data sources: read during the plan, or deferred to the apply.

use moorfast_state::{Digest, SealKey, canonical_object};

use super::batches::Batches;
use super::draft::{Decision, Draft};
use super::inputs::Inputs;
use super::model::Change;
use super::prior::Prior;
use crate::configuration::expand::Instance;
use crate::configuration::static_values::{deduplicated, with_unknown};
use crate::model::{Attributes, Value, seal_attributes};
use crate::provider::{Action, DataRequest};
use crate::session::Failure;

/// The data sources of one wave.
#[derive(Default)]
pub(super) struct DataSources<'a> {
    /// The data sources to read now.
    pub requests: Batches<(&'a Instance, DataRequest)>,
    /// The static data sources, with their arguments. They were read before the inventory was evaluated.
    pub known: Vec<(&'a Instance, Attributes)>,
    /// The data sources that the apply reads.
    pub deferred: Vec<Decision>,
}

/// Returns the data sources of a wave. A data source that depends on a planned change is deferred to the apply.
///
/// # Errors
/// If the arguments of a data source cannot be evaluated.
pub(super) fn data_sources<'a>(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    instances: &[&'a Instance],
) -> Result<DataSources<'a>, Failure> {
    let mut errors = Vec::new();
    let mut sources = DataSources::default();
    for instance in instances {
        let arguments = match inputs.desired(instance, &draft.values) {
            Ok(arguments) => arguments,
            Err(diagnostics) => {
                errors.extend(diagnostics);
                continue;
            }
        };
        if inputs.expanded.static_data.result(&instance.address).is_some() {
            sources.known.push((*instance, arguments));
            continue;
        }
        let changes = |action: Action| !matches!(action, Action::NoOp | Action::Adopt);
        let mut dependencies = inputs.dependencies(&instance.address);
        if dependencies.any(|d| draft.action(d).is_some_and(changes))
            || draft.machines.is_unread(&instance.target)
            || arguments.values().any(Value::is_unknown)
        {
            sources.deferred.push(deferred(inputs, prior, instance, arguments));
            continue;
        }
        let timeout = instance.resource.timeouts.get("read").copied();
        let data_source = instance.resource_type.clone();
        let request = DataRequest { address: instance.address.clone(), data_source, arguments, timeout };
        sources.requests.add(&instance.provider, &instance.target, (*instance, request));
    }
    if errors.is_empty() { Ok(sources) } else { Err(Failure::Manifest(deduplicated(errors))) }
}

/// Returns the values of a data source with the attributes that its provider read, after checking its postconditions.
pub(super) fn data_values(
    inputs: &Inputs,
    draft: &Draft,
    instance: &Instance,
    arguments: Attributes,
    read: Attributes,
) -> Result<Attributes, Failure> {
    let mut values = arguments;
    values.extend(read);
    inputs.check_postconditions(instance, &values, &draft.values)?;
    Ok(values)
}

/// Returns the address and the digest of what a data source read on this machine, which is an input of the plan. The digest has a key, because the result can
/// be sensitive. Other data sources are not inputs: what they read can change with every read.
pub(super) fn data_digest(inputs: &Inputs, instance: &Instance, read: &Attributes) -> Option<(String, Digest)> {
    instance.resource_type.local_access()?;
    Some((instance.address.to_string(), result_digest(inputs.key, read)))
}

/// Returns the digest of the result of a data source.
pub(crate) fn result_digest(key: &SealKey, read: &Attributes) -> Digest {
    key.digest(&canonical_object(&seal_attributes(read, key)))
}

/// Returns the decision to read a data source during the apply.
fn deferred(inputs: &Inputs, prior: &Prior, instance: &Instance, arguments: Attributes) -> Decision {
    let after = seal_attributes(&arguments, inputs.key);
    let change = Change { after: Some(after), ..Change::of_instance(inputs, prior, instance, Action::Read) };
    Decision { change, drift: None, item: None, values: Some(with_unknown(instance, arguments)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::{Configuration, change, prior};

    #[test]
    fn a_data_source_is_deferred_if_its_dependency_changes() {
        let file = "[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"";
        let data = "[data.mem_data.d]\nof = \"x\"\ndepends_on = [\"mem_file.a\"]";
        let configuration = Configuration::of(&format!("{file}\n{data}"));
        let deferred = |action| {
            let mut draft = Draft::default();
            let change = change("mem_file.a[\"n1\"]", action, &[]);
            draft.add(Decision { change, drift: None, item: None, values: None });
            let instances = [configuration.instance("data.mem_data.d")];
            let sources = data_sources(&configuration.inputs(), &prior([]), &draft, &instances).unwrap();
            assert_eq!(sources.requests.into_iter().count(), usize::from(sources.deferred.is_empty()));
            sources.deferred
        };
        assert!(deferred(Action::NoOp).is_empty() && deferred(Action::Adopt).is_empty());
        let [Decision { change, values, .. }] = &deferred(Action::Update)[..] else { panic!("not deferred") };
        assert_eq!(change.action, Action::Read);
        assert_eq!(change.after.as_ref().unwrap()["of"], "x");
        assert!(values.as_ref().unwrap()["value"].is_unknown());
    }
}
