//! Sealed values and paths as text on one line.

use moorfast_engine::model::{Mark, is_identifier};
use moorfast_engine::plan::PathSegment;
use serde_json::Value as Json;

use super::invisible::{escaped, is_invisible};

/// Returns `value` on one line, in the syntax of TOML, with placeholders for sensitive and unknown values.
pub fn inline(value: &Json) -> String {
    if let Some(mark) = Mark::of(value) {
        return placeholder(mark).to_owned();
    }
    match value {
        Json::Object(map) if map.is_empty() => "{}".to_owned(),
        Json::Object(map) => {
            let members: Vec<_> = map.iter().map(|(k, v)| format!("{} = {}", name(k), inline(v))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::String(text) => quoted(text),
        scalar => scalar.to_string(),
    }
}

/// Returns the placeholder for a value that cannot be shown.
fn placeholder(mark: Mark) -> &'static str {
    match mark {
        Mark::Unknown { sensitive: true } => "(sensitive value, known after apply)",
        Mark::Unknown { sensitive: false } => "(known after apply)",
        Mark::Digest(_) | Mark::Retained { sensitive: true } => "(sensitive value)",
        Mark::Retained { sensitive: false } => "(as applied before)",
    }
}

/// Returns whether `value` stands for a value that cannot be shown.
pub fn is_hidden(value: &Json) -> bool {
    Mark::of(value).is_some()
}

/// Returns whether the value is unknown until apply and not sensitive.
pub fn is_plainly_unknown(value: &Json) -> bool {
    Mark::of(value) == Some(Mark::Unknown { sensitive: false })
}

/// Returns whether the value is a text of several lines.
pub fn is_multi_line(value: &Json) -> bool {
    value.as_str().is_some_and(|text| text.trim_end_matches('\n').contains('\n'))
}

/// Returns whether the value is a list without nested lists and maps.
pub fn is_flat_list(value: &Json) -> bool {
    let flat = |item: &Json| !item.is_array() && (!item.is_object() || is_hidden(item));
    value.as_array().is_some_and(|items| items.iter().all(flat))
}

fn quoted(text: &str) -> String {
    printable(&Json::String(text.to_owned()).to_string())
}

/// Escapes the characters of `text` that could move the cursor of a terminal, change its colours, or hide or reorder text.
pub fn printable(text: &str) -> String {
    if !text.contains(is_invisible) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_invisible(c) { escaped(c) } else { c.to_string() }).collect()
}

fn name(text: &str) -> String {
    if is_identifier(text) { text.to_owned() } else { quoted(text) }
}

/// Returns a path in the syntax of expressions, for example `manifest.metadata.labels."app.kubernetes.io/name"` or `subjects[0].kind`.
pub fn path(steps: &[PathSegment]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            PathSegment::Name(part) if text.is_empty() => text.push_str(&name(part)),
            PathSegment::Name(part) => {
                text.push('.');
                text.push_str(&name(part));
            }
            PathSegment::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_toml() {
        let cases = [
            (json!({"a": 1, "b.c": [true, "x"]}), r#"{ a = 1, "b.c" = [true, "x"] }"#),
            (json!({"$sensitive": "blake3:00"}), "(sensitive value)"),
            (json!({"$unknown": true}), "(known after apply)"),
            (json!({"$unknown": true, "$sensitive": true}), "(sensitive value, known after apply)"),
            (json!({"token": {"$retained": true}}), "{ token = (as applied before) }"),
        ];
        for (value, text) in cases {
            assert_eq!(inline(&value), text);
        }
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert!(!inline(&json!("\u{1b}[2J\u{9b}31m")).contains(['\u{1b}', '\u{9b}']));
        assert_eq!(printable("a\u{1b}[2Jb\tc"), "a\\u{1b}[2Jb\tc");
    }
}
