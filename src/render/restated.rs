//! Attributes that say again what another one says, as the digest of a text does: noise for who reads that text.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::row::Row;
use crate::session::providers;

/// By resource type and attribute, the attribute that it derived_from.
static RESTATED: LazyLock<HashMap<(&'static str, &'static str), &'static str>> = LazyLock::new(|| {
    let types = providers().into_iter().flat_map(|provider| provider.resource_types());
    let restated = types.flat_map(|declared| {
        let attributes = declared.schema.attributes.into_iter();
        attributes.filter_map(move |a| Some(((declared.name, a.name), a.derived_from?)))
    });
    restated.collect()
});

/// Is `row` of a `resource_type` without news beside the other `rows`?
pub fn is_restated<'r>(resource_type: &str, row: &Row, mut rows: impl Iterator<Item = &'r Row>) -> bool {
    let derived_from = RESTATED.get(&(resource_type, row.path.as_str()));
    derived_from.is_some_and(|other| rows.any(|row| row.path == *other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str) -> Row {
        Row { path: path.to_owned(), before: None, after: Some("x".into()), forces_replacement: false }
    }

    #[test]
    fn a_digest_is_news_only_where_the_text_is_not_shown() {
        let rows = [row("content"), row("sha256"), row("size"), row("mode")];
        let shown = |kind: &str, rows: &[Row]| -> Vec<String> {
            rows.iter().filter(|r| !is_restated(kind, r, rows.iter())).map(|r| r.path.clone()).collect()
        };
        assert_eq!(shown("ssh_file", &rows), ["content", "mode"]);
        assert_eq!(shown("ssh_file", &rows[1..]), ["sha256", "size", "mode"]);
        assert_eq!(shown("ssh_archive", &rows).len(), 4);
    }
}
