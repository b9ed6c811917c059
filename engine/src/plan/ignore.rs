//! `lifecycle.ignore_changes`: differences that are no change.

use std::collections::BTreeMap;

use crate::{Attributes, Observed, Value};

/// `desired` with the observed values of the attributes that `lifecycle.ignore_changes` names.
pub(crate) fn ignoring(ignored: &[String], mut desired: Attributes, observed: Option<&Observed>) -> Attributes {
    let Some(observed) = observed else { return desired };
    for path in ignored {
        if path == "all" {
            let known = observed.attributes.iter().filter(|(name, _)| desired.contains_key(*name));
            let known: Vec<_> = known.map(|(k, v)| (k.clone(), v.clone())).collect();
            desired.extend(known);
            continue;
        }
        let steps: Vec<_> = path.split('.').collect();
        copy_path(&steps, &mut desired, &observed.attributes);
    }
    desired
}

fn copy_path(steps: &[&str], to: &mut BTreeMap<String, Value>, from: &BTreeMap<String, Value>) {
    let Some((first, rest)) = steps.split_first() else { return };
    match (rest.is_empty(), from.get(*first)) {
        (true, Some(value)) => _ = to.insert((*first).to_owned(), value.clone()),
        (true, None) => _ = to.remove(*first),
        (false, Some(Value::Map(from))) => {
            if let Some(Value::Map(to)) = to.get_mut(*first) {
                copy_path(rest, to, from);
            }
        }
        (false, _) => {}
    }
}
