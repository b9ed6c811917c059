//! `lifecycle.ignore_changes`: differences that are not planned as changes.

use crate::configuration::expand::{Expanded, Instance};
use crate::model::{AttributePath, Attributes, PathStep, Span};
use crate::provider::Observed;

impl Expanded {
    /// Returns `desired` with the observed values of the attributes in `lifecycle.ignore_changes`.
    pub(crate) fn ignoring(
        &self,
        instance: &Instance,
        mut desired: Attributes,
        observed: Option<&Observed>,
    ) -> Attributes {
        let Some(observed) = observed else { return desired };
        for path in self.ignored_paths(instance, &desired, &observed.attributes) {
            let is_filled = is_computed(instance, &path);
            path.copy(&observed.attributes, &mut desired, is_filled);
        }
        desired
    }

    /// Returns the paths in the observed attributes that `lifecycle.ignore_changes` names.
    pub(crate) fn ignored_paths(
        &self,
        instance: &Instance,
        desired: &Attributes,
        observed: &Attributes,
    ) -> Vec<AttributePath> {
        let named = |(text, _): &(String, Span)| match text.as_str() {
            "all" => {
                let known = observed.keys().filter(|name| desired.contains_key(name));
                known.map(|name| AttributePath(vec![PathStep::Name(name.clone())])).collect()
            }
            // A text that is not a path is reported as an error of the manifest.
            text => match text.parse::<AttributePath>() {
                Err(_) => Vec::new(),
                Ok(path) => instance.resource_type.resolve_ignored_path(path, desired, observed),
            },
        };
        let mut paths: Vec<_> = instance.resource.lifecycle.ignore_changes.iter().flat_map(named).collect();
        // The digest of an ignored attribute is ignored too.
        let restating = instance.resource_type.schema().attributes.iter().filter(|attribute| {
            let restated = attribute.derived_from.map(|name| AttributePath(vec![PathStep::Name(name.to_owned())]));
            restated.is_some_and(|restated| paths.contains(&restated))
        });
        let restating: Vec<_> =
            restating.map(|attribute| AttributePath(vec![PathStep::Name(attribute.name.to_owned())])).collect();
        paths.extend(restating);
        paths
    }
}

/// Whether the path starts at a computed attribute.
fn is_computed(instance: &Instance, path: &AttributePath) -> bool {
    let Some(PathStep::Name(first)) = path.0.first() else { return false };
    instance.resource_type.schema().attribute(first).is_some_and(|attribute| !attribute.optional)
}
