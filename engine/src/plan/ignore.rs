//! `lifecycle.ignore_changes`: differences that are no change.

use crate::attribute_path::PathStep;
use crate::expand::{Expanded, Instance};
use crate::{AttributePath, Attributes, Observed};

impl Expanded {
    /// Returns `desired` with the observed values of what `lifecycle.ignore_changes` names.
    pub(crate) fn ignoring(
        &self,
        instance: &Instance,
        mut desired: Attributes,
        observed: Option<&Observed>,
    ) -> Attributes {
        let Some(observed) = observed else { return desired };
        for (text, _) in &instance.resource.lifecycle.ignore_changes {
            if text == "all" {
                let known = observed.attributes.iter().filter(|(name, _)| desired.contains_key(*name));
                let known: Vec<_> = known.map(|(k, v)| (k.clone(), v.clone())).collect();
                desired.extend(known);
                continue;
            }
            // What is not a path is an error of the manifest.
            let Ok(path) = text.parse::<AttributePath>() else { continue };
            for path in self.observed_paths(instance, path, &desired, observed) {
                let fills = is_computed(instance, &path);
                path.copy(&observed.attributes, &mut desired, fills);
            }
        }
        desired
    }

    fn observed_paths(
        &self,
        instance: &Instance,
        path: AttributePath,
        desired: &Attributes,
        observed: &Observed,
    ) -> Vec<AttributePath> {
        match self.catalog.provider(&instance.provider) {
            Some(provider) => provider.observed_paths(instance.resource_type.name, path, desired, &observed.attributes),
            None => vec![path],
        }
    }
}

/// Whether the path begins at an attribute that nobody writes.
fn is_computed(instance: &Instance, path: &AttributePath) -> bool {
    let Some(PathStep::Name(first)) = path.0.first() else { return false };
    instance.resource_type.schema.attribute(first).is_some_and(|attribute| !attribute.optional)
}
