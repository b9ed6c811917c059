//! Derived attributes, such as the digest of a text. They are not shown beside the attribute that they are derived from.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::row::Row;
use crate::invocation::providers;

/// The source attribute of each derived attribute, by resource type and attribute.
static DERIVED: LazyLock<HashMap<(&'static str, &'static str), &'static str>> = LazyLock::new(|| {
    let types = providers().into_iter().flat_map(|provider| provider.resource_types());
    let derived = types.flat_map(|resource_type| {
        let attributes = resource_type.schema().attributes.iter();
        attributes.filter_map(|a| Some(((resource_type.name(), a.name), a.derived_from?))).collect::<Vec<_>>()
    });
    derived.collect()
});

/// Returns whether `row` is derived from another one of the `rows`.
pub fn is_derived<'r>(resource_type: &str, row: &Row, mut rows: impl Iterator<Item = &'r Row>) -> bool {
    let source = DERIVED.get(&(resource_type, row.path.as_str()));
    source.is_some_and(|source| rows.any(|row| row.path == *source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str) -> Row {
        Row { path: path.to_owned(), before: None, after: Some("x".into()), forces_replacement: false }
    }

    #[test]
    fn a_digest_is_shown_only_without_its_text() {
        let rows = [row("content"), row("sha256"), row("size"), row("mode")];
        let shown = |kind: &str, rows: &[Row]| -> Vec<String> {
            rows.iter().filter(|r| !is_derived(kind, r, rows.iter())).map(|r| r.path.clone()).collect()
        };
        assert_eq!(shown("ssh_file", &rows), ["content", "mode"]);
        assert_eq!(shown("ssh_file", &rows[1..]), ["sha256", "size", "mode"]);
        assert_eq!(shown("ssh_archive", &rows).len(), 4);
    }
}
