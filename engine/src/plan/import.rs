//! An import: a refresh that records an object which the state does not have yet, without any changes.

use super::draft::Decision;
use super::inputs::Inputs;
use super::item::Item;
use super::machines::Machines;
use super::model::Change;
use super::observed::sealed_digest;
use super::prior::Prior;
use super::readings::{ReadingKey, Readings};
use crate::configuration::expand::Instance;
use crate::provider::{Action, Class, ProviderError};

/// Decides to record the object of an instance.
///
/// # Errors
/// If the object does not exist or could not be read, if its identity is not known yet, or if another machine answers as its node.
pub(super) fn import(
    inputs: &Inputs,
    prior: &Prior,
    machines: &Machines,
    instance: &Instance,
    readings: &mut Readings,
) -> Result<Decision, ProviderError> {
    let address = &instance.address;
    let invalid = |summary: String| ProviderError::new(Class::Invalid, summary);
    let node = instance.machine();
    if let Some(node) =
        node.filter(|node| machines.changes.iter().any(|c| c.node == **node && c.kind.is_another_machine()))
    {
        let error = ProviderError::new(Class::Identity, format!("another machine answers as the node `{node}`"));
        return Err(error
            .help(format!("run `moorfast plan` to see which one; `moorfast apply --replace-node {node}` accepts it")));
    }
    let identity = inputs.static_identity(instance).ok_or_else(|| {
        invalid(format!("cannot import `{address}`: its identity depends on resources that are not applied yet"))
    })?;
    let reading = readings.0.remove(&ReadingKey::Current(address.clone())).unwrap_or(Ok(None));
    let observed = reading?.ok_or_else(|| invalid(format!("{identity} does not exist on {}", instance.target)))?;
    let sealed = inputs.sealed(&observed);
    let mut values = inputs.static_values.get(address).cloned().unwrap_or_default();
    values.extend(observed.attributes.clone());
    Ok(Decision {
        change: Change {
            identity: Some(identity),
            observed: Some(sealed_digest(Some(&sealed))),
            before: Some(sealed.clone()),
            after: Some(sealed),
            ..Change::of_instance(inputs, prior, instance, Action::Adopt)
        },
        drift: None,
        values: Some(values),
        item: Some(Item { observed: Some(observed), ..Item::default() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value;
    use crate::model::hash::HashMap;
    use crate::plan::samples::{Configuration, file, prior};

    #[test]
    fn an_import_records_the_object_as_it_is() {
        let manifest = "[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\ncontent = \"desired\"";
        let configuration = Configuration::of(manifest);
        let instance = configuration.instance("mem_file.a[\"n1\"]");
        let imported = |object| {
            let mut readings =
                Readings(HashMap::from_iter([(ReadingKey::Current(instance.address.clone()), Ok(object))]));
            import(&configuration.inputs(), &prior([]), &Machines::default(), instance, &mut readings)
        };
        let Decision { change, item, values, .. } = imported(Some(file("/a", "theirs"))).unwrap();
        assert_eq!((change.action, change.identity.as_deref()), (Action::Adopt, Some("/a")));
        assert_eq!(change.before.as_ref().unwrap()["content"], "theirs");
        assert_eq!(change.after, change.before);
        assert_eq!(change.observed, Some(sealed_digest(change.before.as_ref())));
        assert_eq!(item.unwrap().observed.unwrap().attributes["content"], Value::from("theirs"));
        assert_eq!(values.unwrap()["content"], Value::from("theirs"));
        assert_eq!(imported(None).err().unwrap().summary, "/a does not exist on n1");
    }
}
