//! Derived attributes, such as the digest of a text. They are not shown beside the attribute that they are derived from.

use std::collections::HashMap;
use std::sync::Arc;

use moorfast_engine::provider::Provider;

/// The source attribute of each derived attribute, by resource type and attribute.
#[derive(Debug, Default)]
pub struct DerivedAttributes(HashMap<(&'static str, &'static str), &'static str>);

impl DerivedAttributes {
    /// Returns the derived attributes of all resource types of `providers`.
    pub fn of(providers: &[Arc<dyn Provider>]) -> Self {
        let types = providers.iter().flat_map(|provider| provider.resource_types());
        let derived = types.flat_map(|resource_type| {
            let attributes = resource_type.schema().attributes.iter();
            attributes.filter_map(|a| Some(((resource_type.name(), a.name), a.derived_from?))).collect::<Vec<_>>()
        });
        Self(derived.collect())
    }

    /// Whether the attribute at `path` is derived from one of the attributes `shown`.
    pub fn contain<'r>(&self, resource_type: &str, path: &str, mut shown: impl Iterator<Item = &'r str>) -> bool {
        self.0.get(&(resource_type, path)).is_some_and(|source| shown.any(|shown| shown == *source))
    }
}

#[cfg(test)]
mod tests {
    use crate::render::samples;

    #[test]
    fn a_digest_is_shown_only_without_its_text() {
        let paths = ["content", "sha256", "size", "mode"];
        let shown = |kind: &str, paths: &[&'static str]| -> Vec<&str> {
            let is_derived = |path: &str| samples::DERIVED.contain(kind, path, paths.iter().copied());
            paths.iter().copied().filter(|path| !is_derived(path)).collect()
        };
        assert_eq!(shown("ssh_file", &paths), ["content", "mode"]);
        assert_eq!(shown("ssh_file", &paths[1..]), ["sha256", "size", "mode"]);
        assert_eq!(shown("ssh_archive", &paths).len(), 4);
    }
}
