//! Taints of the manifest beside taints of controllers.

use std::fmt;

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use serde_json::{Value as Json, json};

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Taint {
    key: String,
    effect: String,
    value: String,
}

impl Taint {
    /// Returns the taints in `attributes`.
    pub(super) fn read_all(attributes: &Attributes) -> Vec<Taint> {
        let items = attributes.get("taints").and_then(Value::as_list).unwrap_or_default();
        let taints = items.iter().filter_map(Value::as_map).filter_map(|item| {
            let text = |name: &str| item.text(name).map(str::to_owned);
            Some(Taint { key: text("key")?, effect: text("effect")?, value: text("value").unwrap_or_default() })
        });
        taints.collect()
    }

    /// Returns the attribute value for `taints`, sorted because their order has no meaning.
    pub(super) fn write_all(mut taints: Vec<Taint>) -> Value {
        taints.sort();
        Value::List(taints.iter().map(|t| Value::from(t.to_json())).collect())
    }

    /// Returns the taints of a Node object.
    pub(super) fn of_node(node: &Json) -> Vec<Taint> {
        let items = node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        items
            .iter()
            .map(|t| Taint { key: text(&t["key"]), effect: text(&t["effect"]), value: text(&t["value"]) })
            .collect()
    }

    /// Returns the taint in the form of the API.
    pub(super) fn to_json(&self) -> Json {
        if self.value.is_empty() {
            return json!({ "effect": self.effect, "key": self.key });
        }
        json!({ "effect": self.effect, "key": self.key, "value": self.value })
    }

    /// Whether both taints have the same key and effect.
    pub(super) fn is_same(&self, other: &Taint) -> bool {
        self.key == other.key && self.effect == other.effect
    }
}

/// Writes `key=value:effect`, as kubectl does.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}:{}", self.key, self.effect),
            value => write!(f, "{}={value}:{}", self.key, self.effect),
        }
    }
}

/// Returns the taints of a node that has `before`, with `wanted` set and the rest of `ours` removed.
pub(super) fn changed(before: &[Taint], ours: &[Taint], wanted: &[Taint]) -> Vec<Taint> {
    let is_in = |list: &[Taint], taint: &Taint| list.iter().any(|t| t.is_same(taint));
    let kept = before.iter().filter(|t| is_in(wanted, t) || !is_in(ours, t));
    let kept = kept.map(|t| wanted.iter().find(|w| w.is_same(t)).unwrap_or(t).clone());
    let new = wanted.iter().filter(|w| !is_in(before, w)).cloned();
    kept.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taints(text: &str) -> Vec<Taint> {
        let parse = |one: &str| {
            let (key, effect) = one.split_once(':').unwrap();
            let (key, value) = key.split_once('=').unwrap_or((key, ""));
            Taint { key: key.to_owned(), effect: effect.to_owned(), value: value.to_owned() }
        };
        text.split_whitespace().map(parse).collect()
    }

    #[test]
    fn only_our_taints_change() {
        let cases = [
            ("not-ready:NoExecute", "", "gpu=yes:NoSchedule", "not-ready:NoExecute gpu=yes:NoSchedule"),
            ("gpu=no:NoSchedule", "", "gpu=yes:NoSchedule", "gpu=yes:NoSchedule"),
            ("a:NoSchedule gpu=yes:NoSchedule", "gpu=yes:NoSchedule", "", "a:NoSchedule"),
            ("a:NoSchedule", "gpu=yes:NoSchedule", "", "a:NoSchedule"),
            ("gpu:NoSchedule", "gpu:NoSchedule", "gpu:NoExecute", "gpu:NoExecute"),
            ("a=1:NoSchedule", "a=1:NoSchedule", "a=1:NoSchedule", "a=1:NoSchedule"),
        ];
        for (before, ours, wanted, after) in cases {
            let changed = changed(&taints(before), &taints(ours), &taints(wanted));
            assert_eq!(changed, taints(after), "{before} + {wanted}");
        }
    }
}
