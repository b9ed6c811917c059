//! The drop-ins of a unit: files in `NAME.d` that change its definition.

use std::sync::LazyLock;

use moorfast_engine::model::{Attributes, ReadAttributes, Value, ValueMap};

use super::install;
use crate::resource::proposal::is_equal;
use crate::script::{print_bytes, quote};
use crate::subject::Subject;

/// Returns the names of the desired and the recorded drop-ins, and of those that a failed operation may have written.
pub(super) fn names(subject: &Subject) -> Vec<String> {
    let mut names = of(&subject.attributes);
    if let Some(recorded) = &subject.recorded {
        names.extend(of(recorded));
        names.extend(unfinished(&subject.private));
    }
    names.sort();
    names.dedup();
    names
}

/// Returns the names of the drop-ins in `attributes`.
pub(super) fn of(attributes: &Attributes) -> Vec<String> {
    attributes.get("drop_ins").and_then(Value::as_map).map(|m| m.keys().cloned().collect()).unwrap_or_default()
}

/// Returns the names of the drop-ins that a failed operation may have written.
pub(super) fn unfinished(private: &serde_json::Value) -> Vec<String> {
    let names = private["drop_ins"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// A drop-in that differs from the one on the node. Without content it is removed.
pub(super) struct DropIn<'a> {
    name: &'a str,
    before: Option<&'a str>,
    content: Option<&'a str>,
}

impl DropIn<'_> {
    /// Whether the drop-in changes how the unit is enabled.
    pub fn changes_install(&self) -> bool {
        let section = |text: Option<&'_ str>| text.map(install::of).unwrap_or_default().join("\n");
        section(self.before) != section(self.content)
    }

    /// Returns shell that writes or removes the drop-in, and sets `redefined`.
    pub fn write(&self) -> String {
        let name = quote(self.name);
        match self.content {
            Some(content) => {
                format!(
                    "mkdir -p -- \"$D\"; {} | write_file \"$D\"/{name}; redefined=1\n",
                    print_bytes(content.as_bytes())
                )
            }
            None => format!("rm -f -- \"$D\"/{name}; rmdir -- \"$D\" 2>/dev/null || true; redefined=1\n"),
        }
    }
}

/// Returns the drop-ins of `attributes` that differ on the node, then those of `before` that were removed from the manifest.
pub(super) fn changed<'a>(attributes: &'a Attributes, before: Option<&'a Attributes>) -> Vec<DropIn<'a>> {
    static NONE: LazyLock<ValueMap> = LazyLock::new(ValueMap::new);
    let of = |attributes: Option<&'a Attributes>| attributes.and_then(|a| a.get("drop_ins")?.as_map()).unwrap_or(&NONE);
    let (desired, there) = (of(Some(attributes)), of(before));
    let changed = desired.iter().filter(|(name, content)| !is_equal(there.get(name), Some(content)));
    let gone = there.iter().filter(|(name, _)| !desired.contains_key(name));
    let drop_in = |(name, _): (&'a String, _)| DropIn { name, before: there.text(name), content: desired.text(name) };
    changed.map(drop_in).chain(gone.map(drop_in)).collect()
}
